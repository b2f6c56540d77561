"""The package as a whole: what it offers, and what importing it costs."""

import ast
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import marketplace_async

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(marketplace_async.__path__, "marketplace_async.")
    if not module.name.endswith(".__main__")
)


@pytest.fixture(params=["marketplace_async", *MODULES])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Each module of the package."""
    return importlib.import_module(request.param)


def test_a_module_offers_what_it_has(module: ModuleType) -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(module.__all__) == len(set(module.__all__))


def test_a_module_offers_every_public_class_and_function_that_it_defines(
    module: ModuleType,
) -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }

    assert defined - set(module.__all__) == set()


def test_a_module_takes_from_another_what_that_one_offers(module: ModuleType) -> None:
    source = Path(str(module.__file__)).read_text("utf-8")
    taken = {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and node.module in MODULES
        and f"{node.module}.{node.names[0].name}" not in MODULES
        for alias in node.names
    }

    not_offered = {
        (name, taken_name)
        for name, taken_name in taken
        if taken_name not in importlib.import_module(name).__all__
    }

    assert not_offered == set()


def test_the_package_offers_all_that_it_imports() -> None:
    public = {
        name
        for name, value in vars(marketplace_async).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }

    assert set(marketplace_async.__all__) == public | {"__version__"}


def test_the_version_is_the_installed_one() -> None:
    assert marketplace_async.__version__ == importlib.metadata.version("marketplace-async")


def test_the_package_is_marked_as_typed() -> None:
    assert Path(str(marketplace_async.__file__)).with_name("py.typed").exists()


def test_importing_the_package_is_silent_and_loads_no_more_than_the_client() -> None:
    code = "import json, sys, marketplace_async; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    loaded = set(json.loads(ended.stdout))
    assert "marketplace_async.session" in loaded
    not_needed = {"cli", "sandbox", "testing"}
    assert loaded & {f"marketplace_async.{name}" for name in not_needed} == set()
    assert loaded & {"click", "rich", "pytest", "_pytest", "sybil"} == set()
