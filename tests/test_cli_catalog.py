"""The catalog command: every Extension of every Add-on."""

import json
from collections.abc import Iterator

import pytest
from command_line import CommandLine, Result, command_line

from marketplace_async.sandbox import Catalog, add_on, extension

VOICE = extension(
    friendly_name="Voice Call", product_name="Programmable Voice", unique_name="voice-incoming"
)
VIDEO = extension(friendly_name="Room Recording", product_name="Video", unique_name="video-room")
SPARSE = extension(friendly_name=None, product_name=None, unique_name="message")
CATALOG = Catalog(
    [
        add_on(friendly_name="Zebra", description="Writes along.", extensions=[VOICE, VIDEO]),
        add_on(friendly_name="apple", description="Speaks ZÜRITÜÜTSCH.", extensions=[SPARSE]),
        add_on(extensions=0),
        *(add_on(friendly_name=f"Other {n}", extensions=3) for n in range(5)),
    ]
)
ZEBRA, APPLE, *OTHERS = CATALOG


@pytest.fixture
def command() -> Iterator[CommandLine]:
    with command_line(CATALOG) as command:
        yield command


def printed(ended: Result) -> list[str]:
    return sorted(json.loads(line)["sid"] for line in ended.out.splitlines())


def extensions_of(*add_ons: str) -> list[str]:
    return sorted(extension.sid for sid in add_ons for extension in CATALOG[sid].extensions)


def test_complete(command: CommandLine) -> None:
    """Every Extension of every Add-on is printed once, with the name of its Add-on."""
    ended = command("catalog")
    assert (ended.code, ended.err) == (0, "")
    assert printed(ended) == extensions_of(*CATALOG)
    assert ended.out.count('"available_add_on_friendly_name":"Zebra"') == 2


@pytest.mark.parametrize(
    ("filters", "sids"),
    [
        (["--product", "video"], [VIDEO.sid]),
        (["--product", "programmable VOICE", "--search", "zebra"], [VOICE.sid]),
        (["--search", "room rec"], [VIDEO.sid]),
        (["--search", "writes along"], [VOICE.sid, VIDEO.sid]),
        (["--search", "züritüütsch"], [SPARSE.sid]),
        (["--search", "message", "--product", "video"], list[str]()),
    ],
    ids=" ".join,
)
def test_filter(command: CommandLine, filters: list[str], sids: list[str]) -> None:
    """The filters match any part of a name, in upper or lower case."""
    ended = command("catalog", *filters)
    known = set(extensions_of(ZEBRA, APPLE))
    assert (ended.code, [sid for sid in printed(ended) if sid in known]) == (0, sorted(sids))


def test_failed_add_on(command: CommandLine) -> None:
    """If an Add-on fails, it is reported, the others are printed, and the exit code is 7."""
    command.sandbox.fail_next(404, path=APPLE)
    ended = command("catalog")
    assert (ended.code, printed(ended)) == (7, extensions_of(ZEBRA, *OTHERS))
    failure, summary = ended.err.splitlines()
    assert failure.startswith(f"marketplace-async: {APPLE}: ")
    assert "HTTP 404" in failure
    assert summary == "marketplace-async: 1 of 8 add-ons could not be listed"


def test_invalid_add_on(command: CommandLine) -> None:
    """If an Add-on has a wrong type, it is reported, the others are printed, the code is 7."""
    items = [{"sid": ZEBRA}, {"sid": APPLE, "friendly_name": 5}]
    page = {"available_add_ons": items, "meta": {"next_page_url": None}}
    command.sandbox.fail_next(200, body=json.dumps(page))
    ended = command("catalog")
    assert (ended.code, printed(ended)) == (7, extensions_of(ZEBRA))
    failure, summary = ended.err.splitlines()
    assert APPLE in failure
    assert summary == "marketplace-async: 1 of 2 add-ons could not be listed"


def test_failed_listing(command: CommandLine) -> None:
    """If the Add-ons cannot be listed, the exit code is that of the error."""
    command.sandbox.fail_next(401)
    ended = command("catalog")
    assert (ended.code, ended.out, ended.is_one_line) == (3, "", True)
