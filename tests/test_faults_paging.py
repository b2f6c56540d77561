"""What becomes of a listing when its pages lead astray, repeat themselves or say nothing."""

import asyncio
import itertools
from typing import Any

import pytest
from wire import (
    ADD_ON,
    CANONICAL,
    CLOSE,
    RESET,
    Answer,
    Request,
    Wire,
    answer,
    answers_in_turn,
    error,
    head,
    page,
    quick,
)

from marketplace_async import (
    ConnectionFailedError,
    Extension,
    InvalidResponseError,
    MarketplaceError,
    MarketplaceSession,
    PageLoopError,
    Pager,
    ServerError,
    UntrustedPageUrlError,
)

pytestmark = pytest.mark.usefixtures("nothing_leaks")

PATH = f"/v1/AvailableAddOns/{ADD_ON}/Extensions"


def listing(session: MarketplaceSession, **settings: Any) -> Pager[Extension]:
    return session.available_add_ons(ADD_ON).extensions.list(**settings)


def numbers(items: list[Extension]) -> list[int]:
    return [int(item.sid.removeprefix("XF"), 16) for item in items]


async def read(pager: Pager[Extension]) -> tuple[list[int], MarketplaceError | None]:
    """The numbers of the items, and the error that ended the listing."""
    items: list[Extension] = []
    try:
        async for item in pager:
            items.append(item)  # noqa: PERF401  # what was read before an error counts
    except MarketplaceError as error:
        return numbers(items), error
    return numbers(items), None


# Where the next page may be


@pytest.mark.parametrize(
    "url",
    [
        f"{CANONICAL}{PATH}?Page=1",
        f"HTTPS://Marketplace.Twilio.COM:443{PATH}?Page=1",
        f"{{origin}}{PATH}?Page=1",
        f"{{origin}}{PATH}?PageSize=50&Page=1&PageToken=a%2F%3D~b+c",
    ],
)
async def test_a_page_of_the_canonical_host_or_of_the_sessions_is_asked_of_the_sessions_host(
    url: str,
) -> None:
    async with Wire(lambda request: answer(second(request))) as wire, wire.session() as session:

        def second(request: Request) -> dict[str, Any]:
            return page([2]) if request.query else page([1], url.format(origin=wire.url))

        assert await read(listing(session)) == ([1, 2], None)
        assert url.endswith(wire.requests[1].target)
        assert wire.requests[1].headers["host"] == f"localhost:{wire.port}"


async def test_a_sid_may_be_in_capitals_here_and_in_small_letters_there() -> None:
    def respond(request: Request) -> bytes:
        return answer(page([2]) if request.query else page([1], f"{CANONICAL}{PATH}?Page=1"))

    async with Wire(respond) as wire, wire.session() as session:
        capitals = session.available_add_ons(f"XB{ADD_ON[2:].upper()}")
        assert capitals.sid != ADD_ON
        assert await read(capitals.extensions.list()) == ([1, 2], None)


FOREIGN = [
    "https://evil.example{path}?Page=1",
    "http://{host}{path}?Page=1#fragment",
    "http://marketplace.twilio.com{path}?Page=1",
    "https://marketplace.twilio.com:8443{path}?Page=1",
    "https://marketplace.twilio.com.evil.example{path}?Page=1",
    "https://marketplace.twilio.com@evil.example{path}?Page=1",
    "https://evil.example\\@marketplace.twilio.com{path}?Page=1",
    "https://evil.example#@marketplace.twilio.com{path}?Page=1",
    "https://user:word@marketplace.twilio.com{path}?Page=1",
    "https://user@marketplace.twilio.com{path}?Page=1",
    "https://{host}{path}?Page=1",
    "http://{other}{path}?Page=1",
    "//{other}{path}?Page=1",
    "{path}?Page=1",
    "?Page=1",
    "Page=1",
    "",
    " ",
    "ftp://{host}{path}?Page=1",
    "file://{path}?Page=1",
    "javascript:alert(1)",
    "http://{host}/v1/AvailableAddOns?Page=1",
    "http://{host}/2010-04-01/Accounts?Page=1",
    "http://{host}{path}/?Page=1",
    "http://{host}{path}/../Other?Page=1",
    "http://{host}/v1/../v1/AvailableAddOns/x?Page=1",
    "http://{host}/%76{path}?Page=1",
    "http://{host}/{path}?Page=1",
    "http://{host}{path};a=b?Page=1",
    "http://{host}{path}%00?Page=1",
    "http://{host}{path}?Page=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "http://{host}{path}?Page=\x00",
    "http://{host}{path}?Page=\uff11",
    "http://\uff11\uff12\uff17.0.0.1{path}?Page=1",
    "http://{host}{path}?Page=é",
    "\thttp://{host}{path}?Page=1",
    "http://{host}{path}?Page=1\n",
    "http://[{path}?Page=1",
    "http://[::1]:99999{path}?Page=1",
    "http://{host}9{path}?Page=1",
    "http://:80{path}?Page=1",
    "http://{host}{path}?Page=" + "1" * 9_000,
]


