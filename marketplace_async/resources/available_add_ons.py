"""Available Add-ons and their Extensions.

https://www.twilio.com/docs/marketplace/api/available-add-ons
https://www.twilio.com/docs/marketplace/api/available-add-ons/extensions-subresource
"""

from functools import partial
from typing import Final

import attrs

from marketplace_async.conversion import read_model, read_page
from marketplace_async.errors import InvalidResponseError
from marketplace_async.models import AvailableAddOn, Extension, PageMeta
from marketplace_async.paging import Client, Pager
from marketplace_async.sids import require_sid

__all__ = ["AvailableAddOnHandle", "AvailableAddOns", "ExtensionHandle", "Extensions"]

PATH: Final = "/v1/AvailableAddOns"


def _require_same(requested: str, received: str) -> None:
    """Check that a response is about the resource that was requested.

    On a connection where a server, or a proxy before it, has lost count, each request gets the
    response to another one.
    """
    if requested != received and requested.lower() != received.lower():
        problem = f"the response is about {received}, not {requested}"
        raise InvalidResponseError(problem, retryable=True)


@attrs.frozen
class ExtensionHandle:
    """One Extension of an Available Add-on."""

    _client: Client = attrs.field(repr=False)
    available_add_on_sid: str
    """The SID of the Available Add-on, ``XB…``."""
    sid: str
    """The SID of the Extension, ``XF…``."""

    async def fetch(self) -> Extension:
        """Fetch the Extension.

        :raises NotFoundError: the Add-on has no such Extension.
        :raises MarketplaceError: any other failure; see `marketplace_async.errors`.
        """
        path = f"{PATH}/{self.available_add_on_sid}/Extensions/{self.sid}"
        return await self._client.transport().get(path, self._read)

    def _read(self, data: bytes) -> Extension:
        known = {"available_add_on_sid": self.available_add_on_sid}
        extension = read_model(Extension, data, known)
        _require_same(self.sid, extension.sid)
        return extension


@attrs.frozen
class Extensions:
    """The Extensions of one Available Add-on; call it for the handle of one Extension."""

    _client: Client = attrs.field(repr=False)
    available_add_on_sid: str
    """The SID of the Available Add-on, ``XB…``."""

    def __call__(self, extension: str | Extension | ExtensionHandle) -> ExtensionHandle:
        """Return the handle of the Extension with this SID (also that of a model or handle).

        :raises InvalidSidError: it is not the SID of an Extension (``XF…``).
        """
        sid = require_sid("XF", extension)
        return ExtensionHandle(self._client, self.available_add_on_sid, sid)

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int | None = None,
        resume_from: str | None = None,
        prefetch: bool = False,
        skip_invalid: bool = False,
    ) -> Pager[Extension]:
        """Return the pager over the Extensions; nothing is sent until it is iterated or awaited.

        * ``limit``: the maximum number of items, default all.
        * ``page_size``: items per request, 1 to 1000; default ``limit``, or the API's 50.
        * ``resume_from``: a ``next_page_url`` from earlier; it also defines the page size.
        * ``prefetch``: request the next page while this one is used.
        * ``skip_invalid``: log a warning for an item that cannot be read, instead of raising.

        :raises TypeError: an argument has a wrong type.
        :raises ValueError: a number is out of bounds.
        :raises UntrustedPageUrlError: ``resume_from`` is not a page of this listing.
        """
        path = f"{PATH}/{self.available_add_on_sid}/Extensions"
        return Pager(
            self._client, path, self._read, limit, page_size, resume_from, prefetch, skip_invalid
        )

    def _read(self, data: bytes, *, skip_invalid: bool) -> tuple[tuple[Extension, ...], PageMeta]:
        known = {"available_add_on_sid": self.available_add_on_sid}
        items, meta = read_page(Extension, data, known, skip_invalid=skip_invalid)
        if items:
            _require_same(self.available_add_on_sid, items[0].available_add_on_sid)
        return items, meta


@attrs.frozen
class AvailableAddOnHandle:
    """One Available Add-on."""

    _client: Client = attrs.field(repr=False)
    sid: str
    """The SID of the Available Add-on, ``XB…``."""

    @property
    def extensions(self) -> Extensions:
        """The Extensions of this Add-on."""
        return Extensions(self._client, self.sid)

    async def fetch(self) -> AvailableAddOn:
        """Fetch the Available Add-on.

        :raises NotFoundError: there is no such listing in General Availability or Beta.
        :raises MarketplaceError: any other failure; see `marketplace_async.errors`.
        """
        return await self._client.transport().get(f"{PATH}/{self.sid}", self._read)

    def _read(self, data: bytes) -> AvailableAddOn:
        add_on = read_model(AvailableAddOn, data)
        _require_same(self.sid, add_on.sid)
        return add_on


@attrs.frozen
class AvailableAddOns:
    """All Available Add-ons; call it for the handle of one."""

    _client: Client = attrs.field(repr=False)

    def __call__(self, add_on: str | AvailableAddOn | AvailableAddOnHandle) -> AvailableAddOnHandle:
        """Return the handle of the Add-on with this SID (also that of a model or handle).

        :raises InvalidSidError: it is not the SID of an Available Add-on (``XB…``).
        """
        return AvailableAddOnHandle(self._client, require_sid("XB", add_on))

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int | None = None,
        resume_from: str | None = None,
        prefetch: bool = False,
        skip_invalid: bool = False,
    ) -> Pager[AvailableAddOn]:
        """Return the pager over the Available Add-ons; nothing is sent until it is used.

        The arguments and errors are those of `Extensions.list`.
        """
        read = partial(read_page, AvailableAddOn)
        return Pager(
            self._client, PATH, read, limit, page_size, resume_from, prefetch, skip_invalid
        )
