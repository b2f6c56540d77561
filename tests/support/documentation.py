"""A pytest plugin that runs the code blocks of the README and of the pages under ``docs``.

=============  ======================================================================
``python``     is executed; ``await`` works at the top level; the blocks of a page
               share one namespace, one event loop and one empty directory;
               with a caption it is the file of that name, for a command to run
``ini``        is the file that its caption names
``output``     must be what the ``python`` block before it printed
``console``    each ``$ command`` must succeed and print what follows, if anything does
=============  ======================================================================

In expected output ``...`` matches anything. `open_session` uses a sandbox and finds credentials
in the environment. ``<!-- skip: next "the reason" -->`` precedes a block that cannot run.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.parsers.myst import CodeBlockParser, SkipParser
from yarl import URL

from marketplace_async import session
from marketplace_async.sandbox import Sandbox
from marketplace_async.settings import origin
from marketplace_async.testing import sandbox_beside

ROOT: Final = Path(__file__).parents[2]
COMMAND_AND_OUTPUT: Final = re.compile(r"\A((?:.*\\\n)*.*)\n?((?s:.*))")
COMMAND_SECONDS: Final = 60
OTHER_NAMES: Final = ("py", "python3", "pycon", "bash", "sh", "shell", "shell-session")


@pytest.fixture(scope="session")
def documented_sandbox() -> Iterator[Sandbox]:
    with sandbox_beside() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def documentation_page(
    documented_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[asyncio.Runner]:
    """The event loop of a page; its examples work without changes in these surroundings."""

    def redirected(*args: Any, **kwargs: Any) -> URL:
        url = origin(*args, **kwargs)
        return URL(documented_sandbox.url) if url.host and url.host.endswith("twilio.com") else url

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(debug=True) as runner:
        patch.setattr(session, "origin", redirected)
        patch.setenv("TWILIO_API_KEY", documented_sandbox.credentials.username)
        patch.setenv("TWILIO_API_SECRET", documented_sandbox.credentials.password)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.chdir(tmp_path_factory.mktemp("page"))
        yield runner


def write_file(example: Example) -> None:
    Path(example.region.lexemes["options"]["caption"]).write_text(example.parsed)


def run_python(example: Example) -> None:
    if "caption" in example.region.lexemes.get("options", {}):
        write_file(example)
        return
    # The empty lines give tracebacks the line numbers of the page.
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    example.namespace.setdefault("__name__", "__main__")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = eval(code, example.namespace)  # noqa: S307  # our own documentation
        if inspect.iscoroutine(result):
            example.namespace["documentation_page"].run(result)
    example.namespace["printed_before"] = printed.getvalue()


def compare_output(example: Example) -> str | None:
    return difference(example.parsed, example.namespace["printed_before"])


def run_console(example: Example) -> str | None:
    before, *steps = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)
    if before.strip() or not steps:
        return "a console block consists of lines that begin with '$ ', and their output"
    for step in steps:
        command, expected = COMMAND_AND_OUTPUT.findall(step)[0]
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if ended.returncode:
            return f"{command!r} ended with {ended.returncode}:\n{ended.stdout}"
        if expected.strip() and (problem := difference(expected, ended.stdout)):
            return problem
    return None


def difference(expected: str, got: str) -> str | None:
    """Describe how the output differs; return None if it is as expected."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    checker = doctest.OutputChecker()
    if checker.check_output(expected, got, flags):
        return None
    return checker.output_difference(doctest.Example("", expected), got, flags)


def reject(example: Example) -> str:
    return f"{example.region.lexemes['arguments']} is not run: write python, output or console"


class ReasonedSkipParser(SkipParser):
    """Skips a block only if the page has the reason."""

    def __call__(self, document: Document) -> Iterable[Region]:
        for region in super().__call__(document):
            action, reason = region.parsed
            if action != "end" and reason is None:
                raise ValueError(f"{document.path}: {action} needs a reason for the skip")
            yield region


pytest_collect_file = Sybil(
    parsers=[
        ReasonedSkipParser(),
        CodeBlockParser("python", run_python),
        CodeBlockParser("ini", write_file),
        CodeBlockParser("output", compare_output),
        CodeBlockParser("console", run_console),
        *(CodeBlockParser(language, reject) for language in OTHER_NAMES),
    ],
    path=str(ROOT),
    pattern="*.md",
    fixtures=["documentation_page"],
).pytest()
