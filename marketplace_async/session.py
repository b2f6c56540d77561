"""The session: settings in, handles out; it opens and closes the connection pool that it owns."""

import asyncio
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import NoneType
from typing import Any, Final, NoReturn, TypeVar

import aiohttp
import attrs
from attrs.validators import ge
from yarl import URL

from marketplace_async.attempt import Sender
from marketplace_async.errors import MissingCredentialsError, SessionClosedError
from marketplace_async.fanout import FanOut
from marketplace_async.limits import AdaptiveLimiter, Limiter
from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.resources import AvailableAddOnHandle, AvailableAddOns
from marketplace_async.retry import RetryEvent, RetryPolicy
from marketplace_async.settings import Credentials, Timeout, origin, require_type
from marketplace_async.transport import SessionStatistics, Transport

__all__ = ["MarketplaceSession", "open_session"]

InputT = TypeVar("InputT")
ValueT = TypeVar("ValueT")
AddOnT = TypeVar("AddOnT", bound=str | AvailableAddOn | AvailableAddOnHandle)

MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
PROXY: Final = re.compile("https?://[^/?#]", re.IGNORECASE)


def open_session(
    credentials: Credentials | None = None,
    *,
    base_url: str | None = None,
    region: str | None = None,
    edge: str | None = None,
    retry: RetryPolicy = RetryPolicy(),
    limiter: Limiter | None = None,
    timeout: Timeout | float = Timeout(),
    max_response_bytes: int = MAX_RESPONSE_BYTES,
    http: aiohttp.ClientSession | None = None,
    proxy: str | None = None,
    trace_configs: Sequence[aiohttp.TraceConfig] = (),
    on_retry: Callable[[RetryEvent], object] | None = None,
) -> "MarketplaceSession":
    """Return a session for Twilio's Marketplace v1 API; nothing is sent and no loop is needed.

    Use it with ``async with``. Any number of tasks of one event loop may share it.

    * ``credentials``: default `Credentials.from_env`.
    * ``base_url``: another server, such as a `Sandbox`; plain ``http`` only to this machine.
      Default ``TWILIO_MARKETPLACE_BASE_URL``, or Twilio.
    * ``region``, ``edge``: Twilio's region and edge location; each has a default for the other.
      Default both ``TWILIO_REGION`` and ``TWILIO_EDGE``.
    * ``retry``: when a failed attempt is repeated; ``RetryPolicy.off()`` for never.
    * ``limiter``: an async context manager entered around each attempt, such as
      `asyncio.Semaphore`; default a new `AdaptiveLimiter`.
    * ``timeout``: the maximum durations; a number is the total of a call in seconds.
    * ``max_response_bytes``: the maximum size of a decoded body in bytes.
    * ``http``: the caller's own aiohttp session, which stays open. It must belong to the same
      event loop and have no credentials of its own for the host.
    * ``proxy``: the URL of an HTTP proxy.
    * ``trace_configs``: aiohttp's tracing; not with ``http``.
    * ``on_retry``: called before each wait for a retry, and awaited if it is async; an
      exception of it ends the call.

    :raises MissingCredentialsError: no credentials were passed or found in the environment.
    :raises TypeError: an argument has a wrong type; the text names it.
    :raises ValueError: an argument is out of bounds, or two contradict each other.
    """
    try:
        settings = _Settings(
            origin=origin(base_url, region, edge),
            credentials=Credentials.from_env() if credentials is None else credentials,
            retry=retry,
            limiter=AdaptiveLimiter() if limiter is None else limiter,
            timeout=timeout,
            max_response_bytes=max_response_bytes,
            http=http,
            proxy=proxy,
            trace_configs=trace_configs,
            on_retry=on_retry,
        )
    except (TypeError, ValueError, MissingCredentialsError) as error:
        # Error trackers show the local variables of a traceback, and these may hold passwords.
        del credentials, base_url, proxy
        raise error.with_traceback(None)  # noqa: B904  # it is the same error
    return MarketplaceSession(settings)


def _of_type(*types: type[Any]) -> Callable[[object, "attrs.Attribute[Any]", object], None]:
    return lambda _, attribute, value: require_type(attribute.name, value, *types)


def _timeout(value: Timeout | float) -> Timeout:
    require_type("timeout", value, Timeout, int, float)
    return value if isinstance(value, Timeout) else Timeout(total=value)


def _trace_configs(value: Sequence[aiohttp.TraceConfig]) -> tuple[aiohttp.TraceConfig, ...]:
    require_type("trace_configs", value, Iterable)
    for item in value:
        require_type("each of trace_configs", item, aiohttp.TraceConfig)
    return tuple(value)


