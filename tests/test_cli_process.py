"""The command as a process: pipes, terminals and signals."""

import json
import os
import re
import select
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, Terminal, ended, until

from marketplace_async.sandbox import Catalog, Sandbox, add_on

SAMPLE = "XB" + 32 * "a"
LARGE = "XB" + 32 * "1"
PAGES, PAGE_SIZE = 60, 100
LIST_LARGE = ("extensions", "list", LARGE, "--page-size", str(PAGE_SIZE))
CATALOG = ("catalog", "--search", "add-on 1")

CLOSED_PIPE = 141  # what a shell says of a process that SIGPIPE ended
ESCAPE = "\x1b["


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    small = [add_on(friendly_name=f"Add-on {n}", extensions=2) for n in range(20)]
    return Catalog([*small, add_on(LARGE, extensions=PAGES * PAGE_SIZE)])


@pytest.fixture
async def sandbox(catalog: Catalog) -> AsyncIterator[Sandbox]:
    async with Sandbox(catalog) as sandbox:
        yield sandbox


@pytest.fixture
def command(sandbox: Sandbox, tmp_path: Path) -> CommandLine:
    return CommandLine(sandbox, tmp_path)


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self._is_read = True

    def has_something(self) -> bool:
        return bool(select.select((self.reading,), (), (), 0)[0])

    def is_full(self) -> bool:
        return not select.select((), (self.writing,), (), 0)[1]

    def stop_reading(self) -> None:
        if self._is_read:
            os.close(self.reading)
            self._is_read = False


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.stop_reading()
    os.close(pipe.writing)


@pytest.mark.parametrize("output", ["jsonl", "csv"])
async def test_results_stream_at_the_pace_of_the_reader(
    command: CommandLine, pipe: Pipe, output: str
) -> None:
    async with command.started(*LIST_LARGE, "-o", output, stdout=pipe.writing) as process:
        # Nobody reads: it waits, and asks for nothing more than what fits.
        await until(pipe.is_full)
        assert len(command.sandbox.requests) < PAGES // 2
        assert process.returncode is None


@pytest.mark.parametrize("output", ["jsonl", "table"])
async def test_a_reader_that_goes_away_ends_it_quietly(
    command: CommandLine, pipe: Pipe, output: str
) -> None:
    async with command.started(*LIST_LARGE, "-o", output, stdout=pipe.writing) as process:
        await until(pipe.has_something)
        pipe.stop_reading()
        gone = await ended(process)
        assert (gone.code, gone.err) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_while_waiting_for_an_answer_is_obeyed_cleanly(
    command: CommandLine, end: signal.Signals
) -> None:
    command.sandbox.delay_next(600)
    async with command.started("add-ons", "list") as process:
        await until(lambda: command.sandbox.requests)
        process.send_signal(end)
        stopped = await ended(process)
        # Ended by the signal, as a shell wants it, that makes 130 of SIGINT.
        assert (stopped.code, stopped.out, stopped.err) == (-end, "", "")


async def test_a_signal_while_nobody_reads_is_obeyed_cleanly(
    command: CommandLine, pipe: Pipe
) -> None:
    async with command.started(*LIST_LARGE, stdout=pipe.writing) as process:
        await until(pipe.is_full)
        process.send_signal(signal.SIGINT)
        stopped = await ended(process)
        assert (stopped.code, stopped.err) == (-signal.SIGINT, "")


async def test_the_sandbox_serves_those_who_follow_its_words_until_ctrl_c(
    command: CommandLine,
) -> None:
    async with command.started("sandbox", "--port", "0") as server:
        assert server.stdout is not None
        words = "".join([(await server.stdout.readline()).decode() for _ in range(4)])
        exported = dict(re.findall(r"^export (\w+)=(\S+)$", words, re.MULTILINE))
        [url] = re.findall(r"^marketplace-async --base-url (\S+) catalog$", words, re.MULTILINE)
        asked = await command.run(
            "--base-url", url, "add-ons", "list", "--limit", "1", environment=exported
        )
        assert (asked.code, asked.err) == (0, "")
        assert json.loads(asked.out)["sid"] == SAMPLE
        server.send_signal(signal.SIGINT)
        stopped = await ended(server)
        assert (stopped.code, stopped.err) == (-signal.SIGINT, "")


