"""Listings: the lazy pager, its pages, and the rule for which next URL may be requested.

https://www.twilio.com/docs/usage/twilios-response#pagination
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import attrs
from yarl import URL

from marketplace_async.errors import PageLoopError, UntrustedPageUrlError
from marketplace_async.models import PAGE_SIZE_MAX, AvailableAddOn, Extension, PageMeta
from marketplace_async.settings import LOOPBACK, require_type
from marketplace_async.transport import Transport

__all__ = ["Client", "Page", "Pager", "trusted_path"]


class Client(Protocol):
    """What handles and pagers need of a session."""

    @property
    def origin(self) -> URL: ...  # noqa: D102

    def transport(self) -> Transport: ...  # noqa: D102


T = TypeVar("T", bound=AvailableAddOn | Extension)
PAGES_WITHOUT_NEW_ITEMS: Final = 100
# The characters of a URL (RFC 3986), within a length that servers accept.
URL_TEXT: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,8000}")
TWILIO_HOST: Final = re.compile(r"marketplace(\.[a-z0-9-]+){0,2}\.twilio\.com")


def trusted_path(url: str, origin: URL, path: str) -> str:
    """Return path and query of a page URL if it belongs to the listing at ``path``.

    Its host must be the session's, or any host of Twilio's Marketplace API, because a region may
    name another one. On this machine each of its names is accepted. The request goes to
    ``origin`` in any case.

    :raises UntrustedPageUrlError: the URL leads anywhere else.
    """
    if URL_TEXT.fullmatch(url):
        with suppress(ValueError):  # the port is no number, for example
            parsed = URL(url, encoded=True)
            if (
                _is_known(parsed, origin)
                and not (parsed.raw_user or parsed.raw_password or parsed.raw_fragment)
                # The API may write a SID in another case than the caller.
                and parsed.raw_path.lower() == path.lower()
            ):
                return parsed.raw_path_qs
    _, at, rest = url.rpartition("@")
    given = f"…@{rest}" if at else rest  # the part before may be a password
    raise UntrustedPageUrlError(f"the page URL does not belong to {origin}{path}: {given}")


def _is_known(url: URL, origin: URL) -> bool:
    host = url.host or ""
    if url.scheme == "https" and url.port == 443 and TWILIO_HOST.fullmatch(host):
        return True
    if url.scheme not in (origin.scheme, "https") or url.port != origin.port:
        return False
    return host == origin.host or (host in LOOPBACK and origin.host in LOOPBACK)


@attrs.frozen
class Page(Generic[T]):
    """One page of a listing; iterate over it for its items."""

    items: tuple[T, ...]
    """The items, without those of the page before, and cut to the limit of the pager."""
    meta: PageMeta
    """The position of the page, as the API sent it."""

    @property
    def next_page_url(self) -> str | None:
        """The URL of the next page, None on the last one; it skips items that a limit cut off."""
        return self.meta.next_page_url

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@attrs.frozen(eq=False)
class Pager(Generic[T]):
    """A listing that is requested page by page while it is iterated.

    ``async for`` iterates over the items, ``await`` returns them in a list; each iteration starts
    at the beginning. A page is requested when the one before is used up, or with ``prefetch``
    while it is used. Neither a connection nor a slot of the limiter is held meanwhile.

    The items come in the order of the API, without those that were already on the page before
    (the listing may change while it is read). If a request failed, resume from the ``url`` of
    its error. Iterating raises the errors of fetching, and:

    :raises UntrustedPageUrlError: a page URL leads away from the listing; it is not requested.
    :raises PageLoopError: the pages form a cycle, or a hundred in a row have no new item.
    :raises InvalidItemError: an item cannot be read; not with ``skip_invalid``.
    """

    _client: Client
    _path: str
    _read: Callable[..., tuple[tuple[T, ...], PageMeta]]  # data, *, skip_invalid: bool
    _limit: int | None
    _page_size: int | None
    _resume_from: str | None
    _prefetch: bool
    _skip_invalid: bool

    def __attrs_post_init__(self) -> None:
        limit, size = self._limit, self._page_size
        if limit is not None:
            require_type("limit", limit, int)
            if limit < 0:
                raise ValueError(f"limit must be at least 0, not {limit}")
        if size is not None:
            require_type("page_size", size, int)
            if not 1 <= size <= PAGE_SIZE_MAX:
                raise ValueError(f"page_size must be between 1 and {PAGE_SIZE_MAX}, not {size}")
        require_type("prefetch", self._prefetch, bool)
        require_type("skip_invalid", self._skip_invalid, bool)
        if self._resume_from is not None:
            require_type("resume_from", self._resume_from, str)
            trusted_path(self._resume_from, self._client.origin, self._path)

    def __repr__(self) -> str:
        limit = "" if self._limit is None else f", at most {self._limit} items"
        return f"<Pager of {self._client.origin}{self._path}{limit}>"

    def __await__(self) -> Generator[None, None, list[T]]:
        return self.to_list().__await__()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for item in page.items:
                    yield item

    async def pages(self) -> AsyncGenerator[Page[T], None]:
        """Yield the pages."""
        read = partial(self._read, skip_invalid=self._skip_invalid)
        position = _Position(self._client, self._path, read, self._first_url(), self._limit)
        ahead: asyncio.Task[Page[T]] | None = None
        try:
            while ahead is not None or position.has_next:
                page = await (ahead or position.fetch())
                ahead = None
                if self._prefetch and position.has_next:
                    ahead = asyncio.create_task(position.fetch())
                yield page
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def to_list(self) -> list[T]:
        """Return all items in a list, as ``await pager`` does."""
        return [item async for item in self]

    async def first(self) -> T | None:
        """Return the first item, None if there is none; the page size is 1 unless resumed."""
        limit = 1 if self._limit is None else min(1, self._limit)
        items = await attrs.evolve(self, limit=limit)
        return items[0] if items else None

    def _first_url(self) -> str:
        if self._resume_from is not None:
            return self._resume_from
        # Without a size the API uses its default of 50.
        size = self._page_size
        if self._limit is not None:
            size = min(size or PAGE_SIZE_MAX, self._limit)
        query = "" if size is None else f"?PageSize={size}"
        return f"{self._client.origin}{self._path}{query}"


@attrs.define
class _Position(Generic[T]):
    """A position in a listing, between two pages."""

    client: Client
    path: str
    read: Callable[[bytes], tuple[tuple[T, ...], PageMeta]]
    next_url: str  # empty after the last page
    left: int | None
    # Hashes: a listing of millions would keep thousands of long URLs.
    seen: set[int] = attrs.field(factory=set[int])
    sids: set[str] = attrs.field(factory=set[str])  # of the last page
    without_new_items: int = 0

    @property
    def has_next(self) -> bool:
        return self.next_url != "" and self.left != 0

    async def fetch(self) -> Page[T]:
        """Fetch the next page and move past it."""
        path_and_query = self._next_path()
        items, meta = await self.client.transport().get(path_and_query, self.read)
        self.seen.add(hash(path_and_query))
        if meta.url is not None:
            # The first request does not name the page; a cycle through the first page does.
            with suppress(UntrustedPageUrlError):
                self.seen.add(hash(trusted_path(meta.url, self.client.origin, self.path)))
        self.next_url = meta.next_page_url or ""
        # Omit the items of the page before: they moved while the listing was read.
        sids = {item.sid for item in items}
        if not sids.isdisjoint(self.sids):
            items = tuple(item for item in items if item.sid not in self.sids)
        self.sids = sids
        self.without_new_items = 0 if items else self.without_new_items + 1
        if self.left is not None:
            items = items[: self.left]
            self.left -= len(items)
        return Page(items, meta)

    def _next_path(self) -> str:
        path_and_query = trusted_path(self.next_url, self.client.origin, self.path)
        if hash(path_and_query) in self.seen:
            problem = "the pages form a cycle: this one was requested before"
        elif self.without_new_items >= PAGES_WITHOUT_NEW_ITEMS:
            problem = f"{self.without_new_items} pages in a row have no new item"
        else:
            return path_and_query
        error = PageLoopError(problem)
        error.method, error.url = "GET", f"{self.client.origin}{path_and_query}"
        raise error
