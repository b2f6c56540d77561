"""Listings: requests, pages, the limit, next pages that cannot be trusted, prefetch and errors."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import aiohttp
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leftovers import all_blocked, leaves_nothing
from scripted_api import ADD_ON, CREDENTIALS, Answer, Request, ScriptedApi, error
from yarl import URL

from marketplace_async import (
    Extension,
    Extensions,
    InvalidItemError,
    InvalidResponseError,
    MarketplaceError,
    MarketplaceSession,
    PageLoopError,
    RetryPolicy,
    ServerError,
    UntrustedPageUrlError,
    open_session,
)
from marketplace_async.paging import trusted_path
from marketplace_async.sandbox import Sandbox

TWILIO = "https://marketplace.twilio.com"
PATH = f"/v1/AvailableAddOns/{ADD_ON}/Extensions"

Respond = Callable[[Request], Answer]
prefetch_or_not = pytest.mark.parametrize("prefetch", [False, True], ids=["plain", "prefetch"])


def sid(number: int) -> str:
    return f"XF{number:032}"


def numbers(items: Iterable[Extension]) -> list[int]:
    return [int(item.sid.removeprefix("XF")) for item in items]


def page(items: Iterable[object], meta: object, seconds: float = 0.01) -> Answer:
    """A page of Extensions; a number stands for the Extension with this SID."""
    values = [{"sid": sid(item)} if isinstance(item, int) else item for item in items]
    return Answer(json.dumps({"extensions": values, "meta": meta}).encode(), seconds=seconds)


def catalog(total: int, seconds: float = 0.01) -> Respond:
    """An API with the Extensions 0 to ``total`` - 1, whose responses take ``seconds``."""

    def respond(request: Request) -> Answer:
        query = request.url.query
        size, start = int(query.get("PageSize", 50)), int(query.get("Start", 0))
        end = start + size
        url = f"{TWILIO}{PATH}?PageSize={size}&Start={end}"
        meta = {"next_page_url": url if end < total else None}
        return page(range(start, min(end, total)), meta, seconds)

    return respond


def pages(*contents: Iterable[object], last: int | None = None, url: object = None) -> Respond:
    """An API with exactly these pages; the last one leads to page ``last``.

    ``url`` is what each page says that its own URL is, where ``{}`` stands for its number.
    """

    def respond(request: Request) -> Answer:
        index = int(request.url.query.get("Page", 0))
        following = index + 1 if index + 1 < len(contents) else last
        next_page_url = None if following is None else f"{TWILIO}{PATH}?Page={following}"
        own = url.format(index) if isinstance(url, str) else url
        return page(contents[index], {"next_page_url": next_page_url, "url": own})

    return respond


def failing_once(respond: Respond, answer: Answer) -> Respond:
    """An API of which the second request fails."""
    requests = 0

    def fail(request: Request) -> Answer:
        nonlocal requests
        requests += 1
        return answer if requests == 2 else respond(request)

    return fail


@asynccontextmanager
async def served(
    respond: Respond, **settings: Any
) -> AsyncGenerator[tuple[Extensions, ScriptedApi]]:
    async with ScriptedApi(then=respond) as api, api.session(**settings) as session:
        yield session.available_add_ons(ADD_ON).extensions, api


async def read(items: AsyncIterable[Extension]) -> tuple[list[int], MarketplaceError | None]:
    """The numbers of the items, and the error that ended the listing."""
    found: list[Extension] = []
    try:
        async for item in items:
            found.append(item)  # noqa: PERF401  # the items before an error count
    except MarketplaceError as error:
        return numbers(found), error
    return numbers(found), None


# Items, pages, lists


@given(
    total=st.integers(0, 40),
    page_size=st.none() | st.integers(1, 45),
    limit=st.none() | st.integers(0, 45),
    prefetch=st.booleans(),
)
@leaves_nothing
async def test_slice(
    total: int, page_size: int | None, limit: int | None, *, prefetch: bool
) -> None:
    """A listing is the first ``limit`` items, in as few requests as the page size permits."""
    async with served(catalog(total)) as (extensions, api):
        pager = extensions.list(limit=limit, page_size=page_size, prefetch=prefetch)
        assert await read(pager) == (list(range(total))[:limit], None)
    wanted = total if limit is None else min(total, limit)
    size = page_size if limit is None else min(limit, page_size or 1000)
    assert len(api.requests) == (0 if limit == 0 else max(1, math.ceil(wanted / (size or 50))))
    for request in api.requests[:1]:
        assert request.url.query == ({} if size is None else {"PageSize": str(size)})


@settings(max_examples=25)
@given(total=st.integers(1, 25), page_size=st.integers(1, 27), limit=st.none() | st.integers(0, 27))
@leaves_nothing
async def test_resume(total: int, page_size: int, limit: int | None) -> None:
    """If resumed from the next page URL of any page, a listing is exactly the rest."""
    async with served(catalog(total)) as (extensions, api):
        used = 0
        async for each in extensions.list(page_size=page_size).pages():
            used += len(each)
            if each.next_page_url is not None:
                rest = extensions.list(resume_from=each.next_page_url, page_size=3, limit=limit)
                assert await read(rest) == (list(range(used, total))[:limit], None)
    assert used == total
    for request in api.requests:  # the page size is the one of the URL
        assert request.url.query["PageSize"] == str(page_size)


@prefetch_or_not
@leaves_nothing
async def test_lazy(*, prefetch: bool) -> None:
    """Creating pagers and iterators sends nothing."""
    async with served(catalog(9)) as (extensions, api):
        pager = extensions.list(prefetch=prefetch)
        aiter(pager)
        pager.pages()
        await all_blocked()
    assert api.requests == []


@leaves_nothing
async def test_page_by_page() -> None:
    """A page is requested when the one before is used up."""
    async with served(catalog(6)) as (extensions, api):
        counts = [len(api.requests) async for _ in extensions.list(page_size=2)]
    assert counts == [1, 1, 2, 2, 3, 3]


@leaves_nothing
async def test_await() -> None:
    """``await pager`` and ``to_list`` return all items in a list, as often as awaited."""
    async with served(catalog(5)) as (extensions, _):
        pager = extensions.list(page_size=2)
        items = await pager
        assert items == await pager == await pager.to_list() == [item async for item in pager]
    assert items == [Extension(sid(number), ADD_ON) for number in range(5)]


@leaves_nothing
async def test_pages() -> None:
    """A page has a length, items, meta and a next page URL, and is cut to the limit."""
    async with served(pages([1, 2], [], [3, 4])) as (extensions, _):
        first, empty, last = [each async for each in extensions.list(limit=3).pages()]
    assert (len(first), len(empty), len(last)) == (2, 0, 1)
    assert list(first) == [*first.items] == [Extension(sid(number), ADD_ON) for number in (1, 2)]
    assert first.next_page_url == first.meta.next_page_url == f"{TWILIO}{PATH}?Page=1"
    assert last.next_page_url is None
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        first.items = ()  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("arguments", [{}, {"limit": 9}, {"page_size": 5}, {"prefetch": True}])
@leaves_nothing
async def test_first(arguments: dict[str, Any]) -> None:
    """``first`` returns the first item and requests one only."""
    async with served(catalog(9)) as (extensions, api):
        assert await extensions.list(**arguments).first() == Extension(sid(0), ADD_ON)
    assert [request.url.query_string for request in api.requests] == ["PageSize=1"]


@leaves_nothing
async def test_first_empty() -> None:
    """``first`` skips empty pages, and returns None if there is no item or the limit is 0."""
    async with served(pages([], [], [7])) as (extensions, api):
        assert await extensions.list().first() == Extension(sid(7), ADD_ON)
        assert await extensions.list(limit=0).first() is None
        assert len(api.requests) == 3
    async with served(catalog(0)) as (extensions, _):
        assert await extensions.list().first() is None


@prefetch_or_not
@leaves_nothing
async def test_independent(*, prefetch: bool) -> None:
    """Iterations over one pager share no position, in one task or in several."""
    async with served(catalog(3)) as (extensions, _):
        pager = extensions.list(page_size=1, prefetch=prefetch)
        pairs = [(a.sid, b.sid) async for a in pager async for b in pager]
        assert pairs == [(sid(a), sid(b)) for a in range(3) for b in range(3)]
        for each in await asyncio.gather(*(read(pager) for _ in range(10))):
            assert each == ([0, 1, 2], None)


@pytest.mark.parametrize(
    ("arguments", "expected", "text"),
    [
        ({"limit": -1}, ValueError, "^limit must be at least 0, not -1$"),
        ({"limit": "5"}, TypeError, "^limit must be int, not str$"),
        ({"limit": True}, TypeError, "^limit must be int, not bool$"),
        ({"page_size": 0}, ValueError, "^page_size must be between 1 and 1000, not 0$"),
        ({"page_size": 1001}, ValueError, "^page_size must be"),
        ({"page_size": 1.0}, TypeError, "^page_size must"),
        ({"prefetch": 1}, TypeError, "^prefetch must be bool, not int$"),
        ({"skip_invalid": None}, TypeError, "^skip_invalid must"),
        ({"resume_from": 7}, TypeError, "^resume_from must be str, not int$"),
        ({"resume_from": ""}, UntrustedPageUrlError, "does not belong to"),
        ({"resume_from": f"{TWILIO}/v1/Elsewhere"}, UntrustedPageUrlError, "not belong"),
    ],
    ids=str,
)
def test_arguments(arguments: dict[str, Any], expected: type[Exception], text: str) -> None:
    """If an argument of ``list`` is wrong, the error names it."""
    add_ons = open_session(CREDENTIALS).available_add_ons
    for listing in add_ons, add_ons(ADD_ON).extensions:
        with pytest.raises(expected, match=text):
            listing.list(**arguments)


@leaves_nothing
async def test_repr() -> None:
    """The repr of a pager is one line with the URL and the limit."""
    async with served(catalog(1)) as (extensions, _):
        assert repr(extensions.list()) == f"<Pager of {TWILIO}{PATH}>"
        assert repr(extensions.list(limit=5)) == f"<Pager of {TWILIO}{PATH}, at most 5 items>"


# A catalogue that changes while it is read, and cycles


@prefetch_or_not
@leaves_nothing
async def test_repeated_items(*, prefetch: bool) -> None:
    """Items that were on the page before are omitted, and do not count towards the limit."""
    async with served(pages([1, 2, 3], [3, 4, 5], [5], [4, 6, 6])) as (extensions, api):
        pager = extensions.list(prefetch=prefetch)
        assert await read(pager) == ([1, 2, 3, 4, 5, 4, 6, 6], None)
        assert [len(each) async for each in pager.pages()] == [3, 2, 0, 3]
        api.requests.clear()
        assert await read(extensions.list(limit=4)) == ([1, 2, 3, 4], None)
        assert len(api.requests) == 2


@pytest.mark.parametrize("old", [[], [7]], ids=["empty", "repeated"])
@prefetch_or_not
@leaves_nothing
async def test_no_new_items(old: list[int], *, prefetch: bool) -> None:
    """A hundred pages in a row without a new item are an error; 99 are not."""
    respond = pages([6, 7], *[old] * 99, [8, *old], *[old] * 200)
    async with served(respond) as (extensions, api):
        found, caught = await read(extensions.list(prefetch=prefetch))
    assert found == [6, 7, 8]
    assert isinstance(caught, PageLoopError)
    assert caught.problem == "100 pages in a row have no new item"
    assert (caught.method, caught.url) == ("GET", f"{TWILIO}{PATH}?Page=201")
    assert len(api.requests) == 201


@settings(max_examples=50)
@given(length=st.integers(1, 6), entry=st.integers(0, 5), prefetch=st.booleans())
@leaves_nothing
async def test_cycle(length: int, entry: int, *, prefetch: bool) -> None:
    """A cycle is an error before any item is yielded twice, also through the first page."""
    entry %= length
    respond = pages(*([n] for n in range(length)), last=entry, url=f"{TWILIO}{PATH}?Page={{}}")
    async with served(respond) as (extensions, api):
        found, caught = await read(extensions.list(prefetch=prefetch))
    assert found == list(range(length))
    assert isinstance(caught, PageLoopError)
    assert caught.problem == "the pages form a cycle: this one was requested before"
    assert caught.url == f"{TWILIO}{PATH}?Page={entry}"
    assert len(api.requests) == length


@leaves_nothing
async def test_cycle_without_url() -> None:
    """If the pages do not name themselves, a cycle through the first is found a turn later."""
    async with served(pages([0], [1], [2], last=0)) as (extensions, _):
        found, caught = await read(extensions.list())
        assert (found, type(caught)) == ([0, 1, 2, 0], PageLoopError)
        found, caught = await read(extensions.list(resume_from=f"{TWILIO}{PATH}?Page=0"))
        assert (found, type(caught)) == ([0, 1, 2], PageLoopError)


@pytest.mark.parametrize("url", ["https://evil.example/", "", 7, f"{TWILIO}{PATH}"], ids=repr)
@leaves_nothing
async def test_wrong_own_url(url: object) -> None:
    """If a page names itself wrongly, the listing continues."""
    async with served(pages([1], [2], [3], url=url)) as (extensions, _):
        assert await read(extensions.list()) == ([1, 2, 3], None)


# Trusted URLs


@pytest.mark.parametrize(
    ("origin", "start"),
    [
        (TWILIO, TWILIO),
        (TWILIO, "HTTPS://Marketplace.Twilio.Com:443"),
        (TWILIO, "https://marketplace.sydney.au1.twilio.com"),
        ("https://marketplace.dublin.ie1.twilio.com", TWILIO),
        ("https://api.example:8443", "https://API.example:8443"),
        ("https://api.example:8443", TWILIO),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "http://[::1]:8080"),
        ("http://localhost:8080", "https://localhost:8080"),
        ("http://localhost:8080", TWILIO),
    ],
)
@pytest.mark.parametrize("path", [PATH, PATH.replace(ADD_ON, ADD_ON.upper())])
@pytest.mark.parametrize("query", ["", "?PageSize=3&PageToken=PA%2b%2B+%20~%7e"])
def test_trusted(origin: str, start: str, path: str, query: str) -> None:
    """Path and query of the listing's URLs on known hosts are returned unchanged."""
    assert trusted_path(start + path + query, URL(origin), PATH) == path + query


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example{path}",
        "https://marketplace.twilio.com.evil.example{path}",
        "https://evilmarketplace.twilio.com{path}",
        "https://marketplace.a.b.c.twilio.com{path}",
        "https://marketplace.twilio.com@evil.example{path}",
        "https://evil.example\\@marketplace.twilio.com{path}",
        "https://evil.example#@marketplace.twilio.com{path}",
        "https://user:word@marketplace.twilio.com{path}",
        "https://word@marketplace.twilio.com{path}",
        "https://:word@marketplace.twilio.com{path}",
        "https://marketplace.twilio.com{path}#fragment",
        "https://marketplace.twilio.com:8443{path}",
        "http://marketplace.twilio.com:443{path}",
        "http://localhost:8081{path}",
        "http://localhost{path}",
        "http://192.168.0.1:8080{path}",
        "ftp://localhost:8080{path}",
        "//localhost:8080{path}",
        "{path}?Page=1",
        "",
        "http://localhost:8080/v1/AvailableAddOns",
        "http://localhost:8080{path}/",
        "http://localhost:8080{path}/../Other",
        "http://localhost:8080" + PATH.replace("v1", "%761"),
        "http://localhost:8080/{path}",
        "http://localhost:8080{path}?Page=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "http://\uff11\uff12\uff17.0.0.1:8080{path}",
        "http://localhost:8080{path}\n",
        "http://[{path}",
        "http://localhost:99999{path}",
        "http://localhost:8080{path}?Page=" + "1" * 9_000,
    ],
)
def test_untrusted(url: str) -> None:
    """Any other URL is an error of one short printable line without its password."""
    with pytest.raises(UntrustedPageUrlError) as caught:
        trusted_path(url.format(path=PATH), URL("http://localhost:8080"), PATH)
    text = str(caught.value)
    assert len(text) < 1_000
    assert text.isprintable()
    assert "word" not in text