@attrs.frozen(kw_only=True)
class _Settings:
    """The checked arguments of `open_session`."""

    origin: URL
    credentials: Credentials = attrs.field(validator=_of_type(Credentials))
    retry: RetryPolicy = attrs.field(validator=_of_type(RetryPolicy))
    limiter: Limiter = attrs.field(validator=_of_type(AbstractAsyncContextManager))
    timeout: Timeout = attrs.field(converter=_timeout)
    max_response_bytes: int = attrs.field(validator=[_of_type(int), ge(1)])
    http: aiohttp.ClientSession | None = attrs.field(
        validator=_of_type(aiohttp.ClientSession, NoneType)
    )
    # The URL of a proxy may hold a password.
    proxy: str | None = attrs.field(validator=_of_type(str, NoneType), repr=False)
    trace_configs: tuple[aiohttp.TraceConfig, ...] = attrs.field(converter=_trace_configs)
    on_retry: Callable[[RetryEvent], object] | None = attrs.field()

    def __attrs_post_init__(self) -> None:
        if self.on_retry is not None and not callable(self.on_retry):
            raise TypeError(f"on_retry must be callable, not {type(self.on_retry).__name__}")
        if self.http is not None and self.trace_configs:
            raise ValueError("trace_configs are for a new aiohttp session; pass them to yours")
        if self.proxy is not None and not PROXY.match(self.proxy):
            raise ValueError("proxy must be a URL such as http://proxy.example:3128")
        http = self.http
        has_proxy = self.proxy is not None or (
            http is not None and (http.trust_env or getattr(http, "_default_proxy", None))
        )
        if has_proxy and self.origin.scheme == "http":
            raise ValueError(
                "a proxy could read the credentials, because base_url is plain http: "
                "use no proxy, and an aiohttp session without proxy and trust_env"
            )


class MarketplaceSession:
    """A session with the Marketplace API, created by `open_session`."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._http = settings.http
        self._transport: Transport | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._transport else "not started"
        return f"<MarketplaceSession at {self.origin}, {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session and its handles hold credentials and cannot be pickled")

    async def start(self) -> "MarketplaceSession":
        """Open the connection pool unless it is open, and return the session.

        :raises SessionClosedError: the session was closed, or ``http`` belongs to another loop.
        """
        if self._is_closed:
            raise SessionClosedError("a closed session cannot be started again; open another one")
        if self._transport is not None:
            return self
        settings = self._settings
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the limiter controls concurrency
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=list(settings.trace_configs),
            )
        elif getattr(self._http, "_loop", loop := asyncio.get_running_loop()) is not loop:
            raise SessionClosedError("the aiohttp session belongs to another event loop")
        sender = Sender(
            self._http,
            credentials=settings.credentials,
            timeout=settings.timeout,
            max_response_bytes=settings.max_response_bytes,
            proxy=settings.proxy,
        )
        self._transport = Transport(
            sender,
            origin=settings.origin,
            retry=settings.retry,
            limiter=settings.limiter,
            timeout=settings.timeout.total,
            on_retry=settings.on_retry,
        )
        return self

    async def close(self) -> None:
        """Close the pool unless it is the caller's; calls under way end in `SessionClosedError`."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()
        if self._http is not None and self._settings.http is None:
            await self._http.close()

    async def __aenter__(self) -> "MarketplaceSession":
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def origin(self) -> URL:
        """The scheme, host and port that requests go to."""
        return self._settings.origin

    def transport(self) -> Transport:
        """Return the transport; raise `SessionClosedError` unless this loop has opened it."""
        if self._is_closed:
            raise SessionClosedError("the session is closed; open another one")
        if self._transport is None:
            raise SessionClosedError("the session is not open: use async with or await start()")
        if self._transport.loop is not _running_loop():
            raise SessionClosedError(
                "the session belongs to another event loop: open one session in each; "
                "synchronous code can keep one loop with anyio.from_thread.start_blocking_portal"
            )
        return self._transport

    @property
    def available_add_ons(self) -> AvailableAddOns:
        """The Available Add-ons: ``.list()`` them, or call with a SID for one."""
        return AvailableAddOns(self)

    def fan_out(
        self,
        function: Callable[[InputT], Awaitable[ValueT]],
        inputs: Iterable[InputT] | AsyncIterable[InputT],
        *,
        max_in_flight: int = 500,
    ) -> FanOut[InputT, ValueT]:
        """Await ``function`` for each input, many at a time, and yield outcomes as they complete.

        Use the result as ``async with ... as outcomes: async for outcome in outcomes``. An
        exception of ``function`` is the ``error`` of its outcome.

        An input is started when its calls can soon run, so deadlines do not pass in a queue; the
        limiter controls the number of requests. Memory holds at most ``max_in_flight`` inputs.
        The calls are batch calls: direct calls are served before them, and during an outage
        they wait until their deadline.

        :raises TypeError: an argument has a wrong type.
        :raises ValueError: ``max_in_flight`` is below 1.
        """
        return FanOut(function, inputs, max_in_flight=max_in_flight, pace=self.transport)

    def extensions_across(
        self, add_ons: Iterable[AddOnT] | AsyncIterable[AddOnT], *, max_in_flight: int = 500
    ) -> FanOut[AddOnT, tuple[Extension, ...]]:
        """List all Extensions of each Add-on, many at a time: `fan_out` over their listings.

        The Add-ons are SIDs, `AvailableAddOn` models or handles;
        ``extensions_across(marketplace.available_add_ons.list())`` covers the catalogue. The
        error of an outcome is a `MarketplaceError`, or ``concurrent.futures.CancelledError`` if
        the call was cancelled.

        :raises TypeError: ``add_ons`` is a single Add-on.
        """
        if isinstance(add_ons, str) or not isinstance(add_ons, Iterable | AsyncIterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
            raise TypeError(f"add_ons must be an iterable of Add-ons, not {type(add_ons).__name__}")

        async def extensions(add_on: AddOnT) -> tuple[Extension, ...]:
            return tuple(await self.available_add_ons(add_on).extensions.list(page_size=1000))

        return self.fan_out(extensions, add_ons, max_in_flight=max_in_flight)

    def statistics(self) -> SessionStatistics:
        """Return the present state of an open session and its counts since the start."""
        return self.transport().statistics()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
