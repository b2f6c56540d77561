"""Listings: the lazy pager, its pages, and the rule of which next URL may be followed.

https://www.twilio.com/docs/usage/twilios-response#pagination
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

import attrs
from yarl import URL

from marketplace_async.errors import MarketplaceError, PageLoopError, UntrustedPageUrlError
from marketplace_async.models import PAGE_SIZE_MAX, PageMeta
from marketplace_async.readahead import ReadAhead
from marketplace_async.settings import CANONICAL_ORIGIN
from marketplace_async.transport import Transport
from marketplace_async.validation import check_whole_number

__all__ = ["HasSid", "ItemIterator", "Page", "PageIterator", "Pager", "trusted_path"]


class HasSid(Protocol):
    """What a listing holds: something with a SID to know it by."""

    @property
    def sid(self) -> str: ...  # noqa: D102  # the class says it


T = TypeVar("T", bound=HasSid)

PAGES_WITHOUT_NEWS: Final = 100
# What a URL on the wire may hold (RFC 3986), within a length that servers take.
URL_TEXT: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,8000}")


def trusted_path(url: object, origin: URL, path: str) -> str:
    """Give path and query of a page's URL, if the URL belongs to the listing at ``path``.

    Its origin must be the session's or Twilio's canonical one, with which a regional host may
    answer; the request goes to the session's origin in any case.

    :raises UntrustedPageUrlError: it is anything else.
    """
    if isinstance(url, str) and URL_TEXT.fullmatch(url):
        try:
            # Compared as parsed, for a scheme or host may be written in more than one way; then
            # as text, which leaves out a port that is the default.
            known = str(URL(url).origin()) in (str(origin), str(CANONICAL_ORIGIN))
            parsed = URL(url, encoded=True)
        except ValueError:
            pass
        else:
            plain = not (parsed.raw_user or parsed.raw_password or parsed.raw_fragment)
            # The API may write a SID in another case than the caller did.
            if known and plain and parsed.raw_path.lower() == path.lower():
                return parsed.raw_path_qs
    _, at, rest = str(url).rpartition("@")
    given = f"…@{rest}" if at else rest  # what stands before may be a password
    raise UntrustedPageUrlError(f"the page URL is not one of {origin}{path}: {given}")


@attrs.frozen
class Page(Generic[T]):
    """One page of a listing."""

    items: tuple[T, ...]
    """The items, without any that stood on the page before, and cut to the pager's limit."""

    meta: PageMeta
    """Where the page stands, as the API put it."""

    @property
    def next_page_url(self) -> str | None:
        """The URL of the page after this one, ``None`` if the API has none.

        Resume from it only after a whole page: what a limit cut off is not on the next one.
        """
        return self.meta.next_page_url


@attrs.frozen(eq=False)
class Pager(Generic[T]):
    """A listing that is requested page by page while it is iterated.

    Making one sends nothing. Each ``async for`` starts anew, with a position of its own. A
    page is requested when the one before is used up, or up to ``prefetch`` pages earlier;
    while its items are given, no connection and no place in the limiter is held.

    What is promised: the items in the API's order; none twice that stood on the page before
    (the catalogue may move while it is read); an error rather than an incomplete listing.
    After an error of a page, its ``url`` can be resumed from.

    Iterating raises what fetching raises, and:

    :raises UntrustedPageUrlError: a page leads away from the listing.
    :raises PageLoopError: the pages lead in a circle, or a hundred in a row bring nothing new.
    """

    _transport: Transport = attrs.field(repr=False)
    _path: str
    _structure: Callable[[bytes], tuple[tuple[T, ...], PageMeta]] = attrs.field(repr=False)
    _limit: int | None = None
    _page_size: int | None = None
    _resume_from: str | None = None
    _prefetch: int = 0

    def __attrs_post_init__(self) -> None:
        if self._limit is not None:
            check_whole_number("limit", self._limit, 0)
        if self._page_size is not None:
            check_whole_number("page_size", self._page_size, 1, PAGE_SIZE_MAX)
        if self._resume_from is not None:
            trusted_path(self._resume_from, self._transport.origin, self._path)
        check_whole_number("prefetch", self._prefetch, 0)

    def __aiter__(self) -> "ItemIterator[T]":
        """Iterate over the items."""
        return ItemIterator(self.pages())

    def pages(self) -> "PageIterator[T] | ReadAhead[Page[T]]":
        """Iterate over the pages, each a `Page`."""
        first = self._resume_from or f"{self._transport.origin}{self._path}{self._first_query()}"
        pages = PageIterator(self._transport, self._path, self._structure, first, self._limit)
        return ReadAhead(pages, self._prefetch) if self._prefetch else pages

    async def to_list(self) -> list[T]:
        """Give all items in a list."""
        return [item async for item in self]

    async def first(self) -> T | None:
        """Give the first item, ``None`` if there is none.

        The request asks for one alone, unless ``resume_from`` settles the page size.
        """
        if self._limit == 0:
            return None
        async for item in attrs.evolve(self, limit=1, prefetch=0):
            return item
        return None

    def _first_query(self) -> str:
        # With neither, the API's own default of 50 holds.
        size = self._page_size
        if self._limit is not None:
            size = min(size or PAGE_SIZE_MAX, self._limit)
        return "" if size is None else f"?PageSize={size}"


