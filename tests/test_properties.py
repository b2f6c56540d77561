"""What holds whatever the server does: examples are invented, and the worst ones are kept."""

import gzip
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from wire import (
    ADD_ON,
    CANONICAL,
    CLOSE,
    EXTENSION,
    RESET,
    Answer,
    End,
    Request,
    Wire,
    answer,
    answers_in_turn,
    chunked,
    error,
    extension,
    fetch,
    head,
    page,
    quick,
)

from marketplace_async import Extension, MarketplaceError, MarketplaceSession, RetryPolicy
from marketplace_async.testing import without_waits

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())
BODY = json.dumps(extension()).encode()

# The look-out for leaks serves all examples of a test together.
some_examples = partial(settings, suppress_health_check=[HealthCheck.function_scoped_fixture])


def look_at(error: MarketplaceError) -> None:
    note(repr(error))
    assert str(error).isprintable()


# Answers of any bytes

WELL_MEANT = [
    HEALTHY,
    head(Transfer_Encoding="chunked") + chunked(BODY[:9], BODY[9:], b""),
    head(Transfer_Encoding="chunked") + b"3;x=y\r\n{}}\r\n0\r\nTrailer: a\r\n\r\n",
    head() + BODY,
    head(103) + HEALTHY,
    answer(gzip.compress(BODY, mtime=0), Content_Encoding="gzip"),
    error(404),
    error(429, Retry_After=1),
    head(302, Location="/", Content_Length=0),
    head(101, Upgrade="websocket", Connection="Upgrade"),
    head(204),
    HEALTHY + HEALTHY,
]
PIECES = [
    *(bytes([byte]) for byte in b"\0\n\r:;, {}[]\"'-09aA\x80\xff"),
    b"\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br\r\n",
    b"Connection: close\r\n",
    b"Set-Cookie: a=\xff; Expires=x\r\n",
    b"0\r\n\r\n",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A well-meant answer in which a few places are overwritten, cut out or stuffed."""
    data = draw(st.sampled_from(WELL_MEANT))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = data[:start] + draw(st.sampled_from(PIECES) | st.just(b"")) + data[end:]
    return data


@some_examples(max_examples=40)
@given(st.binary(max_size=300) | damaged(), st.sampled_from([CLOSE, RESET]))
@example(HEALTHY, CLOSE)
async def test_any_bytes_are_the_right_answer_or_an_error_of_ours(data: bytes, end: End) -> None:
    answers = answers_in_turn((data, end), (data, end), then=HEALTHY)
    async with Wire(answers) as wire, wire.session(retry=RetryPolicy.off()) as session:
        try:
            # What is left of a damaged answer may be whole, and about what was asked for.
            assert await fetch(session) == EXTENSION
        except MarketplaceError as caught:
            look_at(caught)
        for _ in range(2):  # aiohttp may have repeated the first
            try:
                assert await fetch(session) == EXTENSION
            except MarketplaceError as caught:
                look_at(caught)
        assert await fetch(session) == EXTENSION


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def changed(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object with any JSON in place of some of its fields."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(whole, JSON)).map(
        lambda fields: whole | fields
    )


@some_examples(max_examples=30)
@given(JSON | changed(extension()) | changed(page([1])) | changed(page([1])["meta"]))
async def test_any_json_converts_or_is_an_error_of_ours(body: object) -> None:
    meta = page([1]) | {"meta": body}
    async with (
        Wire(lambda request: answer(body if "/Extensions/" in request.target else meta)) as wire,
        wire.session(retry=without_waits(2)) as session,
    ):
        for work in (fetch(session), all_items(session)):
            try:
                assert await work in (EXTENSION, [1])
            except MarketplaceError as caught:
                look_at(caught)


async def all_items(session: MarketplaceSession) -> list[int]:
    extensions = session.available_add_ons(ADD_ON).extensions
    return list(map(number, await extensions.list().to_list()))


def number(item: Extension) -> int:
    return int(item.sid.removeprefix("XF"), 16)


# Listings through faults

WRONG = [
    error(400),
    error(401),
    error(404),
    error(429, Retry_After=99),
    answer({}),
    answer([]),
    answer(page([], "https://evil.example")),
    answer(extension()),
    head(302, Location="/", Content_Length=0),
]
PASSING: list[Answer] = [
    error(429),
    error(500),
    error(503),
    (CLOSE,),
    (RESET,),
    answer(b""),
    answer(b"<html>"),
    answer(b"[" * 99),
    b"no HTTP\r\n\r\n",
]


@st.composite
def catalogues(draw: st.DrawFn) -> list[list[int]]:
    """The numbers of the items on each page."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    numbers = iter(range(1, 100))
    return [[next(numbers) for _ in range(size)] for size in sizes]


Fault = Callable[[bytes], Answer]


def nothing(whole: bytes) -> Answer:
    return whole


def another(fault: Answer) -> Fault:
    return lambda _: fault


def cut(end: End, share: float) -> Fault:
    return lambda whole: (whole[: int(share * len(whole))], end)


faults = st.one_of(
    st.just(nothing),
    st.builds(another, st.sampled_from(PASSING)),
    st.builds(another, st.sampled_from(WRONG)),
    st.builds(cut, st.sampled_from([CLOSE, RESET]), st.floats(0, 0.99)),
)


@some_examples(max_examples=50)
@given(
    catalogue=catalogues(),
    faults=st.lists(faults, max_size=12),
    limit=st.none() | st.integers(0, 20),
    prefetch=st.integers(0, 2),
)
async def test_a_listing_through_faults_gives_each_item_once_and_in_order_or_raises(
    catalogue: list[list[int]],
    faults: Sequence[Fault],
    limit: int | None,
    prefetch: int,
) -> None:
    left = iter(faults)

    def respond(request: Request) -> Answer:
        index = int(request.query.get("Page", 0))
        following = f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}/Extensions?Page={index + 1}"
        is_last = index + 1 == len(catalogue)
        whole = answer(page(catalogue[index], None if is_last else following))
        return next(left, nothing)(whole)

    everything = list(chain.from_iterable(catalogue))[:limit]
    async with Wire(respond) as wire, wire.session(retry=quick(3)) as session:
        extensions = session.available_add_ons(ADD_ON).extensions
        given: list[int] = []
        try:
            async for item in extensions.list(limit=limit, prefetch=prefetch):
                given.append(number(item))  # noqa: PERF401  # what was given before an error counts
        except MarketplaceError as caught:
            look_at(caught)
            assert given == everything[: len(given)]
            left = iter(())
            if caught.url is not None and "Page=" in caught.url:
                rest = extensions.list(
                    resume_from=caught.url, limit=None if limit is None else limit - len(given)
                )
                given += [number(item) async for item in rest]
                assert given == everything
        else:
            assert given == everything
