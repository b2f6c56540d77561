"""A pytest plugin that runs every code block of the README and of the pages under ``docs``.

=============  ======================================================================
``python``     is executed; ``await`` may stand at the top level; a page's blocks
               share one namespace, one event loop and one empty directory;
               with a caption it is the file of that name, for a command to run
``ini``        is the file that its caption names
``output``     must be what the ``python`` block before has printed
``console``    each ``$ command`` must succeed; where output follows, it must be that
=============  ======================================================================

In expected output ``...`` stands for anything. `open_session` talks to a sandbox and finds
credentials in the environment. A block that cannot run is preceded by
``<!-- skip: next "the reason" -->``.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
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

__all__: list[str] = []

ROOT: Final = Path(__file__).parents[2]
COMMAND_AND_OUTPUT: Final = re.compile(r"\A((?:.*\\\n)*.*)\n?((?s:.*))")
COMMAND_SECONDS: Final = 60

executed: Counter[str] = Counter()
"""How many blocks of each page were run."""


class Page:
    """What the blocks of one page share besides their namespace."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.printed = ""


@pytest.fixture(scope="session")
def documented_sandbox() -> Iterator[Sandbox]:
    """The sandbox that `open_session` finds in examples."""
    with sandbox_beside() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def documentation_page(
    documented_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The surroundings in which the examples of a page work as they stand."""

    def redirected(*args: Any, **kwargs: Any) -> URL:
        url = origin(*args, **kwargs)
        return URL(documented_sandbox.url) if url.host and url.host.endswith("twilio.com") else url

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(debug=True) as runner:
        patch.setattr(session, "origin", redirected)
        patch.setenv("TWILIO_API_KEY", documented_sandbox.credentials.username)
        patch.setenv("TWILIO_API_SECRET", documented_sandbox.credentials.password)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.chdir(tmp_path_factory.mktemp("page"))
        yield Page(runner)


def write_file(example: Example) -> None:
    Path(example.region.lexemes["options"]["caption"]).write_text(example.parsed)
    executed[example.path] += 1


def run_python(example: Example) -> None:
    if "caption" in example.region.lexemes.get("options", {}):
        write_file(example)
        return
    refuse_what_cannot_be_pasted(example.parsed)
    page: Page = example.namespace["documentation_page"]
    # The empty lines give tracebacks the line numbers of the page.
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    example.namespace.setdefault("__name__", "__main__")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = eval(code, example.namespace)  # noqa: S307  # our own documentation
        if inspect.iscoroutine(result):
            page.runner.run(result)
    page.printed = printed.getvalue()
    executed[example.path] += 1


def refuse_what_cannot_be_pasted(source: str) -> None:
    """Have an empty line behind each indented block: at a prompt, that is what ends it."""
    lines = source.splitlines()
    statements = ast.parse(source).body
    for statement, following in itertools.pairwise(statements):
        if hasattr(statement, "body") and statement.end_lineno is not None:
            behind = lines[statement.end_lineno]
            assert not behind.strip(), f"an empty line should stand before {ast.unparse(following)}"


def compare_output(example: Example) -> str | None:
    page: Page = example.namespace["documentation_page"]
    return difference(example.parsed, page.printed)


def run_console(example: Example) -> str | None:
    before, *steps = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)
    if before.strip() or not steps:
        return "a console block is made of lines that begin with '$ ', and their output"
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
    executed[example.path] += 1
    return None


def difference(expected: str, got: str) -> str | None:
    """Say how the output differs, ``None`` if it is as expected."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    checker = doctest.OutputChecker()
    if checker.check_output(expected, got, flags):
        return None
    return checker.output_difference(doctest.Example("", expected), got, flags)


def refuse(example: Example) -> str:
    language = example.region.lexemes["arguments"]
    return f"a block of {language} is not run: write python, output or console"


class ReasonedSkipParser(SkipParser):
    """Skips a block only where the page says why."""

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
        *(
            CodeBlockParser(language, refuse)
            for language in ("py", "python3", "pycon", "bash", "sh", "shell", "shell-session")
        ),
    ],
    path=str(ROOT),
    pattern="*.md",
    fixtures=["documentation_page"],
).pytest()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if executed:
        terminalreporter.write_line(
            f"documentation: {executed.total()} code blocks executed, pages: {len(executed)}"
        )
