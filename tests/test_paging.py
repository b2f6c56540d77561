"""Listings: what is asked for, what is given, when, and how it ends.

Most are answered as a `Sandbox` answers, without a socket and in virtual time. Pages that lead
astray are in `test_faults_paging.py`.
"""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import aiohttp
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leftovers import all_blocked, leaves_nothing
from yarl import URL

from marketplace_async import (
    AvailableAddOn,
    Extension,
    Extensions,
    InvalidResponseError,
    MarketplaceError,
    MarketplaceSession,
    Page,
    PageLoopError,
    Pager,
    RetryPolicy,
    ServerError,
    UntrustedPageUrlError,
    open_session,
)
from marketplace_async.paging import trusted_path
from marketplace_async.sandbox import Catalog, Sandbox, add_on
from marketplace_async.sandbox.answers import Api
from marketplace_async.transport import Transport

T = TypeVar("T")

ADD_ON = "XB" + 32 * "a"
PATH = f"/v1/AvailableAddOns/{ADD_ON}/Extensions"
TWILIO = "https://marketplace.twilio.com"


class InMemory(Transport):
    """Answers after ``seconds`` what ``respond`` gives for a path with its query."""

    def __init__(self, respond: Callable[[str], bytes], seconds: float = 0) -> None:
        self.origin = URL(TWILIO)
        self.clean = lambda _: None
        self.requests: list[str] = []
        self._respond = respond
        self._seconds = seconds

    async def get(self, path_and_query: str, structure: Callable[[bytes], T]) -> T:
        self.requests.append(path_and_query)
        assert len(self.requests) <= 1000, "the listing does not end"
        await asyncio.sleep(self._seconds)
        return structure(self._respond(path_and_query))

    def listing(self, **arguments: Any) -> Pager[Extension]:
        return Extensions(self, ADD_ON).list(**arguments)

    @property
    def queries(self) -> list[str]:
        """What was asked for behind the path of the listing."""
        assert all(request.startswith(PATH) for request in self.requests)
        return [request.removeprefix(PATH) for request in self.requests]


def sid(number: int) -> str:
    return f"XF{number:032}"


def number_of(item: Extension) -> int:
    return int(item.sid[2:])


def answers_of(total: int) -> Callable[[str], bytes]:
    """The answers of a sandbox with that many Extensions, numbered from 0."""
    extensions = [Extension(sid(number), ADD_ON) for number in range(total)]
    api = Api(Catalog([add_on(ADD_ON, extensions=extensions)]), TWILIO)

    def respond(path_and_query: str) -> bytes:
        url = URL(path_and_query, encoded=True)
        answer = api.answer("GET", url.path, url.query)
        assert answer.status == 200
        return answer.body

    return respond


def of(total: int, seconds: float = 0) -> InMemory:
    return InMemory(answers_of(total), seconds)


def page(numbers: Iterable[int], next_query: str | None) -> bytes:
    """A page of a listing; ``next_query`` stands behind the path in the URL of the next one."""
    url = TWILIO + PATH
    meta = {
        "page": 0,
        "page_size": 50,
        "first_page_url": url,
        "previous_page_url": None,
        "url": url,
        "next_page_url": None if next_query is None else url + next_query,
        "key": "extensions",
    }
    extensions = [{"sid": sid(number), "available_add_on_sid": ADD_ON} for number in numbers]
    return json.dumps({"extensions": extensions, "meta": meta}).encode()


def pages(*numbers: Iterable[int]) -> InMemory:
    """A listing of pages that hold just these Extensions."""
    count = len(numbers)

    def respond(path_and_query: str) -> bytes:
        index = int(URL(path_and_query).query.get("Page", 0))
        return page(numbers[index], f"?Page={index + 1}" if index + 1 < count else None)

    return InMemory(respond)


async def numbers(listing: AsyncIterable[Extension]) -> list[int]:
    return [number_of(item) async for item in listing]


