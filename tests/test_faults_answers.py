"""Responses over sockets that are not what was requested."""

import gzip
import itertools
import json
import logging
import os
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from wire import (
    ADD_ON,
    CLOSE,
    EXTENSION,
    RESET,
    STALL,
    Answer,
    Wire,
    answer,
    answers_in_turn,
    chunked,
    error,
    extension,
    failure,
    fetch,
    head,
    page,
    quick,
    recovered,
)

from marketplace_async import (
    ApiError,
    ConnectionFailedError,
    Extension,
    InvalidItemError,
    InvalidResponseError,
    MarketplaceError,
    NotFoundError,
    ResponseTooLargeError,
    RetryPolicy,
    Timeout,
)

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())


@cache
def zeros(wbits: int) -> bytes:
    """50 MB of zeros, compressed a thousandfold."""
    compress = zlib.compressobj(wbits=wbits)
    pieces = [compress.compress(bytes(1_000_000)) for _ in range(50)]
    return b"".join([*pieces, compress.flush()])


# Errors

BROKEN: list[Callable[[int], Answer]] = [
    lambda status: answer(b"", status),
    lambda status: answer(b"<title>Bad gateway</title>", status, Content_Type="x; charset=x"),
    lambda status: answer(b'{"params":' * 20_000 + b"{}" + b"}" * 20_000, status),
    lambda status: (head(status), itertools.repeat(b"x" * 9_999)),
    lambda status: answer(b"not gzip", status, Content_Encoding="gzip"),
    lambda status: answer(gzip.compress(b"{}")[:9], status, Content_Encoding="gzip"),
    lambda status: answer(zeros(31), status, Content_Encoding="gzip"),
    lambda status: answer(b"text", status, Content_Encoding="gzip, br"),
    lambda status: (head(status, Content_Length=99), b"half", CLOSE),
    lambda status: (head(status, Content_Length=99), b"half", RESET),
    lambda status: (head(status, Content_Length=99), b"half", STALL),
]


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_broken_error(status: int) -> None:
    """The status alone tells the error, for any body."""
    answers: list[Answer] = []
    settings: dict[str, Any] = {"retry": RetryPolicy.off(), "timeout": Timeout(attempt=0.3)}
    async with Wire(lambda _: answers[-1]) as wire, wire.session(**settings) as session:
        for broken in BROKEN:
            answers.append(broken(status))
            caught = await failure(session)
            assert isinstance(caught, ApiError)
            assert caught.status == status
            assert isinstance(caught, NotFoundError) is (status == 404)
            assert len(str(caught)) < 1_200
            assert str(caught).isprintable()
            answers.append(HEALTHY)
            assert await recovered(session)


STATUSES: list[tuple[int, dict[str, str]]] = [
    *((status, {}) for status in (101, 201, 204, 206, 304, 399, 418, 451, 600, 999)),
    *((302, {"Location": url}) for url in ("", "http://[", "\x1b[31m", "a" * 8000, "//x:9999999")),
]


@pytest.mark.parametrize(("status", "headers"), STATUSES)
async def test_other_status(status: int, headers: dict[str, str]) -> None:
    """Any other status is raised at once."""
    answers = answers_in_turn((head(status, **headers), CLOSE), then=HEALTHY)
    async with Wire(answers) as wire, wire.session() as session:
        caught = await failure(session)
        assert await fetch(session) == EXTENSION
    assert isinstance(caught, ApiError | InvalidResponseError)
    assert f"HTTP {status}" in str(caught)
    assert (caught.attempts, str(caught).isprintable(), len(str(caught)) < 700) == (1, True, True)


async def test_redirect() -> None:
    """Redirects are not followed."""
    async with Wire(answers_in_turn()) as another:
        redirect = head(307, Location=f"{another.url}/v1", Content_Length=0)
        async with Wire(answers_in_turn(redirect)) as wire, wire.session() as session:
            assert f"the server redirects to {another.url}/v1" in str(await failure(session))
        assert not another.connections


async def test_early_hints() -> None:
    """Informational responses before the response are skipped."""
    answers = answers_in_turn(head(100) + head(103, Link="a") + HEALTHY)
    async with Wire(answers) as wire, wire.session() as session:
        assert await fetch(session) == EXTENSION


# Bodies


@pytest.mark.parametrize(
    ("body", "problem", "attempts"),
    [
        pytest.param(b"", "the body is empty", 3, id="empty"),
        pytest.param(json.dumps(extension()).encode()[:-9], "ends early", 3, id="cut short"),
        pytest.param(extension(1), "the response is about XF0", 3, id="another Extension"),
        pytest.param(b"<title>Sorry</title>", "not valid JSON, invalid", 1, id="HTML"),
        pytest.param(b'{"sid": "\\ud800"}', "not valid JSON, malformed", 1, id="surrogate"),
        pytest.param({}, "$.sid: missing", 1, id="no SID"),
        pytest.param(extension(url=7), "$.url: expected a string", 1, id="wrong type"),
    ],
)
async def test_invalid_body(body: object, problem: str, attempts: int) -> None:
    """Only a body that is cut short or about another resource is requested again."""
    answers = [answer(body)]
    async with Wire(lambda _: answers[-1]) as wire, wire.session(retry=quick(3)) as session:
        caught = await failure(session)
        answers.append(HEALTHY)
        assert await fetch(session) == EXTENSION
    assert isinstance(caught, InvalidResponseError)
    assert problem in str(caught)
    assert caught.attempts == attempts


