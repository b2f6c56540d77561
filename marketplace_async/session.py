"""The session: settings in, handles out; opens and closes the connection pool that it owns."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import aiohttp

from marketplace_async.errors import SessionClosedError
from marketplace_async.exchange import Exchange
from marketplace_async.fanout import FanOut
from marketplace_async.limits import AdaptiveLimiter
from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.resources import AvailableAddOnHandle, AvailableAddOns, prepare
from marketplace_async.retry import RetryEvent, RetryPolicy
from marketplace_async.settings import Credentials, Timeout, origin
from marketplace_async.transport import Limiter, Transport
from marketplace_async.validation import check_whole_number

__all__ = ["MarketplaceSession", "open_session"]

I = TypeVar("I")  # noqa: E741  # an input, as in FanOut
V = TypeVar("V")
AddOn = TypeVar("AddOn", bound=str | AvailableAddOn | AvailableAddOnHandle)


def open_session(
    credentials: Credentials | None = None,
    *,
    base_url: str | None = None,
    region: str | None = None,
    edge: str | None = None,
    retry: RetryPolicy = RetryPolicy(),
    limiter: Limiter | None = None,
    timeout: Timeout = Timeout(),
    max_response_bytes: int = 8 * 1024 * 1024,
    http: aiohttp.ClientSession | None = None,
    trace_configs: Sequence[aiohttp.TraceConfig] = (),
    on_retry: Callable[[RetryEvent], object] | None = None,
) -> "MarketplaceSession":
    """Make a session for Twilio's Marketplace v1 API; nothing is sent and no loop is needed.

    Use it with ``async with``, or call `MarketplaceSession.start` and
    `MarketplaceSession.close`. It may be shared by any number of tasks of one event loop.

    * ``credentials``: by default `Credentials.from_env`.
    * ``base_url``: another origin, such as a `Sandbox`'s; plain ``http`` to this machine only.
    * ``region``, ``edge``: Twilio's region and edge location, by default ``TWILIO_REGION`` and
      ``TWILIO_EDGE``.
    * ``retry``: when a failed attempt is repeated; ``RetryPolicy.off()`` for never.
    * ``limiter``: an async context manager entered around each attempt, such as
      `asyncio.Semaphore`; by default a new `AdaptiveLimiter`.
    * ``timeout``: how long calls, attempts and connecting may take.
    * ``max_response_bytes``: the largest body that is read, in decoded bytes.
    * ``http``: the caller's own pool, used and left open; by default a new one. It must be of
      the same event loop and have no credentials of its own for the host.
    * ``trace_configs``: aiohttp's tracing, for the new pool.
    * ``on_retry``: called before each wait for a retry; what it raises ends the call.

    :raises MissingCredentialsError: no credentials are given or in the environment.
    :raises TypeError: a setting is of a wrong type.
    :raises ValueError: a setting is out of bounds, or two contradict each other.
    """
    check_whole_number("max_response_bytes", max_response_bytes, 1)
    if http is not None and trace_configs:
        raise ValueError("trace_configs are for a new pool; give them to the aiohttp session")
    prepare()
    target = origin(base_url, region, edge)
    if http is not None and target.scheme == "http" and _uses_proxies(http):
        raise ValueError(
            "a proxy would read the credentials, for base_url is plain http: "
            "give an aiohttp session without proxy and trust_env"
        )
    exchange = Exchange(
        credentials=credentials if credentials is not None else Credentials.from_env(),
        timeout=timeout,
        max_response_bytes=max_response_bytes,
    )
    transport = Transport(
        exchange,
        origin=target,
        retry=retry,
        limiter=limiter if limiter is not None else AdaptiveLimiter(),
        timeout=timeout.total,
        on_retry=on_retry,
    )
    return MarketplaceSession(exchange, transport, http, trace_configs)


class _Connector(aiohttp.TCPConnector):
    """Gives no connection on which the server has spoken unasked.

    aiohttp would take what waits there for the answer to the next request, and give every
    request on that connection the answer to the one before.
    """

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*args, **kwargs)
        if connection.protocol is None or connection.protocol.should_close:
            connection.close()
            # aiohttp goes on with another connection, as after one that was closed meanwhile.
            raise aiohttp.ServerDisconnectedError("the server spoke unasked")
        return connection


def _uses_proxies(http: aiohttp.ClientSession) -> bool:
    return http.trust_env or getattr(http, "_default_proxy", None) is not None


class MarketplaceSession:
    """A session with the Marketplace API; made by `open_session`."""

    def __init__(
        self,
        exchange: Exchange,
        transport: Transport,
        http: aiohttp.ClientSession | None,
        trace_configs: Sequence[aiohttp.TraceConfig],
    ) -> None:
        self._exchange = exchange
        self._transport = transport
        self._http = http
        self._owns_http = http is None
        self._trace_configs = list(trace_configs)
        self._state = "new"

    def __repr__(self) -> str:
        return f"<MarketplaceSession at {self._transport.origin}, {self._state}>"

    async def start(self) -> "MarketplaceSession":
        """Open the connection pool, if that has not been done, and give the session.

        :raises SessionClosedError: it has been closed (open another), or the caller's pool
            belongs to another event loop.
        """
        if self._state == "closed":
            raise SessionClosedError("a closed session is not opened again; make another")
        if self._state == "new":
            if self._http is None:
                self._http = aiohttp.ClientSession(
                    # The limiter bounds what is in flight; a second bound would deceive it.
                    connector=_Connector(limit=0),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trace_configs=self._trace_configs,
                )
            elif getattr(self._http, "_loop", loop := asyncio.get_running_loop()) is not loop:
                raise SessionClosedError("the aiohttp session belongs to another event loop")
            self._exchange.open(self._http)
            self._transport.open()
            self._state = "open"
        return self

    async def close(self) -> None:
        """Close the pool, unless it is the caller's; calls under way end in `SessionClosedError`.

        Closing again does nothing.

        :raises SessionClosedError: it belongs to another event loop, which is still open.
        """
        if self._state == "open":
            self._transport.close()
            self._exchange.close()
            if self._owns_http and self._http is not None:
                await self._http.close()
        self._state = "closed"

    async def __aenter__(self) -> "MarketplaceSession":
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def available_add_ons(self) -> AvailableAddOns:
        """The Available Add-ons: ``.list()`` them, or call with a SID for one."""
        return AvailableAddOns(self._transport)

    def fan_out(
        self,
        function: Callable[[I], Awaitable[V]],
        inputs: Iterable[I] | AsyncIterable[I],
        *,
        max_in_flight: int = 500,
    ) -> FanOut[I, V]:
        """Await ``function`` for each input, many at a time, and give the outcomes as they end.

        Inputs are taken as there is room: memory holds ``max_in_flight`` of them, however many
        there are. How many requests are really under way is up to the session's limiter.
        Use the result as ``async with ... as outcomes: async for outcome in outcomes``.
        What ``function`` raises is the ``error`` of its outcome.

        :raises TypeError: ``inputs`` cannot be iterated; ``max_in_flight`` is no whole number.
        :raises ValueError: ``max_in_flight`` is below 1.
        """
        return FanOut(function, inputs, max_in_flight=max_in_flight)

    def extensions_across(
        self,
        add_ons: Iterable[AddOn] | AsyncIterable[AddOn],
        *,
        max_in_flight: int = 500,
    ) -> FanOut[AddOn, tuple[Extension, ...]]:
        """List all Extensions of each Add-on, many at a time: `fan_out` over their listings.

        The Add-ons are SIDs, `AvailableAddOn` models or handles, so that
        ``extensions_across(marketplace.available_add_ons.list())`` covers the catalogue.
        An outcome's error, if any, is a `MarketplaceError`, or
        ``concurrent.futures.CancelledError`` if somebody cancelled the call.

        :raises TypeError: the Add-ons are a single string, whose characters are none.
        """
        if isinstance(add_ons, str):
            raise TypeError(f"give several Add-ons, such as [{add_ons!r}], and not one string")

        async def extensions(add_on: AddOn) -> tuple[Extension, ...]:
            sid: Any = getattr(add_on, "sid", add_on)
            handle = self.available_add_ons(sid)
            return tuple(await handle.extensions.list(page_size=1000).to_list())

        return self.fan_out(extensions, add_ons, max_in_flight=max_in_flight)