def test_loopback_only() -> None:
    """A session with a remote host does not accept the names of this machine."""
    with pytest.raises(UntrustedPageUrlError):
        trusted_path(f"https://localhost{PATH}", URL(TWILIO), PATH)


@prefetch_or_not
@leaves_nothing
async def test_untrusted_next(*, prefetch: bool) -> None:
    """An untrusted next page is an error after the items of its page, and is not requested."""
    answer = page([1], {"next_page_url": "https://evil.example/"})
    async with served(lambda _: answer) as (extensions, api):
        found, caught = await read(extensions.list(prefetch=prefetch))
    assert (found, type(caught)) == ([1], UntrustedPageUrlError)
    assert len(api.requests) == 1


@leaves_nothing
async def test_requests_to_origin() -> None:
    """All requests go to the session's origin, whichever trusted host a page names."""
    async with served(pages([1], [2]), region="ie1") as (extensions, api):
        assert await read(extensions.list()) == ([1, 2], None)
    assert {request.url.host for request in api.requests} == {"marketplace.dublin.ie1.twilio.com"}


async def test_query_unchanged(
    marketplace_sandbox: Sandbox, marketplace_session: MarketplaceSession
) -> None:
    """The query of a next page URL is sent byte for byte."""
    target = PATH + "?b=2&a=1&PageToken=PA%2b%2B+%20~%7e!$'()*,;:@/?="
    marketplace_sandbox.fail_next(200, body=page([1], {"next_page_url": TWILIO + target}).body)
    marketplace_sandbox.fail_next(200, body=page([2], {}).body)
    async with marketplace_session as session:
        await session.available_add_ons(ADD_ON).extensions.list(page_size=7)
    sent = [request.url.raw_path_qs for request in marketplace_sandbox.requests]
    assert sent == [PATH + "?PageSize=7", target]


