"""The HTTP server: one aiohttp handler that sends the responses of `api`."""

import asyncio
import gzip
import random
import re
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Final, Self

import attrs
from aiohttp import encode_basic_auth, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping
from yarl import URL

from marketplace_async.sandbox.api import Response, api_response, error_response
from marketplace_async.sandbox.builtin import builtin_catalog
from marketplace_async.sandbox.catalog import Catalog
from marketplace_async.sandbox.faults import Fault, random_fault, take_fault
from marketplace_async.settings import Credentials

__all__ = ["ReceivedRequest", "Sandbox"]

# Fictional: only a sandbox accepts them.
_CREDENTIALS: Final = Credentials("SK" + 32 * "a", "sandbox")

_REQUESTS_KEPT: Final = 10_000
_GZIP_MIN_SIZE: Final = 1_400  # bytes; a smaller body fits into one packet
_SHUTDOWN_TIMEOUT: Final = 0.1  # seconds until open requests are cancelled
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?")
# An address that means "all interfaces" is for listening only; clients connect to these.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@attrs.define(eq=False)
class ReceivedRequest:
    """A request that a sandbox received, without its credentials."""

    method: str
    """The HTTP method."""

    url: URL = attrs.field(repr=str)
    """The requested path and query."""

    headers: CIMultiDictProxy[str] = attrs.field(repr=False)
    """The headers, without ``Authorization``."""

    status: int | None = None
    """The status of the response; ``None`` as long as there is none."""

    @property
    def path(self) -> str:
        """The path of the URL, decoded."""
        return self.url.path

    @property
    def query(self) -> MultiMapping[str]:
        """The parameters of the URL, decoded."""
        return self.url.query