async def until_error(listing: AsyncIterable[Extension]) -> tuple[list[int], MarketplaceError]:
    """What a listing gives, and the error behind it."""
    given: list[int] = []
    try:
        async for item in listing:
            given.append(number_of(item))  # noqa: PERF401  # what was given stays in spite of it
    except MarketplaceError as error:
        return given, error
    raise AssertionError("the listing came to its end")


def now() -> float:
    return asyncio.get_running_loop().time()


# What is asked for


@given(
    total=st.integers(0, 40),
    page_size=st.none() | st.integers(1, 45),
    limit=st.none() | st.integers(0, 45),
    prefetch=st.integers(0, 3),
)
@leaves_nothing
async def test_a_listing_is_a_slice_of_the_catalogue_and_asks_for_no_more_than_it_needs(
    total: int, page_size: int | None, limit: int | None, prefetch: int
) -> None:
    api = of(total)
    listing = api.listing(limit=limit, page_size=page_size, prefetch=prefetch)
    assert await numbers(listing) == list(range(total))[:limit]
    wanted = total if limit is None else min(total, limit)
    if limit is None:
        size, first_query = (50, "") if page_size is None else (page_size, f"?PageSize={page_size}")
    else:
        size = min(limit, page_size or 1000)
        first_query = f"?PageSize={size}"
    assert len(api.requests) == (0 if limit == 0 else max(1, math.ceil(wanted / size)))
    assert api.queries[:1] == ([] if limit == 0 else [first_query])
    assert all(f"?PageSize={size}&" in query for query in api.queries[1:])


@pytest.mark.parametrize(
    ("arguments", "first_query"),
    [
        ({}, ""),
        ({"page_size": 1}, "?PageSize=1"),
        ({"page_size": 1000}, "?PageSize=1000"),
        ({"limit": 20}, "?PageSize=20"),
        ({"limit": 1000}, "?PageSize=1000"),
        ({"limit": 1001}, "?PageSize=1000"),
        ({"limit": 20, "page_size": 10}, "?PageSize=10"),
        ({"limit": 10, "page_size": 20}, "?PageSize=10"),
    ],
    ids=str,
)
@leaves_nothing
async def test_the_first_request_asks_for_no_more_items_than_the_limit(
    arguments: dict[str, int], first_query: str
) -> None:
    api = of(3)
    assert await numbers(api.listing(**arguments)) == [0, 1, 2]
    assert api.queries[0] == first_query


@leaves_nothing
async def test_later_requests_follow_the_urls_of_the_api_byte_for_byte() -> None:
    queries = ["?b=2&a=1", "?PageToken=PA%2b%2B+%20~%7e&Page=1", "?x=/?:@!$'()*,;=[]&&"]
    given = iter([*queries, None])
    api = InMemory(lambda _: page([len(api.requests)], next(given)))
    assert await numbers(api.listing(page_size=7)) == [1, 2, 3, 4]
    assert api.queries == ["?PageSize=7", *queries]


@pytest.mark.parametrize("prefetch", [0, 2])
@leaves_nothing
async def test_nothing_is_asked_for_before_the_first_item(prefetch: int) -> None:
    api = of(9)
    listing = api.listing(page_size=3, prefetch=prefetch)
    aiter(listing)
    aiter(listing.pages())
    await all_blocked()
    assert api.requests == []