# Meta and items that are not as described


@pytest.mark.parametrize(
    "meta", [{}, {"next_page_url": None}, {"next_page_url": ""}, {"page": "x", "key": 7}], ids=str
)
@leaves_nothing
async def test_sparse_meta(meta: dict[str, object]) -> None:
    """Without a next page URL a page is the last one; other fields of meta may be anything."""
    async with served(lambda _: page([1], meta)) as (extensions, _):
        (only,) = [each async for each in extensions.list().pages()]
    assert numbers(only) == [1]
    assert (only.next_page_url, only.meta.page, only.meta.key) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"extensions": []}', "$.meta"),
        (b'{"extensions": [], "meta": null}', "$.meta"),
        (b'{"extensions": [], "meta": {"next_page_url": 7}}', "$.meta.next_page_url"),
        (b'{"meta": {}}', "$.extensions"),
    ],
)
@leaves_nothing
async def test_no_page(body: bytes, field: str) -> None:
    """If a response does not tell whether there are more items, it is an error."""
    async with served(lambda _: Answer(body, seconds=0.01)) as (extensions, api):
        with pytest.raises(InvalidResponseError) as caught:
            await extensions.list()
    assert caught.value.field == field
    assert len(api.requests) == 1


@prefetch_or_not
def test_invalid_item(caplog: pytest.LogCaptureFixture, *, prefetch: bool) -> None:
    """An invalid item is an error with the valid ones and URLs to resume from, or skipped."""

    @leaves_nothing
    async def run() -> None:
        invalid = {"sid": sid(3), "friendly_name": 7}
        async with served(pages([1], [2, invalid, 4], [5])) as (extensions, _):
            found, caught = await read(extensions.list(prefetch=prefetch))
            assert found == [1]
            assert isinstance(caught, InvalidItemError)
            assert caught.field == "$.extensions[1].friendly_name"
            assert numbers(caught.items) == [2, 4]
            after = extensions.list(resume_from=caught.next_page_url)
            assert await read(after) == ([5], None)
            again = extensions.list(resume_from=caught.url, skip_invalid=True)
            assert await read(again) == ([2, 4, 5], None)

    run()
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert sid(3) in record.getMessage()