class Sandbox:
    """A local HTTP server that implements Twilio's Marketplace v1 API.

    It listens inside its ``async with`` block, or from `start` to `close`. A closed sandbox
    can be started again and listens on the same port.

    URLs in responses begin with the ``Host`` that the client requested. So they work for any
    name of this machine, and behind a port mapping.

    :param catalog: the data to serve; `builtin_catalog` by default.
    :param host: the address to listen on.
    :param port: the port to listen on; 0 selects a free one.
    :param credentials: the only accepted credentials; fictional ones by default.
    :param latency: seconds before each response.
    :param max_concurrent: the maximum number of concurrent requests. More are rejected at once
        with status 429 and code 20429: https://www.twilio.com/docs/api/errors/20429
    :param retry_after: the ``Retry-After`` of these rejections, in seconds.
    :param failure_rate: the share of requests that fail, 0 to 1, each in one of these ways:
        429, 500, 502, 503, 504, no response, half a body.
    :param seed: determines which requests fail, and how.
    :param public_base_url: the start of URLs in responses, instead of the requested ``Host``.
    :raises TypeError: ``catalog`` is not a `Catalog`.
    :raises ValueError: a number is out of range.

    ``latency``, ``max_concurrent``, ``retry_after`` and ``failure_rate`` are attributes that
    can be changed at any time.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        credentials: Credentials | None = None,
        latency: float = 0.0,
        max_concurrent: int | None = None,
        retry_after: int | None = None,
        failure_rate: float = 0.0,
        seed: int = 0,
        public_base_url: str | None = None,
    ) -> None:
        if not isinstance(catalog, Catalog | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # a list is a likely mistake
            raise TypeError(f"catalog should be a Catalog, not {type(catalog).__name__}")
        if latency < 0:
            raise ValueError(f"latency should be at least 0 seconds, not {latency}")
        if max_concurrent is not None and max_concurrent < 1:
            raise ValueError(f"max_concurrent should be at least 1, not {max_concurrent}")
        if not 0 <= failure_rate <= 1:
            raise ValueError(f"failure_rate should be between 0 and 1, not {failure_rate}")
        self.catalog: Catalog = builtin_catalog() if catalog is None else catalog
        self.credentials: Credentials = credentials or _CREDENTIALS
        self.latency = latency
        self.max_concurrent = max_concurrent
        self.retry_after = retry_after
        self.failure_rate = failure_rate
        self.peak_concurrency: int = 0
        """The largest number of concurrent requests so far."""
        self._host = host
        self._port = port
        self._public_base_url = public_base_url and public_base_url.rstrip("/")
        self._authorization = encode_basic_auth(
            self.credentials.username, self.credentials.password
        )
        self._faults: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self._requests = deque[ReceivedRequest](maxlen=_REQUESTS_KEPT)
        self._in_flight = 0
        self._runner: web.ServerRunner | None = None

    def __repr__(self) -> str:
        return f"<Sandbox at {self.url}>" if self._runner else "<Sandbox, not running>"

    @property
    def url(self) -> str:
        """The URL of the server, such as ``http://127.0.0.1:8080``.

        :raises RuntimeError: the sandbox is not running.
        """
        if self._runner is None:
            raise RuntimeError("the sandbox is not running: use `async with` or `await start()`")
        host = _LOOPBACK.get(self._host, self._host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The latest 10,000 requests, in the order of their arrival."""
        return list(self._requests)

    def clear(self) -> None:
        """Forget the received requests, the peak, and the scripted faults."""
        self._requests.clear()
        self._faults.clear()
        self.peak_concurrency = self._in_flight

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int = 1,
        code: int | None = None,
        message: str | None = None,
        retry_after: float | str | None = None,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        """Respond to the next request with an error, or with any ``status`` and ``body``.

        Scripted faults are used in order, and before authentication.

        :param status: the status of the response.
        :param times: the number of requests that fail.
        :param code: Twilio's error code; by default the usual one of the status.
        :param message: the error's message; by default the usual one of the status.
        :param retry_after: the value of the header ``Retry-After``.
        :param body: the body, instead of Twilio's error.
        :param headers: headers to add or replace.
        :param path: fail only requests whose path contains this, such as a SID.
        :raises ValueError: ``times`` is below 1, or ``status`` is not between 200 and 599.
        """
        if not 200 <= status <= 599:
            raise ValueError(f"status should be between 200 and 599, not {status}")
        response = error_response(status, message, code, headers, retry_after)
        if body is not None:
            encoded = body.encode() if isinstance(body, str) else body
            response = attrs.evolve(response, body=encoded)
        self._faults.append(Fault(response, times=times, path=path))

    def delay_next(self, seconds: float, *, times: int = 1, path: str | None = None) -> None:
        """Delay the response to the next request.

        :raises ValueError: ``times`` is below 1.
        """
        self._faults.append(Fault(delay=seconds, times=times, path=path))

    def drop_next(self, *, times: int = 1, path: str | None = None) -> None:
        """Close the connection of the next request without a response.

        aiohttp's client repeats such a request once before it raises an error.

        :raises ValueError: ``times`` is below 1.
        """
        self._faults.append(Fault(drop=True, times=times, path=path))

    def truncate_next(self, *, times: int = 1, path: str | None = None) -> None:
        """Close the connection of the next request after half of the response's body.

        :raises ValueError: ``times`` is below 1.
        """
        self._faults.append(Fault(truncate=True, times=times, path=path))

    async def start(self) -> Self:
        """Start to listen, unless it is running, and return the sandbox.

        :raises OSError: it cannot listen on this address.
        """
        if self._runner is None:
            # With handler_cancellation, a client that disconnects frees its slot at once.
            server = web.Server(self._handle, handler_cancellation=True, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT)
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
            self._port = runner.addresses[0][1]
            self._runner = runner
        return self

    async def close(self) -> None:
        """Stop within about 0.1 seconds. Waiting requests lose their connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        shown_headers = CIMultiDict(request.headers)
        shown_headers.popall(hdrs.AUTHORIZATION, None)
        received = ReceivedRequest(request.method, request.rel_url, CIMultiDictProxy(shown_headers))
        self._requests.append(received)
        self._in_flight += 1
        concurrent = self._in_flight
        self.peak_concurrency = max(self.peak_concurrency, concurrent)
        try:
            fault = take_fault(self._faults, request.path)
            if fault is None and self.max_concurrent and concurrent > self.max_concurrent:
                fault = Fault(error_response(429, retry_after=self.retry_after))
            else:
                fault = fault or random_fault(self._random, self.failure_rate) or Fault()
                if seconds := self.latency + fault.delay:
                    await asyncio.sleep(seconds)
        finally:
            self._in_flight -= 1
        if fault.drop:
            request.protocol.force_close()
            return web.Response()  # not sent: the connection is closed
        response = fault.response or self._response(request)
        received.status = response.status
        headers = CIMultiDict(
            {
                hdrs.CONTENT_TYPE: "application/json",
                "Twilio-Request-Id": f"RQ{uuid.uuid4().hex}",
                "Twilio-Concurrent-Requests": str(concurrent),
            }
        )
        headers.update(response.headers)
        body = _compressed(response.body, request, headers)
        if fault.truncate:
            return await _send_half(request, body, response.status, headers)
        return web.Response(body=body, status=response.status, headers=headers)

    def _response(self, request: web.BaseRequest) -> Response:
        # The scheme is case-insensitive: RFC 7235, section 2.1.
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if f"{scheme.capitalize()} {token}" != self._authorization:
            # https://www.twilio.com/docs/api/errors/20003
            challenge = {"WWW-Authenticate": 'Basic realm="Twilio API"'}
            return error_response(401, "Authenticate", headers=challenge)
        host = request.headers.get(hdrs.HOST, "")
        origin = f"http://{host}" if _HOST.fullmatch(host) else self.url
        base_url = self._public_base_url or origin
        return api_response(self.catalog, base_url, request.method, request.path, request.query)


def _compressed(body: bytes, request: web.BaseRequest, headers: CIMultiDict[str]) -> bytes:
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
    # A scripted response may have its own Content-Encoding.
    if len(body) < _GZIP_MIN_SIZE or "gzip" not in accepted or hdrs.CONTENT_ENCODING in headers:
        return body
    headers[hdrs.CONTENT_ENCODING] = "gzip"
    return gzip.compress(body, compresslevel=1, mtime=0)


async def _send_half(
    request: web.BaseRequest, body: bytes, status: int, headers: CIMultiDict[str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    request.protocol.force_close()
    return response