class PageIterator(Generic[T]):
    """A position in a listing, between pages.

    It stays where it is when a page fails: the next `__anext__` asks for the same page.
    """

    __slots__ = ("_busy", "_closed", "_left", "_next_url", "_path", "_requested", "_sids",
                 "_structure", "_transport", "_without_news")  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        path: str,
        structure: Callable[[bytes], tuple[tuple[T, ...], PageMeta]],
        first_url: str,
        limit: int | None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._structure = structure
        self._next_url: str | None = first_url
        self._left = limit
        self._requested: set[int] = set()
        self._sids: set[str] = set()
        self._without_news = 0
        self._busy = False
        self._closed = False

    def __aiter__(self) -> "PageIterator[T]":
        return self

    async def __anext__(self) -> Page[T]:
        if self._busy:
            raise RuntimeError("another task awaits the next page of this iterator")
        if self._next_url is None or self._left == 0:
            raise StopAsyncIteration
        try:
            path_and_query = self._followed(self._next_url)
        except MarketplaceError as error:
            self._transport.clean(error)
            raise
        self._busy = True
        try:
            items, meta = await self._transport.get(path_and_query, self._structure)
        finally:
            self._busy = False
        # Hashes stay small where a listing of millions would keep thousands of long URLs.
        self._requested.add(hash(path_and_query))
        self._next_url = None if self._closed else meta.next_page_url
        items = self._news(items)
        self._without_news = 0 if items else self._without_news + 1
        if self._left is not None:
            items = items[: self._left]
            self._left -= len(items)
        return Page(items, meta)

    async def aclose(self) -> None:
        """End the iteration."""
        self._closed = True
        self._next_url = None

    def _followed(self, url: str) -> str:
        """Give the path and query of the next request, or refuse to follow where it leads."""
        origin = self._transport.origin
        path_and_query = trusted_path(url, origin, self._path)
        loop = None
        if hash(path_and_query) in self._requested:
            loop = "the pages lead in a circle, back to this one"
        elif self._without_news >= PAGES_WITHOUT_NEWS:
            loop = f"{self._without_news} pages in a row brought no new item"
        if loop is None:
            return path_and_query
        error = PageLoopError(loop)
        error.method, error.url = "GET", f"{origin}{path_and_query}"
        raise error

    def _news(self, items: tuple[T, ...]) -> tuple[T, ...]:
        """Leave out what stood on the page before: it moved while the listing was read."""
        sids = {item.sid for item in items}
        before, self._sids = self._sids, sids
        if before.isdisjoint(sids):
            return items
        return tuple(item for item in items if item.sid not in before)


class ItemIterator(Generic[T]):
    """A position in a listing, between items."""

    __slots__ = ("_items", "_pages")

    def __init__(self, pages: PageIterator[T] | ReadAhead[Page[T]]) -> None:
        self._pages = pages
        self._items: Iterator[T] = iter(())

    def __aiter__(self) -> "ItemIterator[T]":
        return self

    async def __anext__(self) -> T:
        while True:
            for item in self._items:
                return item
            try:
                page = await self._pages.__anext__()
            except asyncio.CancelledError:
                del self  # a traceback that somebody keeps would keep the reading ahead going
                raise
            self._items = iter(page.items)

    async def aclose(self) -> None:
        """End the iteration, and the reading ahead."""
        self._items = iter(())
        await self._pages.aclose()