@leaves_nothing
async def test_a_page_is_asked_for_when_the_one_before_is_used_up() -> None:
    api = of(9)
    asked = [len(api.requests) async for _ in api.listing(page_size=3)]
    assert asked == [1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("prefetch", [1, 2, 5])
@leaves_nothing
async def test_prefetch_reads_that_many_pages_ahead_and_no_more(prefetch: int) -> None:
    api = of(100)
    asked: list[int] = []
    async for _ in api.listing(page_size=1, prefetch=prefetch):
        await all_blocked()
        asked.append(len(api.requests))
    assert asked == [min(taken + prefetch, 100) for taken in range(1, 101)]


@leaves_nothing
async def test_with_prefetch_the_consumer_and_the_api_work_at_the_same_time() -> None:
    async for _ in of(10, seconds=1).listing(page_size=1):
        await asyncio.sleep(1)
    assert now() == 20
    async for _ in of(10, seconds=1).listing(page_size=1, prefetch=1):
        await asyncio.sleep(1)
    assert now() == 20 + 11


# Pages, lists, first items


@leaves_nothing
async def test_a_page_has_its_items_and_where_it_stands() -> None:
    api = of(5)
    first, last = [page async for page in api.listing(page_size=3).pages()]
    assert [item.sid for item in first.items] == [sid(0), sid(1), sid(2)]
    assert [item.sid for item in last.items] == [sid(3), sid(4)]
    assert (first.meta.page, first.meta.page_size, first.meta.key) == (0, 3, "extensions")
    assert first.next_page_url == first.meta.next_page_url == TWILIO + api.requests[1]
    assert (last.meta.page, last.next_page_url) == (1, None)


def test_a_page_cannot_be_changed() -> None:
    page = Page((1, 2), None)  # type: ignore[type-var, arg-type]  # any content will do
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        page.items = ()  # type: ignore[misc]  # that is what is tested


@leaves_nothing
async def test_pages_are_cut_to_the_limit() -> None:
    api = of(10)
    cut = [len(page.items) async for page in api.listing(page_size=3, limit=7).pages()]
    assert cut == [3, 3, 1]
    assert len(api.requests) == 3


@leaves_nothing
async def test_to_list_gives_all_items_up_to_the_limit() -> None:
    listed = await of(10).listing(page_size=3).to_list()
    assert [item.sid for item in listed] == [sid(number) for number in range(10)]
    assert len(await of(10).listing(page_size=3, limit=4).to_list()) == 4
    assert await of(0).listing().to_list() == []


@pytest.mark.parametrize(
    "arguments",
    [{}, {"page_size": 50}, {"limit": 10}, {"limit": 1}, {"prefetch": 3}],
    ids=str,
)
@leaves_nothing
async def test_first_is_one_request_of_one_item(arguments: dict[str, int]) -> None:
    api = of(100)
    assert await api.listing(**arguments).first() == Extension(
        sid(0), ADD_ON, url=f"{TWILIO}{PATH}/{sid(0)}"
    )
    assert api.queries == ["?PageSize=1"]


@leaves_nothing
async def test_first_of_an_empty_listing_is_none() -> None:
    api = of(0)
    assert await api.listing().first() is None
    assert len(api.requests) == 1


@leaves_nothing
async def test_first_with_limit_0_is_none_without_a_request() -> None:
    api = of(5)
    assert await api.listing(limit=0).first() is None
    assert api.requests == []


@leaves_nothing
async def test_first_looks_behind_empty_pages() -> None:
    api = pages([], [], [7, 8])
    first = await api.listing().first()
    assert first
    assert first.sid == sid(7)
    assert len(api.requests) == 3


# A pager is an iterable


@pytest.mark.parametrize("prefetch", [0, 2])
@leaves_nothing
async def test_each_iteration_starts_anew(prefetch: int) -> None:
    api = of(5)
    listing = api.listing(page_size=2, prefetch=prefetch)
    assert await numbers(listing) == await numbers(listing) == [0, 1, 2, 3, 4]
    assert api.requests[:3] == api.requests[3:]


@pytest.mark.parametrize("prefetch", [0, 2])
@leaves_nothing
async def test_two_loops_over_a_pager_do_not_share_a_position(prefetch: int) -> None:
    listing = of(3).listing(page_size=1, prefetch=prefetch)
    pairs = [(one.sid, two.sid) async for one in listing async for two in listing]
    sids = [sid(number) for number in range(3)]
    assert pairs == [(one, two) for one in sids for two in sids]


@pytest.mark.parametrize("prefetch", [0, 2])
@leaves_nothing
async def test_many_tasks_may_each_iterate_over_a_pager(prefetch: int) -> None:
    listing = of(20, seconds=1).listing(page_size=3, prefetch=prefetch)
    for listed in await asyncio.gather(*(numbers(listing) for _ in range(10))):
        assert listed == list(range(20))


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("what", ["items", "pages"])
@leaves_nothing
async def test_an_iterator_that_is_waited_for_by_one_task_refuses_another(
    what: str, prefetch: int
) -> None:
    listing = of(3, seconds=1).listing(prefetch=prefetch)
    iterator: AsyncIterator[Any] = aiter(listing if what == "items" else listing.pages())
    first = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task awaits the next"):
        await anext(iterator)
    assert await first


@leaves_nothing
async def test_an_iterator_may_be_handed_from_task_to_task() -> None:
    items = aiter(of(4).listing(page_size=1))

    async def take() -> str:
        return (await anext(items)).sid

    assert [await asyncio.create_task(take()) for _ in range(4)] == [sid(n) for n in range(4)]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(items)


def test_a_pager_shows_its_settings_and_cannot_be_changed() -> None:
    listing = of(1).listing(limit=5, page_size=2)
    assert repr(listing) == (
        f"Pager(_path='{PATH}', _limit=5, _page_size=2, _resume_from=None, _prefetch=0)"
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        listing._limit = 7  # type: ignore[misc]  # noqa: SLF001  # that is what is tested


# Resuming


@given(total=st.integers(0, 25), page_size=st.integers(1, 27), limit=st.none() | st.integers(1, 27))
@leaves_nothing
async def test_from_each_page_the_listing_resumes_with_exactly_the_rest(
    total: int, page_size: int, limit: int | None
) -> None:
    api = of(total)
    given = 0
    async for page in api.listing(page_size=page_size).pages():
        given += len(page.items)
        if page.next_page_url is None:
            break
        before = len(api.requests)
        rest = api.listing(resume_from=page.next_page_url, limit=limit)
        assert await numbers(rest) == list(range(given, total))[:limit]
        assert TWILIO + api.requests[before] == page.next_page_url
    assert given == total


@leaves_nothing
async def test_the_stored_url_settles_the_page_size_not_the_argument() -> None:
    api = of(10)
    stored = (await anext(aiter(api.listing(page_size=3).pages()))).next_page_url
    api.requests.clear()
    assert await numbers(api.listing(resume_from=stored, page_size=7, limit=4)) == [3, 4, 5, 6]
    assert all("?PageSize=3&" in query for query in api.queries)


@pytest.mark.parametrize(
    "url",
    [
        TWILIO + PATH,
        TWILIO + PATH + "?PageSize=3&Page=1&PageToken=PA1",
        f"https://marketplace.twilio.com:443{PATH}?Page=1",
        f"HTTPS://Marketplace.Twilio.Com{PATH}?Page=1",
        f"https://marketplace.ie1.twilio.com{PATH}?Page=1",
    ],
)
def test_urls_of_the_session_and_of_twilio_are_pages_of_the_listing(url: str) -> None:
    target = trusted_path(url, URL("https://marketplace.ie1.twilio.com"), PATH)
    assert target == PATH + url.partition(PATH)[2]


# Arguments


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"limit": -1}, ValueError),
        ({"limit": 1.0}, TypeError),
        ({"limit": True}, TypeError),
        ({"limit": "5"}, TypeError),
        ({"page_size": 0}, ValueError),
        ({"page_size": -1}, ValueError),
        ({"page_size": 1001}, ValueError),
        ({"page_size": "50"}, TypeError),
        ({"prefetch": -1}, ValueError),
        ({"prefetch": True}, TypeError),
        ({"prefetch": None}, TypeError),
        ({"resume_from": 7}, UntrustedPageUrlError),
    ],
    ids=str,
)
def test_arguments_out_of_bounds_are_refused_when_the_pager_is_made(
    arguments: dict[str, Any], expected: type[Exception]
) -> None:
    api = of(1)
    with pytest.raises(expected):
        api.listing(**arguments)
    assert api.requests == []