async def test_a_port_in_use_is_one_line(command: CommandLine) -> None:
    port = command.sandbox.url.rpartition(":")[2]
    failed = await command.run("sandbox", "--port", port)
    assert (failed.code, failed.out) == (1, "")
    assert "address already in use" in failed.err
    assert failed.err.count("\n") == 1


async def test_a_terminal_gets_a_table_in_colour(command: CommandLine) -> None:
    async with (
        Terminal.open() as terminal,
        command.started("add-ons", "list", stdout=terminal.fd) as process,
    ):
        shown = await ended(process)
        assert (shown.code, shown.err) == (0, "")
        assert "NAME" in terminal.shown
        assert ESCAPE in terminal.shown


@pytest.mark.parametrize(
    "environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=lambda names: str(*names)
)
async def test_who_wants_no_colour_gets_no_escape_sequence(
    command: CommandLine, environment: dict[str, str]
) -> None:
    async with (
        Terminal.open() as terminal,
        command.started("add-ons", "list", stdout=terminal.fd, environment=environment) as process,
    ):
        await ended(process)
        assert "NAME" in terminal.shown
        assert ESCAPE not in terminal.shown


async def test_a_pipe_gets_no_colour_even_in_a_table(command: CommandLine) -> None:
    shown = await command.run("add-ons", "list", "-o", "table", environment={"FORCE_COLOR": "1"})
    assert "NAME" in shown.out
    assert ESCAPE not in shown.out


@pytest.mark.parametrize("columns", [60, 200])
async def test_a_table_fits_the_terminal_and_keeps_sids_whole(
    command: CommandLine, columns: int
) -> None:
    async with (
        Terminal.open(columns) as terminal,
        command.started(*CATALOG, stdout=terminal.fd, environment={"NO_COLOR": "1"}) as process,
    ):
        await ended(process)
        lines = terminal.shown.splitlines()
        assert max(map(len, lines)) <= columns
        assert len(re.findall(r"\bXB[0-9a-f]{32}\b", terminal.shown)) == 11
        assert ("PRODUCT" in lines[0]) is (columns == 200)


async def test_progress_is_shown_on_a_terminal_that_is_whole_afterwards(
    command: CommandLine,
) -> None:
    async with (
        Terminal.open() as terminal,
        command.started(*CATALOG, stdout=terminal.fd, stderr=terminal.fd) as process,
    ):
        await ended(process)
        assert "21/21" in terminal.shown
        assert f"{PAGES * PAGE_SIZE + 40} extensions" in terminal.shown
        assert terminal.shown.rindex("21/21") < terminal.shown.index("EXTENSION")
        assert cursor_is_visible(terminal)


async def test_progress_is_shown_while_results_go_to_a_file(
    command: CommandLine, tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    with results.open("wb") as file:
        async with (
            Terminal.open() as terminal,
            command.started("catalog", stdout=file.fileno(), stderr=terminal.fd) as process,
        ):
            await ended(process)
            assert "21/21" in terminal.shown
    assert len(results.read_text().splitlines()) == PAGES * PAGE_SIZE + 40


async def test_progress_is_not_shown_in_a_pipe(command: CommandLine) -> None:
    async with (
        Terminal.open() as terminal,
        command.started("catalog", stderr=terminal.fd) as process,
    ):
        assert (await ended(process)).code == 0
        assert terminal.shown == ""


async def test_what_fails_is_shown_above_the_progress(command: CommandLine) -> None:
    command.sandbox.fail_next(404, path=LARGE)
    async with (
        Terminal.open(200) as terminal,
        command.started("catalog", stdout=DEVNULL, stderr=terminal.fd) as process,
    ):
        assert (await ended(process)).code == 7
        assert f"marketplace-async: {LARGE}: HTTP 404" in terminal.shown
        assert "21/21" in terminal.shown


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_progress_that_is_interrupted_leaves_the_terminal_whole(
    command: CommandLine, end: signal.Signals
) -> None:
    command.sandbox.delay_next(600, path=LARGE)
    async with (
        Terminal.open() as terminal,
        command.started("catalog", stdout=terminal.fd, stderr=terminal.fd) as process,
    ):
        await until(lambda: "20/21" in terminal.shown)
        assert not cursor_is_visible(terminal)
        process.send_signal(end)
        assert (await ended(process)).code == -end
        assert "Traceback" not in terminal.shown
        assert cursor_is_visible(terminal)


def cursor_is_visible(terminal: Terminal) -> bool:
    return terminal.shown.rfind("\x1b[?25h") >= terminal.shown.rfind("\x1b[?25l")
