import asyncio
import csv
import fcntl
import io
import json
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import COMMAND, CommandLine, Ended, ended, sandbox_beside, until

from marketplace_async.sandbox import Catalog, Sandbox, add_on, extension

CATALOG = Catalog(
    [
        add_on(
            friendly_name="Zebra Captions",
            description="Writes along.",
            extensions=[
                extension(
                    friendly_name="Incoming Voice Call",
                    product_name="Programmable Voice",
                    unique_name="voice-incoming",
                ),
                extension(
                    friendly_name="Room Recording",
                    product_name="Video",
                    unique_name="video-recording",
                ),
            ],
        ),
        add_on(friendly_name="Nothing Yet", extensions=0),
        add_on(
            friendly_name="apple translation",
            description="Speaks ZÜRITÜÜTSCH.",
            extensions=[
                extension(friendly_name=None, product_name=None, unique_name="messaging-incoming")
            ],
        ),
        *(add_on(friendly_name=f"Other {n}", extensions=3) for n in range(5)),
    ]
)
ZEBRA, NOTHING, APPLE, *_, LAST = CATALOG


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_beside(CATALOG) as sandbox:
        yield sandbox


@pytest.fixture
def command(sandbox: Sandbox, tmp_path: Path) -> CommandLine:
    return CommandLine(sandbox, tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved.jsonl"


def printed(ended: Ended) -> set[str]:
    """The SIDs of the extensions in the output."""
    sids = [json.loads(line)["sid"] for line in ended.out.splitlines()]
    assert len(sids) == len(set(sids))
    return set(sids)


def extensions_of(*add_ons: str) -> set[str]:
    return {item.sid for sid in add_ons for item in CATALOG[sid].extensions}


def listed(sandbox: Sandbox) -> set[str]:
    """The SIDs of the add-ons whose extensions were requested."""
    return {
        request.path.split("/")[3]
        for request in sandbox.requests
        if request.path.endswith("/Extensions")
    }


def test_every_extension_of_every_add_on_is_printed_once(command: CommandLine) -> None:
    ended = command("catalog")
    assert (ended.code, ended.err) == (0, "")
    assert printed(ended) == extensions_of(*CATALOG)


def test_each_record_names_its_add_on(command: CommandLine) -> None:
    ended = command("catalog", "--search", "zebra", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert {row["available_add_on_sid"] for row in rows} == {ZEBRA}
    assert {row["available_add_on_friendly_name"] for row in rows} == {"Zebra Captions"}


@pytest.mark.parametrize(
    ("filters", "unique_names"),
    [
        (["--product", "video"], {"video-recording"}),
        (["--product", "programmable VOICE", "--search", "zebra"], {"voice-incoming"}),
        (["--search", "room rec"], {"video-recording"}),
        (["--search", "writes along"], {"voice-incoming", "video-recording"}),
        (["--search", "züritüütsch"], {"messaging-incoming"}),
        (["--search", "messaging-inc", "--product", "video"], set[str]()),
    ],
    ids=" ".join,
)
def test_filters_take_any_part_of_a_name_in_any_case(
    command: CommandLine, filters: list[str], unique_names: set[str]
) -> None:
    ended = command("catalog", *filters)
    records = map(json.loads, ended.out.splitlines())
    found = {
        record["unique_name"]
        for record in records
        if record["available_add_on_sid"] in (ZEBRA, APPLE)
    }
    assert (ended.code, found) == (0, unique_names)


def test_a_table_is_sorted_by_add_on(command: CommandLine) -> None:
    ended = command("catalog", "-o", "table")
    names = [line for line in ended.out.splitlines() if not line.startswith("  ")]
    assert [name[:5] for name in names] == ["ADD-O", "apple", *["Other"] * 5, "Zebra"]


def test_what_fails_is_reported_and_the_rest_is_printed(command: CommandLine) -> None:
    command.sandbox.fail_next(404, path=APPLE)
    ended = command("catalog", "-o", "json")
    assert ended.code == 7
    sids = {record["sid"] for record in json.loads(ended.out)}
    assert sids == extensions_of(*CATALOG) - extensions_of(APPLE)
    failure, summary = ended.err.splitlines()
    assert failure.startswith(f"marketplace-async: {APPLE}: HTTP 404")
    assert summary == "marketplace-async: 1 of 8 add-ons could not be listed"


def test_a_listing_that_fails_has_the_exit_code_of_its_error(command: CommandLine) -> None:
    command.sandbox.fail_next(401)
    ended = command("catalog")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.count("\n") == 1


def test_the_same_command_again_requests_only_what_failed(
    command: CommandLine, saved: Path
) -> None:
    command.sandbox.fail_next(404, path=APPLE)
    incomplete = command("catalog", "--resume", str(saved))
    assert incomplete.code == 7
    assert "the same command again requests only them" in incomplete.err
    command.sandbox.clear()

    complete = command("catalog", "--resume", str(saved))

    assert (complete.code, complete.err) == (0, "")
    assert printed(complete) == extensions_of(*CATALOG)
    assert listed(command.sandbox) == {APPLE}


async def test_an_interrupted_run_is_continued_where_it_was(
    command: CommandLine, saved: Path
) -> None:
    command.sandbox.delay_next(600, path=LAST)
    async with command.started("catalog", "--resume", str(saved)) as process:
        await until(lambda: saved.exists() and saved.read_bytes().count(b"\n") == len(CATALOG) - 1)
        process.send_signal(signal.SIGINT)
        interrupted = await ended(process)
    assert (interrupted.code, interrupted.err) == (-signal.SIGINT, "")
    command.sandbox.clear()

    continued = await command.run("catalog", "--resume", str(saved))

    assert continued.code == 0
    assert printed(continued) == extensions_of(*CATALOG)
    assert listed(command.sandbox) == {LAST}


def test_a_finished_run_is_printed_again_from_the_file(command: CommandLine, saved: Path) -> None:
    command("catalog", "--resume", str(saved))
    command.sandbox.clear()
    again = command("catalog", "--resume", str(saved), "--search", "apple")
    assert printed(again) == extensions_of(APPLE)
    assert listed(command.sandbox) == set()


def test_filters_do_not_change_what_is_saved(command: CommandLine, saved: Path) -> None:
    command("catalog", "--resume", str(saved), "--search", "no such thing")
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    assert {line["sid"] for line in lines} == set(CATALOG)


def test_a_sandbox_serves_what_was_saved(command: CommandLine, saved: Path) -> None:
    command("catalog", "--resume", str(saved))
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    served = Catalog.from_json({"available_add_ons": lines})
    assert {sid: entry.extensions for sid, entry in served.items()} == {
        sid: entry.extensions for sid, entry in CATALOG.items()
    }


@pytest.mark.parametrize("left", [3, 12, 200])
def test_a_line_that_was_cut_off_is_requested_again(
    command: CommandLine, saved: Path, left: int
) -> None:
    command("catalog", "--resume", str(saved))
    *lines, last = saved.read_bytes().splitlines(keepends=True)
    saved.write_bytes(b"".join(lines) + last[:left])
    command.sandbox.clear()

    ended = command("catalog", "--resume", str(saved))

    assert printed(ended) == extensions_of(*CATALOG)
    assert listed(command.sandbox) == {json.loads(last)["sid"]}
    assert len(saved.read_bytes().splitlines()) == len(CATALOG)


@pytest.mark.parametrize(
    "content", ["a shopping list", '{"sid": "XF1"}\n', "[]\n", '{"sid":"XB1"}\n'], ids=repr
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    command: CommandLine, saved: Path, content: str
) -> None:
    saved.write_text(content)
    ended = command("catalog", "--resume", str(saved))
    assert (ended.code, ended.out) == (2, "")
    assert f"{saved}, line 1," in ended.err
    assert saved.read_text() == content
    assert command.sandbox.requests == []


def test_a_file_that_cannot_be_written_is_one_line(command: CommandLine, tmp_path: Path) -> None:
    ended = command("catalog", "--resume", str(tmp_path / "missing" / "saved.jsonl"))
    assert (ended.code, ended.out) == (1, "")
    assert "No such file or directory" in ended.err
    assert ended.err.count("\n") == 1


def test_what_is_no_regular_file_is_refused(command: CommandLine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading from it would hang: nobody writes
    for name in "pipe", ".":
        ended = command("catalog", "--resume", str(tmp_path / name))
        assert (ended.code, ended.out) == (2, "")
        assert "not a regular file" in ended.err or "is a directory" in ended.err
    assert command.sandbox.requests == []


def test_a_file_that_another_run_has_is_refused(command: CommandLine, saved: Path) -> None:
    with saved.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = command("catalog", "--resume", str(saved))
    assert (ended.code, ended.out) == (2, "")
    assert f"{saved} is in use" in ended.err
    assert command("catalog", "--resume", str(saved)).code == 0


async def test_the_file_that_the_output_goes_to_is_refused(
    command: CommandLine, saved: Path
) -> None:
    with saved.open("w+b") as output:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--sandbox", "catalog", "--resume", str(saved), stdout=output, stderr=PIPE
        )
        _, complaint = await process.communicate()
        assert output.read() == b""
    assert process.returncode == 2
    assert b"is in use" in complaint


def test_an_add_on_that_is_saved_twice_is_printed_once(command: CommandLine, saved: Path) -> None:
    command("catalog", "--resume", str(saved))
    saved.write_bytes(saved.read_bytes() * 2)
    assert printed(command("catalog", "--resume", str(saved))) == extensions_of(*CATALOG)