# Pages that are not quite as they should be


@pytest.mark.parametrize("prefetch", [0, 2])
@leaves_nothing
async def test_a_listing_goes_on_behind_an_empty_page(prefetch: int) -> None:
    api = pages([1, 2], [], [], [3])
    assert await numbers(api.listing(prefetch=prefetch)) == [1, 2, 3]
    assert len(api.requests) == 4


@leaves_nothing
async def test_an_empty_page_is_given_as_a_page() -> None:
    given = [len(page.items) async for page in pages([1, 2], [], [3]).listing().pages()]
    assert given == [2, 0, 1]


@leaves_nothing
async def test_an_item_that_stood_on_the_page_before_is_not_given_twice() -> None:
    api = pages([1, 2, 3], [3, 4, 5], [5], [4, 6])
    assert await numbers(api.listing()) == [1, 2, 3, 4, 5, 4, 6]


@leaves_nothing
async def test_the_limit_counts_what_is_given() -> None:
    api = pages([1, 2], [2, 3], [3, 4], [4, 5])
    assert await numbers(api.listing(limit=3)) == [1, 2, 3]
    assert len(api.requests) == 2


@leaves_nothing
async def test_an_item_that_is_twice_on_one_page_is_given_as_it_stands_there() -> None:
    assert await numbers(pages([1, 1, 2]).listing()) == [1, 1, 2]


