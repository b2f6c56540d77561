"""What becomes of a call when the server answers, but not with what was asked for."""

import asyncio
import gzip
import itertools
import json
import logging
import os
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from aiohttp import http_parser
from aiohttp.compression_utils import ZLibDecompressor
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
)

from marketplace_async import (
    ApiError,
    AuthenticationError,
    InvalidResponseError,
    MarketplaceError,
    NotFoundError,
    PermissionDeniedError,
    RequestTimeoutError,
    ResponseTooLargeError,
    RetryEvent,
    RetryPolicy,
    ServerError,
    Timeout,
)

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())
TODAY = "Mon, 02 Nov 2026 12:00:00 GMT"
IN_3_SECONDS = "Mon, 02 Nov 2026 12:00:03 GMT"
YESTERDAY = "Sun, 01 Nov 2026 12:00:00 GMT"


@cache
def zeros(wbits: int) -> bytes:
    """50 MB of zeros, compressed a thousandfold."""
    compress = zlib.compressobj(wbits=wbits)
    pieces = [compress.compress(bytes(1_000_000)) for _ in range(50)]
    return b"".join([*pieces, compress.flush()])


class EnoughError(Exception):
    """Ends a call before it waits."""


async def wait_after(refusal: Answer, **settings: Any) -> float:
    """How long the client would wait after that answer, in seconds."""
    events: list[RetryEvent] = []

    def end(event: RetryEvent) -> None:
        events.append(event)
        raise EnoughError

    policy = RetryPolicy(wait_initial=0.5)
    async with (
        Wire(answers_in_turn(refusal)) as wire,
        wire.session(on_retry=end, retry=policy, **settings) as session,
    ):
        with pytest.raises(EnoughError):
            await fetch(session)
    return events[0].wait


