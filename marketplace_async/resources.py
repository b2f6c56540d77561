"""Resource handles: checked SIDs become paths, and verbs become requests.

Handles do no I/O until a verb is awaited or iterated. They are immutable and hashable, and
as cheap as a string. https://www.twilio.com/docs/marketplace/api/available-add-ons
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import attrs

from marketplace_async.errors import InvalidResponseError
from marketplace_async.models import AvailableAddOn, Extension, PageMeta
from marketplace_async.paging import HasSid, Pager
from marketplace_async.sids import available_add_on_sid, extension_sid
from marketplace_async.transport import Transport

__all__ = ["AvailableAddOnHandle", "AvailableAddOns", "ExtensionHandle", "Extensions", "prepare"]

T = TypeVar("T", bound=HasSid)


def prepare() -> None:
    """Load what converts answers.

    The converter takes longer to import than the rest of this library. So who opens a session
    pays for it, before anything waits, and who only imports does not.
    """
    for key, model in ("extensions", Extension), ("available_add_ons", AvailableAddOn):
        _one(model)
        _page(key, model)


@cache
def _one(model: type[T]) -> Callable[[bytes], T]:
    from marketplace_async.conversion import structurer  # noqa: PLC0415  # see prepare

    return structurer(model)


@cache
def _page(key: str, model: type[T]) -> Callable[[bytes], tuple[tuple[T, ...], PageMeta]]:
    from marketplace_async.conversion import page_structurer  # noqa: PLC0415  # see prepare

    return page_structurer(key, model)


def _only_about(sid: str, structure: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Take an answer only if it is about what was asked for.

    On a connection where a server, or something before it, has lost count, each request gets
    the answer to another.
    """

    def structure_checked(data: bytes) -> T:
        model = structure(data)
        _check_sid(sid, model.sid)
        return model

    return structure_checked


def _extensions_of(sid: str) -> Callable[[bytes], tuple[tuple[Extension, ...], PageMeta]]:
    """Take a page, as `_only_about` does, only if it is of the Add-on that was asked for."""

    def structure_checked(data: bytes) -> tuple[tuple[Extension, ...], PageMeta]:
        items, meta = _page("extensions", Extension)(data)
        for item in items[:1]:
            _check_sid(sid, item.available_add_on_sid)
        return items, meta

    return structure_checked


def _check_sid(asked: str, answered: str) -> None:
    if asked != answered and asked.lower() != answered.lower():
        raise InvalidResponseError(f"the answer is about {answered}, not {asked}", incomplete=True)


@attrs.frozen
class ExtensionHandle:
    """One Extension of an Available Add-on."""

    _transport: Transport = attrs.field(repr=False)

    available_add_on_sid: str
    """The SID of the Available Add-on, ``XB…``."""

    sid: str = attrs.field(converter=extension_sid)
    """The SID of the Extension, ``XF…``."""

    async def fetch(self) -> Extension:
        """Fetch the Extension.

        :raises NotFoundError: there is no such Extension of this Add-on.
        :raises MarketplaceError: any other failure; see `marketplace_async.errors`.
        """
        return await self._transport.get(
            f"/v1/AvailableAddOns/{self.available_add_on_sid}/Extensions/{self.sid}",
            _only_about(self.sid, _one(Extension)),
        )


@attrs.frozen
class Extensions:
    """The Extensions of one Available Add-on; call it with a SID for the handle of one."""

    _transport: Transport = attrs.field(repr=False)

    available_add_on_sid: str
    """The SID of the Available Add-on, ``XB…``."""

    def __call__(self, sid: str) -> ExtensionHandle:
        """Give the handle of one Extension; nothing is sent.

        :raises InvalidSidError: ``sid`` is not the SID of an Extension (``XF…``).
        """
        return ExtensionHandle(self._transport, self.available_add_on_sid, sid)

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int | None = None,
        resume_from: str | None = None,
        prefetch: int = 0,
    ) -> Pager[Extension]:
        """Give the pager over the Extensions; nothing is sent until it is iterated.

        ``limit`` is how many items to give at the most, ``page_size`` how many to ask for at
        once, 1 to 1000 (by default the limit, or the API's 50 if there is none),
        ``resume_from`` a ``next_page_url`` stored earlier, which then settles the page size,
        and ``prefetch`` how many pages to read ahead.

        :raises ValueError: a number is out of bounds.
        :raises UntrustedPageUrlError: ``resume_from`` is not a page of this listing.
        """
        return Pager(
            self._transport,
            f"/v1/AvailableAddOns/{self.available_add_on_sid}/Extensions",
            _extensions_of(self.available_add_on_sid),
            limit,
            page_size,
            resume_from,
            prefetch,
        )


@attrs.frozen
class AvailableAddOnHandle:
    """One Available Add-on."""

    _transport: Transport = attrs.field(repr=False)

    sid: str = attrs.field(converter=available_add_on_sid)
    """The SID of the Available Add-on, ``XB…``."""

    @property
    def extensions(self) -> Extensions:
        """The Extensions of this Add-on."""
        return Extensions(self._transport, self.sid)

    async def fetch(self) -> AvailableAddOn:
        """Fetch the Available Add-on.

        :raises NotFoundError: there is no such listing in General Availability or Beta.
        :raises MarketplaceError: any other failure; see `marketplace_async.errors`.
        """
        return await self._transport.get(
            f"/v1/AvailableAddOns/{self.sid}", _only_about(self.sid, _one(AvailableAddOn))
        )


@attrs.frozen
class AvailableAddOns:
    """All Available Add-ons; call it with a SID for the handle of one."""

    _transport: Transport = attrs.field(repr=False)

    def __call__(self, sid: str) -> AvailableAddOnHandle:
        """Give the handle of one Available Add-on; nothing is sent.

        :raises InvalidSidError: ``sid`` is not the SID of an Available Add-on (``XB…``).
        """
        return AvailableAddOnHandle(self._transport, sid)

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int | None = None,
        resume_from: str | None = None,
        prefetch: int = 0,
    ) -> Pager[AvailableAddOn]:
        """Give the pager over the Available Add-ons; nothing is sent until it is iterated.

        The arguments and errors are those of `Extensions.list`.
        """
        return Pager(
            self._transport,
            "/v1/AvailableAddOns",
            _page("available_add_ons", AvailableAddOn),
            limit,
            page_size,
            resume_from,
            prefetch,
        )