@pytest.mark.parametrize("old", [[], [7]], ids=["nothing", "what stood before"])
@pytest.mark.parametrize("prefetch", [0, 3])
@leaves_nothing
async def test_a_hundred_pages_in_a_row_without_a_new_item_are_a_loop(
    old: list[int], prefetch: int
) -> None:
    api = pages([6, 7], *[old] * 99, [8, *old], *[old] * 200)
    given, error = await until_error(api.listing(prefetch=prefetch))
    assert given == [6, 7, 8]
    assert isinstance(error, PageLoopError)
    assert error.problem == "100 pages in a row brought no new item"
    assert error.url == f"{TWILIO}{PATH}?Page=201"
    assert len(api.requests) == 1 + 99 + 1 + 100


@pytest.mark.parametrize("prefetch", [0, 3])
@leaves_nothing
async def test_pages_in_a_circle_are_a_loop(prefetch: int) -> None:
    def respond(path_and_query: str) -> bytes:
        index = int(URL(path_and_query).query.get("Page", 0))
        return page([len(api.requests)], f"?Page={(index + 1) % 3}")

    api = InMemory(respond)
    given, error = await until_error(api.listing(prefetch=prefetch))
    # The first page has two URLs: without a query, and the one that leads back to it.
    assert given == [1, 2, 3, 4]
    assert isinstance(error, PageLoopError)
    assert error.problem == "the pages lead in a circle, back to this one"
    assert (error.method, error.url) == ("GET", f"{TWILIO}{PATH}?Page=1")


@leaves_nothing
async def test_a_listing_without_meta_is_an_error_and_not_a_short_listing() -> None:
    api = InMemory(lambda _: b'{"extensions": []}')
    with pytest.raises(InvalidResponseError, match="meta"):
        await api.listing().to_list()


# Errors on the way


def failing_once(total: int, at_request: int) -> InMemory:
    """A listing of which one request fails."""
    good = answers_of(total)

    def respond(path_and_query: str) -> bytes:
        if len(api.requests) == at_request:
            error = ServerError(503)
            error.method, error.url = "GET", TWILIO + path_and_query
            raise error
        return good(path_and_query)

    api = InMemory(respond)
    return api


@leaves_nothing
async def test_after_an_error_the_iterator_asks_for_the_same_page_again() -> None:
    api = failing_once(6, at_request=2)
    items = aiter(api.listing(page_size=2))
    assert [(await anext(items)).sid for _ in range(2)] == [sid(0), sid(1)]
    with pytest.raises(ServerError):
        await anext(items)
    assert await numbers(items) == [2, 3, 4, 5]
    assert api.requests[1] == api.requests[2]


@pytest.mark.parametrize("prefetch", [0, 2])
@leaves_nothing
async def test_after_an_error_the_listing_resumes_from_the_url_of_the_error(prefetch: int) -> None:
    api = failing_once(6, at_request=2)
    given, error = await until_error(api.listing(page_size=2, prefetch=prefetch))
    assert given == [0, 1]
    assert isinstance(error, ServerError)
    assert await numbers(api.listing(resume_from=error.url)) == [2, 3, 4, 5]