# Retry-After


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "least"),
    [
        pytest.param({"Retry_After": "3"}, 3.0, id="seconds"),
        pytest.param({"Retry_After": "3.0"}, 3.0, id="with a fraction"),
        pytest.param({"Retry_After": " 3\t"}, 3.0, id="among blanks"),
        pytest.param({"Retry_After": IN_3_SECONDS, "Date": TODAY}, 3.0, id="date"),
        pytest.param({}, 0.0, id="none"),
        pytest.param({"Retry_After": ""}, 0.0, id="empty"),
        pytest.param({"Retry_After": "0"}, 0.0, id="zero"),
        pytest.param({"Retry_After": "-3"}, 0.0, id="negative"),
        pytest.param({"Retry_After": YESTERDAY, "Date": TODAY}, 0.0, id="in the past"),
        pytest.param({"Retry_After": YESTERDAY}, 0.0, id="in the past of this clock"),
        pytest.param({"Retry_After": "soon"}, 0.0, id="a word"),
        pytest.param({"Retry_After": "3 seconds"}, 0.0, id="with its unit"),
        pytest.param({"Retry_After": "nan"}, 0.0, id="not a number"),
        pytest.param({"Retry_After": "inf"}, 0.0, id="infinite"),
        pytest.param({"Retry_After": "1e3"}, 0.0, id="an exponent"),
        pytest.param({"Retry_After": "٣"}, 0.0, id="digits of another script"),
        pytest.param({"Retry_After": "Mon, 99 Foo 99999 99:99:99 GMT"}, 0.0, id="no date"),
    ],
)
async def test_retry_after_is_waited_for_if_it_asks_for_something(
    status: int, headers: dict[str, Any], least: float
) -> None:
    wait = await wait_after(error(status, **headers))
    assert least <= wait <= least + 0.5


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["31", "86400", "9" * 18, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_retry_after_beyond_the_policy_fails_at_once_and_says_so(
    status: int, retry_after: str
) -> None:
    refusal = error(status, Retry_After=retry_after, Date=TODAY)
    async with Wire(answers_in_turn(refusal, then=HEALTHY)) as wire, wire.session() as session:
        caught = await failure(session)
        assert await fetch(session) == EXTENSION
    assert isinstance(caught, ApiError)
    assert (caught.status, caught.attempts) == (status, 1)
    assert "not retried: the server asks for more than 30 s (retry_after_max)" in str(caught)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_beyond_the_deadline_fails_at_once_and_says_so(status: int) -> None:
    refusal = error(status, Retry_After=20)
    async with (
        Wire(answers_in_turn(refusal)) as wire,
        wire.session(timeout=Timeout(total=10)) as session,
        asyncio.timeout(5),
    ):
        caught = await failure(session)
    assert isinstance(caught, ApiError)
    assert (caught.status, caught.attempts) == (status, 1)
    assert "not retried: the next wait, 20" in str(caught)


async def test_a_call_that_would_be_over_before_a_pause_of_the_session_fails_at_once() -> None:
    refusal = error(429, Retry_After=20)
    async with (
        Wire(answers_in_turn(refusal)) as wire,
        wire.session(timeout=Timeout(total=10)) as session,
        asyncio.timeout(5),
    ):
        await failure(session)
        caught = await failure(session)
    assert isinstance(caught, RequestTimeoutError)
    assert "; not retried: the API asked for a pause of" in str(caught)
    assert caught.attempts == 0


async def test_a_backoff_beyond_the_deadline_fails_at_once_and_says_so() -> None:
    class Slow(RetryPolicy):
        def wait(self, error: MarketplaceError, attempt: int, random: Callable[[], float]) -> float:
            return 11.0

    async with Wire(answers_in_turn(error(503))) as wire:
        settings = {"timeout": Timeout(total=10), "retry": Slow()}
        async with wire.session(**settings) as session, asyncio.timeout(5):
            caught = await failure(session)
    assert isinstance(caught, ServerError)
    assert "not retried: the next wait, 11 s, is not within" in str(caught)


# Errors that pass, and errors that do not


async def test_a_burst_of_errors_is_outlived_with_a_wait_after_each() -> None:
    burst: list[Answer] = [error(status) for status in (500, 502, 504, 408)]
    burst.append(answer(b"a page of a gateway", 503, Content_Encoding="br"))
    events: list[RetryEvent] = []
    async with (
        Wire(answers_in_turn(*burst, HEALTHY)) as wire,
        wire.session(on_retry=events.append) as session,
    ):
        assert await fetch(session) == EXTENSION
    assert [event.attempt for event in events] == [1, 2, 3, 4, 5]
    assert all(0 <= event.wait <= 0.002 for event in events)


async def test_errors_that_do_not_pass_end_with_the_last_of_them() -> None:
    async with (
        Wire(answers_in_turn(error(500), error(502), error(504))) as wire,
        wire.session(retry=quick(3)) as session,
    ):
        caught = await failure(session)
    assert isinstance(caught, ServerError)
    assert (caught.status, caught.attempts) == (504, 3)


BODY = {
    "code": 20404,
    "message": "The requested resource was not found",
    "more_info": "https://www.twilio.com/docs/errors/20404",
    "status": 404,
    "params": {"sid": ["unknown"]},
}
CLASSES = {401: AuthenticationError, 403: PermissionDeniedError, 404: NotFoundError}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422])
async def test_an_error_of_the_api_is_raised_at_once_with_all_that_it_says(status: int) -> None:
    refusal = answer(BODY, status, Twilio_Request_Id="RQ123")
    async with Wire(answers_in_turn(refusal, then=HEALTHY)) as wire, wire.session() as session:
        caught = await failure(session)
        assert await fetch(session) == EXTENSION
    assert type(caught) is CLASSES.get(status, ApiError)
    assert isinstance(caught, ApiError)
    assert (caught.status, caught.attempts, caught.code) == (status, 1, 20404)
    assert (caught.message, caught.more_info) == (BODY["message"], BODY["more_info"])
    assert (caught.params, caught.request_id) == (BODY["params"], "RQ123")