@pytest.mark.parametrize("prefetch", [0, 1])
@pytest.mark.parametrize("url", FOREIGN)
async def test_a_page_anywhere_else_is_not_asked_for(url: str, prefetch: int) -> None:
    async with Wire(answers_in_turn()) as other:

        def respond(request: Request) -> Answer:
            there = url.format(
                host=f"localhost:{wire.port}", other=f"localhost:{other.port}", path=PATH
            )
            return answer(page([1], there))

        async with Wire(respond) as wire, wire.session() as session:
            items, caught = await read(listing(session, prefetch=prefetch))
        assert isinstance(caught, UntrustedPageUrlError)
        assert items == [1]
        assert len(wire.requests) == 1
        assert not other.connections
        assert len(str(caught)) < 1_000
        assert str(caught).isprintable()


@pytest.mark.parametrize("url", FOREIGN)
async def test_no_listing_resumes_anywhere_else(url: str) -> None:
    async with Wire(answers_in_turn()) as wire, wire.session() as session:
        there = url.format(host=f"localhost:{wire.port}", other="localhost:9", path=PATH)
        if there:
            with pytest.raises(UntrustedPageUrlError) as caught:
                listing(session, resume_from=there)
            assert str(caught.value).isprintable()
        assert not wire.connections


async def test_user_information_of_a_refused_url_is_not_shown() -> None:
    async with Wire(answers_in_turn()) as wire, wire.session() as session:
        with pytest.raises(UntrustedPageUrlError) as caught:
            listing(session, resume_from=f"https://SK1:word@marketplace.twilio.com{PATH}?Page=1")
    assert "word" not in str(caught.value)
    assert "word" not in repr(caught.value)


@pytest.mark.parametrize("url", [7, True, [], {}, ["https://a"], 1.5])
async def test_a_next_page_that_is_not_a_string_is_an_invalid_response(url: object) -> None:
    async with Wire(answers_in_turn(answer(page([1], url)))) as wire, wire.session() as session:
        items, caught = await read(listing(session))
    assert isinstance(caught, InvalidResponseError)
    assert "next_page_url" in str(caught)
    assert not items


# Loops


@pytest.mark.parametrize("length", [1, 2, 5])
async def test_pages_that_lead_in_a_circle_are_an_error_after_one_turn(length: int) -> None:
    def respond(request: Request) -> Answer:
        number = int(request.query.get("Page", 0))
        return answer(page([number + 1], f"{CANONICAL}{PATH}?Page={(number + 1) % length}"))

    async with Wire(respond) as wire, wire.session() as session:
        items, caught = await read(listing(session, resume_from=f"{CANONICAL}{PATH}?Page=0"))
    assert isinstance(caught, PageLoopError)
    assert items == list(range(1, length + 1))
    assert len(wire.requests) == length


async def test_a_page_that_leads_to_the_first_one_written_otherwise_is_found_a_turn_later() -> None:
    first = answer(page([1], f"{CANONICAL}{PATH}?PageSize=50&Page=0"))
    async with Wire(lambda _: first) as wire, wire.session() as session:
        items, caught = await read(listing(session))
    assert isinstance(caught, PageLoopError)
    assert items == [1]  # and not again from the second page, which is the same
    assert len(wire.requests) == 2


