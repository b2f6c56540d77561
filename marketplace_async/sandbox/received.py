"""The requests that a sandbox received."""

from typing import Final

import attrs
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping
from yarl import URL

__all__ = ["ReceivedRequest", "RequestLog"]

_REMEMBERED: Final = 10_000


@attrs.frozen
class ReceivedRequest:
    """A request that reached a sandbox, without its credentials."""

    method: str
    """The HTTP method."""

    url: URL = attrs.field(repr=str)
    """What was asked for: path and query."""

    headers: CIMultiDictProxy[str] = attrs.field(repr=False)
    """The headers, ``Authorization`` left out."""

    status: int | None = None
    """The status answered; ``None`` before an answer, and without one."""

    @property
    def path(self) -> str:
        """The path of the URL, decoded."""
        return self.url.path

    @property
    def query(self) -> MultiMapping[str]:
        """The parameters of the URL, decoded."""
        return self.url.query


class RequestLog:
    """The latest 10,000 requests, each there from its arrival on."""

    def __init__(self) -> None:
        self._received: dict[int, ReceivedRequest] = {}
        self._arrivals = 0

    def arrived(self, request: web.BaseRequest) -> int:
        """Note a request; gives its number for `answered`."""
        headers = CIMultiDict(request.headers)
        headers.popall(hdrs.AUTHORIZATION, None)
        number = self._arrivals
        self._arrivals += 1
        self._received[number] = ReceivedRequest(
            request.method, request.rel_url, CIMultiDictProxy(headers)
        )
        self._received.pop(number - _REMEMBERED, None)
        return number

    def answered(self, number: int, status: int) -> None:
        """Note the status of the answer."""
        if received := self._received.get(number):
            self._received[number] = ReceivedRequest(
                received.method, received.url, received.headers, status
            )

    def all(self) -> list[ReceivedRequest]:
        """Give them in the order of their arrival."""
        return list(self._received.values())

    def clear(self) -> None:
        """Forget them."""
        self._received.clear()
