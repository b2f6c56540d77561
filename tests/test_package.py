"""The package: its public names, its modules, and the cost of an import."""

import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import marketplace_async

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(marketplace_async.__path__, "marketplace_async.")
    if not module.name.endswith(".__main__")
)


@pytest.mark.parametrize("name", ["marketplace_async", *MODULES])
def test_exports(name: str) -> None:
    """A module exports its public classes and functions, each once, and nothing else."""
    module = importlib.import_module(name)
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert defined <= set(module.__all__) <= set(dir(module))
    assert len(module.__all__) == len(set(module.__all__))


def test_public_names() -> None:
    """The package exports everything that it imports, and every error."""
    public = {
        name
        for name, value in vars(marketplace_async).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert set(marketplace_async.__all__) == public | {"__version__"}
    errors = vars(importlib.import_module("marketplace_async.errors"))
    assert {name for name in errors if name.endswith("Error")} <= public


def test_signatures() -> None:
    """A class of the package in a public signature is exported."""
    defined = {
        value.__name__
        for name in MODULES
        for value in vars(importlib.import_module(name)).values()
        if inspect.isclass(value) and value.__module__ in MODULES and value.__name__[0] != "_"
    } - {"Transport"}  # what MarketplaceSession.transport returns to handles
    exported = [getattr(marketplace_async, name) for name in marketplace_async.__all__]
    functions: list[Any] = [value for value in exported if inspect.isfunction(value)]
    for class_ in filter(inspect.isclass, exported):
        for name, member in inspect.getmembers(class_):
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.isfunction(function):
                functions.append(function)
    assert len(functions) > 30
    for function in functions:
        words = set(re.findall(r"[A-Za-z]+", str(inspect.signature(function))))
        assert words & defined <= set(marketplace_async.__all__), function.__qualname__


def test_metadata() -> None:
    """The version is the installed one, and the package is marked as typed."""
    assert marketplace_async.__version__ == importlib.metadata.version("marketplace-async")
    assert Path(str(marketplace_async.__file__)).with_name("py.typed").exists()


def test_import() -> None:
    """Importing the package is silent and loads the client only."""
    code = "import json, sys, marketplace_async; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    loaded = set(json.loads(ended.stdout))
    assert "marketplace_async.session" in loaded
    assert not loaded & {f"marketplace_async.{name}" for name in ("cli", "sandbox", "testing")}
    assert not loaded & {"click", "rich", "pytest", "_pytest", "sybil"}