async def test_endless_pages_are_bounded_by_the_limit() -> None:
    tokens = itertools.count(1)

    def respond(request: Request) -> Answer:
        token = next(tokens)
        return answer(page([2 * token, 2 * token + 1], f"{CANONICAL}{PATH}?PageToken={token}"))

    async with Wire(respond) as wire, wire.session() as session:
        items, caught = await read(listing(session, limit=7))
    assert caught is None
    assert items == list(range(2, 9))
    assert len(wire.requests) == 4


async def test_a_hundred_empty_pages_in_a_row_are_a_loop() -> None:
    tokens = itertools.count(1)

    def respond(request: Request) -> Answer:
        return answer(page([], f"{CANONICAL}{PATH}?PageToken={next(tokens)}"))

    async with Wire(respond) as wire, wire.session() as session:
        items, caught = await read(listing(session))
    assert isinstance(caught, PageLoopError)
    assert "100 pages in a row" in str(caught)
    assert not items
    assert len(wire.requests) == 100


async def test_the_same_items_on_page_after_page_are_a_loop() -> None:
    tokens = itertools.count(1)

    def respond(request: Request) -> Answer:
        return answer(page([1, 2], f"{CANONICAL}{PATH}?PageToken={next(tokens)}"))

    async with Wire(respond) as wire, wire.session() as session:
        items, caught = await read(listing(session))
    assert isinstance(caught, PageLoopError)
    assert items == [1, 2]


# A catalogue that moves


def pages(*contents: list[int]) -> list[Answer]:
    last = len(contents)
    return [
        answer(page(content, f"{CANONICAL}{PATH}?Page={number}" if number < last else None))
        for number, content in enumerate(contents, 1)
    ]


@pytest.mark.parametrize("prefetch", [0, 2])
async def test_an_empty_page_in_the_middle_is_not_the_end(prefetch: int) -> None:
    answers = pages([1, 2], [], [3], [], [])
    async with Wire(answers_in_turn(*answers)) as wire, wire.session() as session:
        assert await read(listing(session, prefetch=prefetch)) == ([1, 2, 3], None)


async def test_what_moved_to_the_next_page_is_given_once() -> None:
    answers = pages([1, 2, 3], [3, 4, 5], [5, 6])
    async with Wire(answers_in_turn(*answers)) as wire, wire.session() as session:
        assert await read(listing(session)) == ([1, 2, 3, 4, 5, 6], None)


# Pages that fail

PASSING: list[Answer] = [
    error(503),
    error(429),
    (RESET,),
    (CLOSE,),
    (head(Content_Length=99), b'{"extensions": [', RESET),
    answer(b'{"extensions": ['),
    answer(b""),
]


@pytest.mark.parametrize("prefetch", [0, 1])
async def test_a_page_that_fails_for_a_while_is_asked_for_again(prefetch: int) -> None:
    first, second, third = pages([1], [2], [3])
    answers = answers_in_turn(first, *PASSING[:3], second, *PASSING[3:], third)
    async with Wire(answers) as wire, wire.session(retry=quick(10)) as session:
        assert await read(listing(session, prefetch=prefetch)) == ([1, 2, 3], None)


@pytest.mark.parametrize("prefetch", [0, 1])
@pytest.mark.parametrize("fault", [error(503), (RESET,), (head(Content_Length=99), b"{", CLOSE)])
async def test_a_page_that_fails_for_good_is_an_error_from_which_one_can_resume(
    fault: Answer, prefetch: int
) -> None:
    def respond(request: Request) -> Answer:
        number = int(request.query.get("Page", 0))
        return fault if broken and number == 2 else answers[number]

    answers, broken = pages([1], [2], [3]), True
    async with Wire(respond) as wire, wire.session(retry=quick(2)) as session:
        items, caught = await read(listing(session, prefetch=prefetch))
        assert isinstance(caught, ServerError | ConnectionFailedError)
        assert items == [1, 2]
        assert caught.url is not None
        broken = False
        assert await read(listing(session, resume_from=caught.url)) == ([3], None)


async def test_closing_during_a_request_ends_the_iteration_for_good() -> None:
    more = page([1], next_page_url=f"{CANONICAL}{PATH}?Page=1")
    async with Wire(lambda _: answer(more)) as wire, wire.session() as session:
        pages = listing(session).pages()
        under_way = asyncio.ensure_future(anext(pages))
        await wire.until(lambda: wire.requests)
        await pages.aclose()
        await under_way
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
    assert len(wire.requests) == 1