BROKEN_ERRORS: list[Callable[[int], Answer]] = [
    lambda status: answer(b"", status),
    lambda status: answer(b"<html><h1>Bad gateway</h1></html>", status, Content_Type="text/html"),
    lambda status: answer(b'{"code": 20404, "mess', status),
    lambda status: answer(b"[1, 2]", status),
    lambda status: answer(b"null", status),
    lambda status: answer(b'"no"', status),
    lambda status: answer({"code": "no", "message": ["no"], "more_info": 7, "params": []}, status),
    lambda status: answer({"code": True, "message": None}, status),
    lambda status: answer(b'{"code": ' + b"9" * 5000 + b"}", status),
    lambda status: answer(b'{"message": "\xff\xfe"}', status),
    lambda status: answer(b'{"message": "\\ud800"}', status),
    lambda status: answer(b"[" * 100_000, status),
    lambda status: answer(b'{"params":' * 20_000 + b"{}" + b"}" * 20_000, status),
    lambda status: answer(b'{"params":' + b'{"a":' * 900 + b"1" + b"}" * 901, status),
    lambda status: answer(b"x" * 5_000_000, status),
    lambda status: (head(status), itertools.repeat(b"x" * 9_999)),
    lambda status: answer(b"not gzip", status, Content_Encoding="gzip"),
    lambda status: answer(gzip.compress(b"{}")[:9], status, Content_Encoding="gzip"),
    lambda status: answer(zeros(31), status, Content_Encoding="gzip"),
    lambda status: answer(b"whatever", status, Content_Encoding="br"),
    lambda status: answer(b"whatever", status, Content_Encoding="zstd"),
    lambda status: answer(b"whatever", status, Content_Encoding="gzip, br"),
    lambda status: answer(b"whatever", status, Content_Type="text/plain; charset=nonsense"),
    lambda status: (head(status, Content_Length=99), b"half", CLOSE),
    lambda status: (head(status, Content_Length=99), b"half", RESET),
]


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_an_error_is_what_its_status_says_whatever_its_body(status: int) -> None:
    answers: list[Answer] = [HEALTHY]
    async with (
        Wire(lambda _: answers[-1]) as wire,
        wire.session(retry=RetryPolicy.off()) as session,
    ):
        for broken in BROKEN_ERRORS:
            answers.append(broken(status))
            caught = await failure(session)
            assert isinstance(caught, ApiError)
            assert caught.status == status
            assert isinstance(caught, CLASSES.get(status, ApiError))
            assert len(caught.message) <= 2_000
            assert len(str(caught)) < 1_200
            assert str(caught).isprintable()
        answers.append(HEALTHY)
        assert await fetch(session) == EXTENSION


async def test_the_status_counts_even_if_the_rest_never_comes() -> None:
    stalling = (head(401, Content_Length=99), b'{"code":', STALL)
    async with (
        Wire(answers_in_turn(stalling)) as wire,
        wire.session(timeout=Timeout(attempt=0.2)) as session,
    ):
        caught = await failure(session)
    assert isinstance(caught, AuthenticationError)
    assert caught.attempts == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_the_beginning_of_an_error_page_is_shown(encoding: str) -> None:
    page = b"<html>\n<h1>Bad gateway at edge-7</h1>" + b" " * 100_000
    body = gzip.compress(page) if encoding == "gzip" else page
    answers = answers_in_turn(answer(body, 400, Content_Encoding=encoding))
    async with Wire(answers) as wire, wire.session() as session:
        assert "Bad gateway at edge-7" in str(await failure(session))


async def test_an_error_page_that_shows_the_request_does_not_make_the_error_show_it() -> None:
    async with (
        Wire(lambda request: answer({"message": str(request.headers)}, 400)) as wire,
        wire.session() as session,
    ):
        assert "user-agent" in str(await failure(session))


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["the same", "another"])
async def test_redirects_are_not_followed(status: int, host: str) -> None:
    async with Wire(answers_in_turn()) as another:
        target = "/v1/AvailableAddOns" if host == "the same" else f"{another.url}/v1"
        redirect = head(status, Location=target, Content_Length=0)
        async with Wire(answers_in_turn(redirect)) as wire, wire.session() as session:
            caught = await failure(session)
        assert not another.connections
    assert isinstance(caught, ApiError)
    assert (caught.status, caught.attempts) == (status, 1)
    assert f"the server redirects to {target}" in str(caught)


@pytest.mark.parametrize(
    "location", [None, "", "http://[", "\x1b[31m", "a" * 8000, "//evil:9999999"]
)
async def test_a_redirect_to_nowhere_is_the_same_clear_error(location: str | None) -> None:
    headers = {} if location is None else {"Location": location}
    async with (
        Wire(answers_in_turn(head(302, Content_Length=0, **headers))) as wire,
        wire.session() as session,
    ):
        caught = await failure(session)
    assert isinstance(caught, ApiError)
    assert caught.status == 302
    assert str(caught).isprintable()
    assert len(str(caught)) < 700