async def test_invalid_item() -> None:
    """A listing raises at an invalid item and returns the others, or skips it."""
    body = page()
    body["extensions"] = [extension(1), extension(sid=None), extension(2)]
    async with Wire(lambda _: answer(body)) as wire, wire.session() as session:
        extensions = session.available_add_ons(ADD_ON).extensions
        with pytest.raises(InvalidItemError) as caught:
            await extensions.list()
        valid = await extensions.list(skip_invalid=True)
    assert "$.extensions[1].sid: expected a string, got null" in str(caught.value)
    assert (caught.value.attempts, caught.value.next_page_url) == (1, None)
    assert list(caught.value.items) == valid
    assert [item.sid[-1] for item in valid] == ["1", "2"]


async def test_sparse_page() -> None:
    """A page needs SIDs and a meta only."""
    body: dict[str, Any] = {"extensions": [{"sid": EXTENSION}], "meta": {}}
    async with Wire(lambda _: answer(body)) as wire, wire.session() as session:
        items = await session.available_add_ons(ADD_ON).extensions.list()
    assert items == [Extension(EXTENSION, ADD_ON)]


# Encodings and sizes

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Identity": bytes,
}


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x", "\x1b[31m"])
async def test_other_encoding(encoding: str) -> None:
    """A body in any other encoding is an error."""
    encoded = answer(b"encoded", Content_Encoding=encoding)
    async with Wire(lambda _: encoded) as wire, wire.session(retry=quick(2)) as session:
        caught = await failure(session)
    assert isinstance(caught, InvalidResponseError | ConnectionFailedError)


CAP = 100_000
MEMORY = 25_000_000  # of 50 MB; nothing_leaks needs some too


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_size(encoding: str) -> None:
    """The requested encodings are decoded, up to max_response_bytes."""
    data = json.dumps(extension()).encode()
    bodies = [ENCODERS[encoding](data.ljust(size)) for size in (CAP, CAP + 1)]
    answers = answers_in_turn(*(answer(body, Content_Encoding=encoding) for body in bodies))
    async with Wire(answers) as wire, wire.session(max_response_bytes=CAP) as session:
        assert await fetch(session) == EXTENSION
        caught = await failure(session)
    assert isinstance(caught, ResponseTooLargeError)
    assert caught.attempts == 1
    assert "100000 bytes (max_response_bytes)" in str(caught)
    assert wire.requests[0].headers["accept-encoding"] == "gzip, deflate"


CHUNKED = head(Content_Encoding="gzip", Transfer_Encoding="chunked")
BOMBS: dict[str, Callable[[], Answer]] = {
    "gzip": lambda: answer(zeros(31), Content_Encoding="gzip"),
    "deflate": lambda: answer(zeros(15), Content_Encoding="deflate"),
    "random": lambda: answer(gzip.compress(os.urandom(CAP + 1)), Content_Encoding="gzip"),
    "gzip in chunks": lambda: (CHUNKED + chunked(zeros(31), b""),),
    "no length": lambda: (head(), itertools.repeat(bytes(60_000))),
    "chunks": lambda: (
        head(Transfer_Encoding="chunked"),
        itertools.repeat(chunked(bytes(60_000))),
    ),
    "terabyte": lambda: (head(Content_Length=10**12), itertools.repeat(bytes(60_000))),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_bomb(bomb: str) -> None:
    """Little more than max_response_bytes of a body is read and decoded."""
    answers = answers_in_turn(BOMBS[bomb](), then=HEALTHY)
    async with Wire(answers) as wire, wire.session(max_response_bytes=CAP) as session:
        tracemalloc.start()
        try:
            caught = await failure(session)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert await fetch(session) == EXTENSION
    assert isinstance(caught, ResponseTooLargeError)
    assert caught.attempts == 1
    assert peak < MEMORY


# Text of the server

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nroot: \u202eevil\u2028\x00\x9b31m" + "A" * 1_000_000


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(lambda: error(503, HOSTILE), id="message"),
        pytest.param(lambda: answer(HOSTILE.encode(), 400), id="body of an error"),
        pytest.param(lambda: answer(HOSTILE.encode()), id="body"),
        pytest.param(
            lambda: error(400, Twilio_Request_Id="\x1b[31m" + "a" * 8000), id="request ID"
        ),
        pytest.param(lambda: answer(extension(sid=HOSTILE)), id="SID"),
        pytest.param(lambda: b"HTTP/1.1 2\x1b[31m\n\r\n\r\n", id="status line"),
        pytest.param(
            lambda: answer(page(next_page_url="http://evil/\x1b[31m" + "a" * 8000)), id="page URL"
        ),
    ],
)
async def test_hostile_text(
    response: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Text of the server is escaped and shortened in errors and log records."""
    async with Wire(lambda _: response()) as wire, wire.session(retry=quick(2)) as session:
        errors = [await failure(session)]
        with pytest.raises(MarketplaceError) as caught:
            await session.available_add_ons(ADD_ON).extensions.list()
        errors.append(caught.value)
    records = [record for record in caplog.records if record.name == "marketplace_async"]
    assert {logging.DEBUG} <= {record.levelno for record in records}
    for text in [*map(str, errors), *(record.getMessage() for record in records)]:
        assert text.isprintable()
        assert len(text) < 1_200
