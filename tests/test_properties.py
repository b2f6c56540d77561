"""Properties of calls and listings, whatever the server sends; hypothesis makes the examples."""

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

from marketplace_async import Extension, MarketplaceError, RetryPolicy

pytestmark = pytest.mark.usefixtures("nothing_leaks")

# The fixture checks all examples of a test together.
some_examples = partial(settings, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(error: MarketplaceError) -> None:
    note(repr(error))
    assert str(error).isprintable()


HEALTHY = answer(extension())
BODY = json.dumps(extension()).encode()
VALID = [
    HEALTHY,
    head(Transfer_Encoding="chunked") + chunked(BODY[:9], BODY[9:], b""),
    head(Transfer_Encoding="chunked") + b"3;x=y\r\n{}}\r\n0\r\nTrailer: a\r\n\r\n",
    head() + BODY,
    head(103) + HEALTHY,
    answer(gzip.compress(BODY, mtime=0), Content_Encoding="gzip"),
    error(404),
    error(429, Retry_After=1),
    head(302, Location="/", Content_Length=0),
    head(204),
    HEALTHY + HEALTHY,
]
PIECES = [
    *(bytes([byte]) for byte in b"\0\n\r:;, {}[]\"'-09aA\x80\xff"),
    b"\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: br\r\n",
    b"Set-Cookie: a=\xff; Expires=x\r\n",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid response with a few pieces replaced, removed or inserted."""
    data = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = data[:start] + draw(st.sampled_from(PIECES) | st.just(b"")) + data[end:]
    return data


@some_examples(max_examples=40)
@given(st.binary(max_size=300) | damaged(), st.sampled_from([CLOSE, RESET]))
@example(HEALTHY, CLOSE)
async def test_any_response(data: bytes, end: End) -> None:
    """Any bytes are the requested resource or an error of this library, and the next call works."""
    answers = answers_in_turn((data, end), (data, end), then=HEALTHY)
    async with Wire(answers) as wire, wire.session(retry=RetryPolicy.off()) as session:
        for _ in range(3):  # aiohttp itself may repeat the first request
            try:
                assert await fetch(session) == EXTENSION
            except MarketplaceError as caught:
                check(caught)
        assert await fetch(session) == EXTENSION


# Listings

WRONG = [
    error(400),
    error(401),
    error(404),
    error(429, Retry_After=99),
    answer({}),
    answer([]),
    answer(page([], "https://evil.example")),
    answer(page([1]) | {"extensions": [None]}),
    head(302, Location="/", Content_Length=0),
]
PASSING: list[Answer] = [
    error(429),
    error(500),
    error(503),
    (CLOSE,),
    (RESET,),
    answer(b""),
    answer(b"[" * 99),
    b"no HTTP\r\n\r\n",
]
Fault = Callable[[bytes], Answer]


def number(item: Extension) -> int:
    return int(item.sid.removeprefix("XF"), base=16)


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


@st.composite
def catalogues(draw: st.DrawFn) -> list[list[int]]:
    """The numbers of the items on each page."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    numbers = iter(range(1, 100))
    return [[next(numbers) for _ in range(size)] for size in sizes]


@some_examples(max_examples=50)
@given(
    catalogue=catalogues(),
    faults=st.lists(faults, max_size=12),
    limit=st.none() | st.integers(0, 20),
    prefetch=st.booleans(),
)
async def test_listing(
    catalogue: list[list[int]], faults: Sequence[Fault], limit: int | None, prefetch: Any
) -> None:
    """A listing yields each item once and in order, or raises and can be resumed."""
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
        found: list[int] = []
        try:
            async for item in extensions.list(limit=limit, prefetch=prefetch):
                found.append(number(item))  # noqa: PERF401  # kept if there is an error
        except MarketplaceError as caught:
            check(caught)
            assert found == everything[: len(found)]
            left = iter(())
            if caught.url is not None and "Page=" in caught.url:
                rest = None if limit is None else limit - len(found)
                items = await extensions.list(resume_from=caught.url, limit=rest)
                found += [number(item) for item in items]
                assert found == everything
        else:
            assert found == everything