# Answers with a status that this API does not use


@pytest.mark.parametrize("status", [101, 201, 202, 204, 206, 226, 304, 399, 418, 451, 600, 999])
async def test_any_other_status_is_a_clear_error_at_once(status: int) -> None:
    async with (
        Wire(answers_in_turn((head(status), CLOSE), then=HEALTHY)) as wire,
        wire.session() as session,
    ):
        caught = await failure(session)
        assert await fetch(session) == EXTENSION
    assert caught.attempts == 1
    assert isinstance(caught, ApiError | InvalidResponseError)
    assert f"HTTP {status}" in str(caught)


async def test_early_hints_before_the_answer_are_skipped() -> None:
    async with (
        Wire(answers_in_turn(head(100) + head(103, Link="a") + HEALTHY)) as wire,
        wire.session() as session,
    ):
        assert await fetch(session) == EXTENSION


# Answers with status 200

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "problem", "attempts"),
    [
        pytest.param(b"", "not JSON", 3, id="empty"),
        pytest.param(b"<html></html>", "not JSON", 3, id="HTML"),
        pytest.param(json.dumps(extension()).encode()[:-9], "not JSON", 3, id="truncated"),
        pytest.param(json.dumps(extension()).encode() * 2, "not JSON", 3, id="twice"),
        pytest.param(b"NaN", "not JSON", 3, id="not a number"),
        pytest.param(b'{"sid": "\xff"}', "not UTF-8", 1, id="not UTF-8"),
        pytest.param(json.dumps(extension()).encode("utf-16"), "JSON", 3, id="UTF-16"),
        pytest.param(b"[" * DEEP + b"]" * DEEP, "got `array` @ $", None, id="a deep array"),
        pytest.param(b"[" * DEEP, "", None, id="a deep array, cut"),
        pytest.param(b'{"sid":' * DEEP + b"1" + b"}" * DEEP, "", None, id="deep objects"),
        pytest.param(b'{"new":' * DEEP + b"1" + b"}" * DEEP, "", None, id="deep, unknown"),
        pytest.param([], "expected an object, got an array @ $", 1, id="an array"),
        pytest.param(None, "expected an object, got null @ $", 1, id="null"),
        pytest.param("a", "expected an object, got a string @ $", 1, id="a string"),
        pytest.param(7, "expected an object, got an integer @ $", 1, id="an integer"),
        pytest.param({}, "missing @ $.sid", 1, id="an empty object"),
        pytest.param(extension(sid=None), "got null @ $.sid", 1, id="a null SID"),
        pytest.param(
            extension(available_add_on_sid=None),
            "got null @ $.available_add_on_sid",
            1,
            id="no add-on",
        ),
        pytest.param(extension(sid=7), "got an integer @ $.sid", 1, id="a number as SID"),
        pytest.param(extension(sid=10**400), "@ $.sid", 1, id="a huge integer"),
        pytest.param(extension(sid=1e400), "JSON", 3, id="infinity"),
        pytest.param(extension(friendly_name={}), "@ $.friendly_name", 1, id="an object as name"),
        pytest.param(extension(friendly_name=True), "@ $.friendly_name", 1, id="true as name"),
        pytest.param(extension(url=["a"]), "@ $.url", 1, id="an array as URL"),
        pytest.param(extension(1), "the answer is about XF0", 3, id="another Extension"),
    ],
)
async def test_a_wrong_body_is_named(body: object, problem: str, attempts: int | None) -> None:
    answers = [answer(body)]
    async with (
        Wire(lambda _: answers[-1]) as wire,
        wire.session(retry=quick(attempts=3)) as session,
    ):
        caught = await failure(session)
        answers.append(HEALTHY)
        assert await fetch(session) == EXTENSION
    assert isinstance(caught, InvalidResponseError)
    assert problem in str(caught)
    assert attempts is None or caught.attempts == attempts
    assert len(str(caught)) < 1_000


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param({"meta": page()["meta"]}, "missing @ $.extensions", id="no items"),
        pytest.param(page() | {"extensions": None}, "got null @ $.extensions", id="null"),
        pytest.param(page() | {"extensions": {"a": 1}}, "an object @ $.extensions", id="an object"),
        pytest.param(
            page([1]) | {"extensions": [None]}, "got null @ $.extensions[0]", id="a null item"
        ),
        pytest.param(
            page() | {"extensions": [extension(1), extension(sid=None)]},
            "got null @ $.extensions[1].sid",
            id="a null SID",
        ),
        pytest.param({"extensions": []}, "missing @ $.meta", id="no meta"),
        pytest.param(page() | {"meta": None}, "got null @ $.meta", id="null as meta"),
        pytest.param(page() | {"meta": {"a": 1}}, "missing @ $.meta.page", id="an empty meta"),
        pytest.param(page(next_page_url=7), "@ $.meta.next_page_url", id="a number as URL"),
        pytest.param(page(next_page_url=["a"]), "@ $.meta.next_page_url", id="an array as URL"),
        pytest.param(page(page="0"), "@ $.meta.page", id="text as a number"),
        pytest.param(page(page=-1), "page must be 0 to", id="a negative number"),
        pytest.param(page(page_size=10**400), "page_size must be 0 to", id="a huge number"),
        pytest.param(
            page() | {"extensions": [extension(1, available_add_on_sid="XB" + "0" * 32)]},
            "the answer is about XB0",
            id="of another add-on",
        ),
    ],
)
async def test_a_wrong_page_is_named_and_is_not_the_end_of_the_listing(
    body: object, problem: str
) -> None:
    async with Wire(lambda _: answer(body)) as wire, wire.session(retry=quick(2)) as session:
        with pytest.raises(InvalidResponseError) as caught:
            await session.available_add_ons(ADD_ON).extensions.list().to_list()
    assert problem in str(caught.value)


