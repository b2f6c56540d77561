"""The command line as a process: pipes, terminals and signals."""

import json
import os
import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import pytest
from command_line import CommandLine, Result, Terminal, command_line, shell, until

from marketplace_async.sandbox import Catalog, add_on

ADD_ON = "XB" + 32 * "a"
LARGE = "XB" + 32 * "1"
PAGES, PAGE_SIZE = 60, 100
EXTENSIONS = PAGES * PAGE_SIZE + 40
LIST_LARGE = ("extensions", "list", LARGE, "--page-size", str(PAGE_SIZE))
CATALOG = ("catalog", "--search", "add-on 1")
ESCAPE = "\x1b["
SMALL = (add_on(friendly_name=f"Add-on {n}", extensions=2) for n in range(20))
SERVED = Catalog([*SMALL, add_on(LARGE, extensions=PAGES * PAGE_SIZE)])


@pytest.fixture
def command() -> Iterator[CommandLine]:
    with command_line(SERVED) as command:
        yield command


@pytest.fixture
def unread_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    yield writing
    os.close(reading)
    os.close(writing)


def ended(process: Popen[str]) -> Result:
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out or "", err or "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_paused_reader(command: CommandLine, unread_pipe: int, number: signal.Signals) -> None:
    """If nobody reads, no more pages are requested, and a signal still ends the process."""
    with command.started(*LIST_LARGE, stdout=unread_pipe) as process:
        until(lambda: process.poll() or not select.select((), (unread_pipe,), (), 0)[1])
        assert len(command.sandbox.requests) < PAGES // 2
        assert process.poll() is None
        process.send_signal(number)
        assert ended(process) == Result(-number, "", "")


def test_sandbox(command: CommandLine) -> None:
    """The sandbox prints how to use it, and serves until Ctrl-C."""
    with command.started("sandbox", "--port", "0") as server:
        assert server.stdout is not None
        text = "".join(server.stdout.readline() for _ in range(4))
        exported = dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
        [url] = re.findall(r"^marketplace-async --base-url (\S+) catalog$", text, re.MULTILINE)
        response = shell(f"$CLI add-ons list --base-url {url} --limit 1", **exported)
        assert (response.code, response.err) == (0, "")
        assert json.loads(response.out)["sid"] == ADD_ON
        server.send_signal(signal.SIGINT)
        assert ended(server) == Result(-signal.SIGINT, "", "")


def test_port_in_use(command: CommandLine) -> None:
    """If the port is in use, the exit code is 1."""
    failed = command("sandbox", "--port", command.sandbox.url.rpartition(":")[2])
    assert (failed.code, failed.out, failed.is_one_line) == (1, "", True)
    assert "address already in use" in failed.err


@pytest.mark.parametrize(
    ("environment", "is_colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_color(command: CommandLine, environment: dict[str, str], *, is_colored: bool) -> None:
    """A terminal shows a table, in colours unless the environment forbids them."""
    with (
        Terminal() as terminal,
        command.started("add-ons", "list", stdout=terminal.fd, environment=environment) as process,
    ):
        assert terminal.exit_code(process) == 0
        assert "NAME" in terminal.shown
        assert (ESCAPE in terminal.shown) is is_colored


def test_color_in_pipe() -> None:
    """A table in a pipe has no colours."""
    shown = shell("FORCE_COLOR=1 $CLI --sandbox add-ons list -o table")
    assert "NAME" in shown.out
    assert ESCAPE not in shown.out


@pytest.mark.parametrize("columns", [60, 200])
def test_table_width(command: CommandLine, columns: int) -> None:
    """A table fits the terminal, without the product if it is narrow, and with whole SIDs."""
    with (
        Terminal(columns) as terminal,
        command.started(*CATALOG, stdout=terminal.fd, environment={"NO_COLOR": "1"}) as process,
    ):
        assert terminal.exit_code(process) == 0
        lines = terminal.shown.splitlines()
        assert max(map(len, lines)) <= columns
        assert len(re.findall(r"\bXB[0-9a-f]{32}\b", terminal.shown)) == 11
        assert ("PRODUCT" in lines[0]) is (columns == 200)
        assert len(lines) == 1 + 11 + 22  # no row is wrapped


@pytest.mark.parametrize(
    ("stdout", "output", "is_shown"),
    [
        ("terminal", "table", True),
        ("file", "jsonl", True),
        ("terminal", "jsonl", False),
        ("pipe", "table", False),
    ],
)
def test_progress(
    command: CommandLine, tmp_path: Path, stdout: str, output: str, *, is_shown: bool
) -> None:
    """The progress is shown unless records or another program may write to the terminal."""
    with (tmp_path / "results").open("wb") as file, Terminal() as terminal:
        stream = {"terminal": terminal.fd, "file": file.fileno(), "pipe": PIPE}[stdout]
        args = (*CATALOG, "-o", output)
        with command.started(*args, stdout=stream, stderr=terminal.fd) as process:
            assert terminal.exit_code(process) == 0
            assert ("21/21" in terminal.shown) is is_shown
            assert (f"{EXTENSIONS} extensions" in terminal.shown) is is_shown
            assert terminal.has_cursor


def test_error_above_progress(command: CommandLine) -> None:
    """An error is shown above the progress."""
    command.sandbox.fail_next(404, path=LARGE)
    with (
        Terminal(200) as terminal,
        command.started("catalog", stdout=DEVNULL, stderr=terminal.fd) as process,
    ):
        assert terminal.exit_code(process) == 7
        assert f"marketplace-async: {LARGE}: " in terminal.shown
        assert "21/21" in terminal.shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_and_progress(command: CommandLine, number: signal.Signals) -> None:
    """A signal ends the progress and restores the cursor."""
    command.sandbox.delay_next(600, path=LARGE)
    with (
        Terminal() as terminal,
        command.started("catalog", stdout=terminal.fd, stderr=terminal.fd) as process,
    ):
        until(lambda: "20/21" in terminal.shown)
        assert not terminal.has_cursor
        process.send_signal(number)
        assert terminal.exit_code(process) == -number
        assert "Traceback" not in terminal.shown
        assert terminal.has_cursor