@leaves_nothing
async def test_what_was_read_ahead_is_given_before_the_error_which_then_stays() -> None:
    items = aiter(failing_once(6, at_request=3).listing(page_size=2, prefetch=5))
    await anext(items)
    await all_blocked()
    assert [(await anext(items)).sid for _ in range(3)] == [sid(1), sid(2), sid(3)]
    for _ in range(3):
        with pytest.raises(ServerError):
            await anext(items)


# Leaving early


async def leave_by_break(listing: AsyncIterator[object]) -> None:
    async for _ in listing:
        break


async def leave_by_exception(listing: AsyncIterator[object]) -> None:
    with contextlib.suppress(LookupError):
        async for _ in listing:
            raise LookupError


async def leave_by_cancellation_of_the_body(listing: AsyncIterator[object]) -> None:
    async def consume() -> None:
        async for _ in listing:
            await asyncio.sleep(3600)

    await cancel_after(1.5, consume())


async def leave_by_cancellation_of_the_wait(listing: AsyncIterator[object]) -> None:
    async def consume() -> None:
        async for _ in listing:
            pass

    await cancel_after(1.5, consume())


async def leave_by_aclose(listing: Any) -> None:
    await anext(listing)
    await listing.aclose()
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(listing)


async def cancel_after(seconds: float, consuming: Any) -> None:
    task = asyncio.create_task(consuming)
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


WAYS = [
    leave_by_break,
    leave_by_exception,
    leave_by_cancellation_of_the_body,
    leave_by_cancellation_of_the_wait,
    leave_by_aclose,
]


@pytest.mark.parametrize("what", ["items", "pages"])
@pytest.mark.parametrize("prefetch", [0, 1, 5])
@pytest.mark.parametrize("leave", WAYS)
@leaves_nothing
async def test_a_listing_that_is_left_early_asks_for_nothing_more(
    leave: Callable[[Any], Any], prefetch: int, what: str
) -> None:
    api = of(100, seconds=1)
    listing = api.listing(page_size=1, prefetch=prefetch)
    iterator: Any = aiter(listing) if what == "items" else aiter(listing.pages())
    await leave(iterator)
    del iterator
    await asyncio.sleep(100)
    assert len(api.requests) <= 2


@leaves_nothing
async def test_after_a_cancelled_wait_the_iterator_asks_for_the_same_page_again() -> None:
    api = of(4, seconds=1)
    items = aiter(api.listing(page_size=2))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await anext(items)
    assert await numbers(items) == [0, 1, 2, 3]
    assert api.requests[0] == api.requests[1]


# On a real server


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


def on(sandbox: Sandbox, **settings: Any) -> MarketplaceSession:
    return open_session(sandbox.credentials, base_url=sandbox.url, **settings)


def sids(listed: Iterable[Extension | AvailableAddOn]) -> list[str]:
    return [item.sid for item in listed]


@pytest.mark.parametrize("prefetch", [0, 2])
async def test_a_listing_of_add_ons_is_the_catalogue(sandbox: Sandbox, prefetch: int) -> None:
    async with on(sandbox) as session:
        listed = await session.available_add_ons.list(page_size=40, prefetch=prefetch).to_list()
    assert sids(listed) == [*sandbox.catalog]
    first, *others = [str(request.url) for request in sandbox.requests]
    assert first == "/v1/AvailableAddOns?PageSize=40"
    assert len(others) == 3


async def test_on_the_wire_the_urls_of_the_api_are_as_it_gave_them(sandbox: Sandbox) -> None:
    query = "?b=2&a=1&PageToken=PA%2b%2B+%20~%7e!$'()*,;:@/?="
    sandbox.fail_next(200, body=page([1], query))
    sandbox.fail_next(200, body=page([2], None))
    async with on(sandbox) as session:
        await session.available_add_ons(ADD_ON).extensions.list().to_list()
    assert sandbox.requests[1].url.raw_path_qs == PATH + query