async def test_a_key_that_stands_twice_is_named_and_not_asked_for_again() -> None:
    whole = json.dumps(extension())
    twice = whole.replace('{"sid"', '{"friendly_name": "first", "sid"', 1).encode()
    async with Wire(lambda _: answer(twice)) as wire, wire.session() as session:
        with pytest.raises(InvalidResponseError, match="twice: friendly_name") as caught:
            await session.available_add_ons(ADD_ON).extensions(EXTENSION).fetch()
    assert caught.value.attempts == 1


# Encodings and sizes


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Identity"])
async def test_the_encodings_that_are_asked_for_are_undone(encoding: str) -> None:
    encoders: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "identity": bytes,
    }
    body = encoders[encoding.lower()](json.dumps(extension()).encode())
    async with Wire(answers_in_turn(answer(body, Content_Encoding=encoding))) as wire:
        async with wire.session() as session:
            assert await fetch(session) == EXTENSION
        assert wire.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "encoding",
    ["br", "zstd", "compress", "gzip, gzip", "x", "\x1b[31m"],
)
async def test_no_other_encoding_is_undone(encoding: str) -> None:
    bomb = answer(b"bomb", Content_Encoding=encoding)
    async with Wire(answers_in_turn(bomb, then=HEALTHY)) as wire, wire.session() as session:
        caught = await failure(session)
        assert await fetch(session) == EXTENSION
    assert type(caught) is InvalidResponseError
    assert "the body is encoded as" in str(caught)
    assert caught.attempts == 1