# Prefetch, and leaving a listing early


@leaves_nothing
async def test_prefetch_one_page() -> None:
    """With ``prefetch`` the next page is requested while this one is used, and no further."""
    counts: list[int] = []
    async with served(catalog(6)) as (extensions, api):
        async for _ in extensions.list(page_size=2, prefetch=True):
            await all_blocked()
            counts.append(len(api.requests))
    assert counts == [2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(("prefetch", "seconds"), [(False, 20), (True, 11)])
@leaves_nothing
async def test_prefetch_time(seconds: int, *, prefetch: bool) -> None:
    """With ``prefetch`` the consumer and the API work at the same time."""
    async with served(catalog(10, seconds=1)) as (extensions, _):
        async for _ in extensions.list(page_size=1, prefetch=prefetch):
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() == pytest.approx(seconds)


@pytest.mark.parametrize("leave", [False, True], ids=["raised", "unused"])
@leaves_nothing
async def test_prefetch_error(*, leave: bool) -> None:
    """An error of the page ahead is raised after this page, and never logged by asyncio."""
    found = 0
    async with served(failing_once(catalog(6), error(404, seconds=0.01))) as (extensions, api):
        with suppress(MarketplaceError):
            async for _ in extensions.list(page_size=2, prefetch=True):
                found += 1
                await all_blocked()
                if leave:
                    break
    assert found == (1 if leave else 2)
    assert len(api.requests) == 2


async def use_partly(items: Any, how: str) -> None:
    if how == "aclose":
        async with aclosing(aiter(items)) as iterator:
            await anext(iterator)
        assert asyncio.all_tasks() == {asyncio.current_task()}  # at once
        return
    async with asyncio.timeout(1.5):
        async for _ in items:
            if how == "break":
                break
            if how == "error":
                raise LookupError
            if how == "timeout while used":
                await asyncio.sleep(3600)


@pytest.mark.parametrize("kind", ["items", "pages"])
@prefetch_or_not
@pytest.mark.parametrize("how", ["break", "error", "timeout while used", "timeout", "aclose"])
@leaves_nothing
async def test_leave_early(how: str, kind: str, *, prefetch: bool) -> None:
    """A listing that is left early sends nothing more and leaves no task."""
    async with served(catalog(100, seconds=1)) as (extensions, api):
        pager = extensions.list(page_size=1, prefetch=prefetch)
        with suppress(LookupError, TimeoutError):
            await use_partly(pager if kind == "items" else pager.pages(), how)
        await asyncio.sleep(0.1)  # less than a request takes
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await all_blocked()
    assert len(api.requests) <= 2


@prefetch_or_not
@leaves_nothing
async def test_timeout(*, prefetch: bool) -> None:
    """If a timeout around the listing expires, nothing is left and the pager can be reused."""
    async with served(catalog(4, seconds=1)) as (extensions, _):
        pager = extensions.list(page_size=1, prefetch=prefetch)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await pager
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with asyncio.timeout(4.5):
            assert numbers(await pager) == [0, 1, 2, 3]


async def test_nothing_held() -> None:
    """While a page is used, neither the connection nor the slot of the limiter is held."""
    async with (
        asyncio.timeout(30),
        Sandbox() as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http,
        open_session(
            sandbox.credentials, base_url=sandbox.url, http=http, limiter=asyncio.Semaphore(1)
        ) as session,
    ):
        for prefetch in False, True:
            async for add_on in session.available_add_ons.list(page_size=40, prefetch=prefetch):
                if add_on.sid.endswith("0"):
                    assert await session.available_add_ons(add_on).fetch() == add_on


# Pages that fail


@prefetch_or_not
@leaves_nothing
async def test_page_retried(*, prefetch: bool) -> None:
    """A page that fails is requested again, and no item is lost or repeated."""
    async with served(failing_once(catalog(6), error(503, seconds=0.01))) as (extensions, api):
        pager = extensions.list(page_size=2, prefetch=prefetch)
        assert await read(pager) == ([0, 1, 2, 3, 4, 5], None)
    assert api.requests[1].url == api.requests[2].url


@prefetch_or_not
@leaves_nothing
async def test_resume_after_error(*, prefetch: bool) -> None:
    """After an error the iterator is finished; a new listing resumes from the error's URL."""
    respond = failing_once(catalog(6), error(503, seconds=0.01))
    async with served(respond, retry=RetryPolicy.off()) as (extensions, _):
        items = aiter(extensions.list(page_size=2, prefetch=prefetch))
        found, caught = await read(items)
        assert (found, type(caught)) == ([0, 1], ServerError)
        assert await read(items) == ([], None)
        assert caught is not None
        assert await read(extensions.list(resume_from=caught.url)) == ([2, 3, 4, 5], None)


@prefetch_or_not
async def test_catalog(*, prefetch: bool) -> None:
    """At a server that fails now and then, a listing is the whole catalogue."""
    retry = RetryPolicy(attempts=20, wait_initial=0.001, wait_max=0.002)
    async with (
        Sandbox(failure_rate=0.2, public_base_url=TWILIO, seed=7) as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.url, retry=retry) as session,
    ):
        add_ons = await session.available_add_ons.list(page_size=10, prefetch=prefetch)
        assert [add_on.sid for add_on in add_ons] == [*sandbox.catalog]