async def test_canonical_urls_of_pages_are_asked_for_at_the_sessions_own_host() -> None:
    async with Sandbox(public_base_url=TWILIO) as sandbox, on(sandbox) as session:
        pages = [page async for page in session.available_add_ons.list(page_size=40).pages()]
        assert sum(len(page.items) for page in pages) == len(sandbox.catalog)
        assert len(sandbox.requests) == 4
        stored = pages[1].next_page_url
        assert stored
        assert stored.startswith(TWILIO)
        rest = await session.available_add_ons.list(resume_from=stored).to_list()
        assert sids(rest) == [*sandbox.catalog][80:]


async def test_another_session_resumes_from_a_stored_url(sandbox: Sandbox) -> None:
    async with on(sandbox) as session:
        page = await anext(aiter(session.available_add_ons.list(page_size=100).pages()))
    async with on(sandbox) as session:
        rest = session.available_add_ons.list(resume_from=page.next_page_url)
        assert sids(page.items) + sids(await rest.to_list()) == [*sandbox.catalog]


async def test_a_listing_goes_on_from_the_url_of_the_page_that_failed(sandbox: Sandbox) -> None:
    listed: list[str] = []
    async with on(sandbox, retry=RetryPolicy.off()) as session:
        try:
            async for listing in session.available_add_ons.list(page_size=50):
                listed.append(listing.sid)
                if len(listed) == 100:
                    sandbox.fail_next(503)
        except MarketplaceError as error:
            listed += sids(await session.available_add_ons.list(resume_from=error.url).to_list())
    assert listed == [*sandbox.catalog]
    assert [request.status for request in sandbox.requests] == [200, 200, 503, 200]


async def test_a_page_that_fails_is_tried_again_and_nothing_is_lost_or_given_twice() -> None:
    retry = RetryPolicy(attempts=20, wait_initial=0.001, wait_max=0.002)
    async with Sandbox(failure_rate=0.3, seed=7) as sandbox, on(sandbox, retry=retry) as session:
        listed = await session.available_add_ons.list(page_size=10, prefetch=1).to_list()
        assert sids(listed) == [*sandbox.catalog]
        assert len(sandbox.requests) > 15


async def test_while_items_are_given_the_connection_is_free_for_other_calls(
    sandbox: Sandbox,
) -> None:
    one_connection = aiohttp.TCPConnector(limit=1)
    async with (
        aiohttp.ClientSession(connector=one_connection) as http,
        on(sandbox, http=http, limiter=asyncio.Semaphore(1)) as session,
        asyncio.timeout(30),
    ):
        async for listing in session.available_add_ons.list(limit=3, page_size=1):
            assert await session.available_add_ons(listing.sid).fetch() == listing


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("how", ["break", "exception", "cancelled body", "cancelled wait"])
async def test_a_listing_that_is_left_early_gives_its_connection_back(
    sandbox: Sandbox, how: str, prefetch: int
) -> None:
    sandbox.delay_next(0)
    if how == "cancelled wait":
        sandbox.delay_next(60)

    async def read() -> None:
        async for _ in listing:
            if how == "break":
                break
            if how == "exception":
                raise LookupError
            if how == "cancelled body":
                await asyncio.sleep(3600)

    before = asyncio.all_tasks()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http,
        on(sandbox, http=http) as session,
        asyncio.timeout(30),
    ):
        listing = session.available_add_ons.list(page_size=1, prefetch=prefetch)
        reading = asyncio.create_task(read())
        if how.startswith("cancelled"):
            while len(sandbox.requests) < (2 if prefetch or how == "cancelled wait" else 1):
                await asyncio.sleep(0.001)
            reading.cancel()
        with contextlib.suppress(LookupError, asyncio.CancelledError):
            await reading
        assert (await listing.first()) is not None
    async with asyncio.timeout(30):
        while not asyncio.all_tasks() <= before:
            await asyncio.sleep(0.001)