async def test_a_bomb_of_an_encoding_that_aiohttp_could_undo_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the libraries for them, aiohttp undoes encodings that nobody asked for."""
    monkeypatch.setattr(http_parser, "HAS_BROTLI", True)
    monkeypatch.setattr(http_parser, "BrotliDecompressor", partial(ZLibDecompressor, "gzip"))
    bomb = answer(zeros(31), Content_Encoding="br")
    peak, caught = await peak_of_a_failure(bomb)
    assert type(caught) is InvalidResponseError
    assert "the body is encoded as br" in str(caught)
    assert peak < MEMORY


CAP = 100_000
MEMORY = 8_000_000
"""For the client's and the server's buffers, of a megabyte or so; a bomb is of 50 MB or more."""


def padded(size: int) -> bytes:
    data = json.dumps(extension()).encode()
    return data + b" " * (size - len(data))


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_a_body_may_be_as_large_as_the_cap(encode: Callable[[bytes], bytes]) -> None:
    headers: dict[str, Any] = {} if encode is bytes else {"Content_Encoding": "gzip"}
    most, more = (answer(encode(padded(size)), **headers) for size in (CAP, CAP + 1))
    async with (
        Wire(answers_in_turn(most, more)) as wire,
        wire.session(max_response_bytes=CAP) as session,
    ):
        assert await fetch(session) == EXTENSION
        caught = await failure(session)
    assert isinstance(caught, ResponseTooLargeError)
    assert caught.attempts == 1
    assert "100000 bytes (max_response_bytes)" in str(caught)


async def peak_of_a_failure(bomb: Answer) -> tuple[int, MarketplaceError]:
    """The most memory, in bytes, that was in use at once while the client met the bomb."""
    answers = answers_in_turn(bomb, then=HEALTHY)
    async with Wire(answers) as wire, wire.session(max_response_bytes=CAP) as session:
        tracemalloc.start()
        try:
            caught = await failure(session)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert await fetch(session) == EXTENSION
    assert caught.attempts == 1
    return peak, caught


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: answer(zeros(31), Content_Encoding="gzip"), id="gzip"),
        pytest.param(lambda: answer(zeros(15), Content_Encoding="deflate"), id="deflate"),
        pytest.param(lambda: answer(zeros(-15), Content_Encoding="deflate"), id="raw deflate"),
        pytest.param(
            lambda: answer(gzip.compress(os.urandom(CAP + 1)), Content_Encoding="gzip"),
            id="gzip that shrank nothing",
        ),
        pytest.param(
            lambda: (
                head(Content_Encoding="gzip", Transfer_Encoding="chunked")
                + chunked(zeros(31), b""),
            ),
            id="gzip in chunks",
        ),
        pytest.param(lambda: (head(), itertools.repeat(bytes(60_000))), id="without length"),
        pytest.param(
            lambda: (
                head(Transfer_Encoding="chunked"),
                itertools.repeat(chunked(bytes(60_000))),
            ),
            id="chunks for ever",
        ),
        pytest.param(
            lambda: (head(Content_Length=10**12), itertools.repeat(bytes(60_000))), id="a terabyte"
        ),
    ],
)
async def test_of_a_body_beyond_the_cap_little_more_than_the_cap_is_read(
    bomb: Callable[[], Answer],
) -> None:
    peak, caught = await peak_of_a_failure(bomb())
    assert isinstance(caught, ResponseTooLargeError)
    assert peak < MEMORY


# What a server says, shown to people


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nroot: \u202eevil\u2028\x00\x9b31m" + "A" * 1_000_000


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(lambda: error(400, HOSTILE), id="message"),
        pytest.param(lambda: answer(HOSTILE.encode(), 400), id="body"),
        pytest.param(lambda: error(503, HOSTILE), id="message of an error that is retried"),
        pytest.param(
            lambda: error(400, Twilio_Request_Id="\x1b[31m" + "a" * 8000), id="request id"
        ),
        pytest.param(lambda: answer(extension(sid=None) | {HOSTILE: 1}), id="unknown field"),
        pytest.param(lambda: answer(extension(sid=HOSTILE)), id="SID"),
        pytest.param(lambda: answer(b"", Content_Encoding="\x1b[31m" + "a" * 8000), id="encoding"),
        pytest.param(lambda: b"HTTP/1.1 2\x1b[31m\n\r\n\r\n", id="status line"),
        pytest.param(lambda: b"HTTP/1.1 200 OK\r\n\x1b[31m\r\n\r\n", id="header"),
        pytest.param(
            lambda: answer(page(next_page_url="http://evil/\x1b[31m" + "a" * 8000)), id="page URL"
        ),
    ],
)
async def test_what_a_server_says_is_shown_escaped_and_shortened(
    said: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(lambda _: said()) as wire, wire.session(retry=quick(2)) as session:
        errors = [await failure(session)]
        with pytest.raises(MarketplaceError) as caught:
            await session.available_add_ons(ADD_ON).extensions.list().to_list()
        errors.append(caught.value)
    records = [record for record in caplog.records if record.name == "marketplace_async"]
    assert {logging.DEBUG} <= {record.levelno for record in records}
    for text in [*map(str, errors), *(record.getMessage() for record in records)]:
        assert text.isprintable()
        assert len(text) < 1_200
