"""The server: aiohttp on one side, what `answers` decides on the other."""

import asyncio
import gzip
import random
from types import TracebackType
from typing import Final, Self

from aiohttp import encode_basic_auth, hdrs, web
from multidict import CIMultiDict

from marketplace_async.sandbox.answers import Answer, Api, error_answer
from marketplace_async.sandbox.builtin import builtin_catalog
from marketplace_async.sandbox.catalog import Catalog
from marketplace_async.sandbox.faults import Cut, Fault, FaultInjector, ScriptedFaults
from marketplace_async.sandbox.received import ReceivedRequest, RequestLog
from marketplace_async.settings import Credentials

__all__ = ["Sandbox"]

# Made up; they open nothing but a sandbox. An API key, for its variables come first.
_CREDENTIALS: Final = Credentials("SK" + 32 * "a", "sandbox")

_COMPRESSED_FROM: Final = 1_400  # bytes; less fits into one packet as it is
_SHUTDOWN_SECONDS: Final = 0.1  # for a client that does not read what it is sent
_NO_FAULT: Final = Fault()


class Sandbox(ScriptedFaults):
    """A real HTTP server on this machine that speaks Twilio's Marketplace v1 API.

    It listens while its ``async with`` block runs, or from `start` to `close`. Closed, it can
    be started again and listens at the same port.

    :param catalog: what to serve; `builtin_catalog` unless given.
    :param host: the address to listen at.
    :param port: the port to listen at; 0 takes a free one.
    :param credentials: the ones that are accepted; made-up ones unless given.
    :param latency: seconds before each answer.
    :param max_concurrent: how many requests are admitted at once. One beyond is refused with
        429 and code 20429, without latency: https://www.twilio.com/docs/api/errors/20429
    :param retry_after: seconds, sent as ``Retry-After`` with each such refusal.
    :param failure_rate: share of the requests that fail, 0 to 1, each in one of these ways:
        429, 500, 502, 503, 504, no answer, half a body.
    :param seed: decides which requests these are and how each fails.
    :param public_base_url: what URLs in answers begin with where a proxy stands in front; the
        sandbox's own address unless given.
    :raises TypeError: ``catalog`` is none.
    :raises ValueError: a number is out of range.

    ``latency``, ``max_concurrent``, ``retry_after`` and ``failure_rate`` are attributes too
    and can be changed at any time.
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
        super().__init__()
        if not isinstance(catalog, Catalog | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # a list is soon given
            raise TypeError(f"catalog should be a Catalog, not {type(catalog).__name__}")
        if latency < 0:
            raise ValueError(f"latency should be at least 0 seconds, not {latency}")
        if max_concurrent is not None and max_concurrent < 1:
            raise ValueError(f"max_concurrent should be at least 1, not {max_concurrent}")
        if not 0 <= failure_rate <= 1:
            raise ValueError(f"failure_rate should be between 0 and 1, not {failure_rate}")
        self.catalog: Catalog = builtin_catalog() if catalog is None else catalog
        self.credentials: Credentials = _CREDENTIALS if credentials is None else credentials
        self.latency = latency
        self.max_concurrent = max_concurrent
        self.retry_after = retry_after
        self.failure_rate = failure_rate
        self.peak_concurrency: int = 0
        """The largest number of requests that were there at once."""
        self._host = host
        self._port = port
        self._public_base_url = public_base_url
        self._authorization = encode_basic_auth(
            self.credentials.username, self.credentials.password
        )
        self._injector = FaultInjector(seed)
        self._ids = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self._log = RequestLog()
        self._answering: set[asyncio.Task[None]] = set()
        self._runner: web.ServerRunner | None = None
        self._api = Api(self.catalog, "")

    def __repr__(self) -> str:
        return f"<Sandbox at {self.url}>" if self._runner else "<Sandbox, not running>"

    @property
    def url(self) -> str:
        """Where it listens, such as ``http://127.0.0.1:8080``.

        :raises RuntimeError: it does not run.
        """
        if self._runner is None:
            raise RuntimeError("the sandbox does not run: use `async with` or `await start()`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The latest 10,000 requests in the order of their arrival."""
        return self._log.all()

    def clear(self) -> None:
        """Forget the requests received, their peak, and the faults still to come."""
        self._log.clear()
        self._steps.clear()
        self.peak_concurrency = len(self._answering)

    async def start(self) -> Self:
        """Listen, unless it does already; gives the sandbox itself.

        :raises OSError: it cannot listen at this address.
        """
        if self._runner is not None:
            return self
        # A client that leaves frees its place at once, as it does not wait any more.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        self._runner = runner
        self._port = runner.addresses[0][1]
        self._api = Api(self.catalog, (self._public_base_url or self.url).rstrip("/"))
        return self

    async def close(self) -> None:
        """Stop at once: a request that waits for its answer loses its connection."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for connection in self._answering:
            connection.cancel()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        number = self._log.arrived(request)
        connection = request.task
        self._answering.add(connection)
        concurrent = len(self._answering)
        self.peak_concurrency = max(self.peak_concurrency, concurrent)
        try:
            fault = self._take(request.path)
            if fault is None and self.max_concurrent and concurrent > self.max_concurrent:
                fault = Fault(self._refusal())
            else:
                fault = fault or self._injector.draw(self.failure_rate) or _NO_FAULT
                if seconds := self.latency + fault.delay:
                    await asyncio.sleep(seconds)
        finally:
            self._answering.discard(connection)
        if fault.cut is Cut.BEFORE_ANSWER:
            request.protocol.force_close()
            return web.Response()  # never sent
        answer = fault.answer or self._answer(request)
        self._log.answered(number, answer.status)
        headers = CIMultiDict(
            {
                hdrs.CONTENT_TYPE: "application/json",
                "Twilio-Request-Id": f"RQ{self._ids.getrandbits(128):032x}",
                "Twilio-Concurrent-Requests": str(concurrent),
            }
        )
        headers.update(answer.headers)
        body = _encoded(answer.body, request, headers)
        if fault.cut is Cut.IN_BODY:
            return await _send_half(request, body, answer.status, headers)
        return web.Response(body=body, status=answer.status, headers=headers)

    def _refusal(self) -> Answer:
        wait = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return error_answer(429, headers=wait)

    def _answer(self, request: web.BaseRequest) -> Answer:
        # The scheme is the same in any case: RFC 7235, section 2.1.
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if f"{scheme.capitalize()} {token}" != self._authorization:
            # https://www.twilio.com/docs/api/errors/20003
            challenge = {"WWW-Authenticate": 'Basic realm="Twilio API"'}
            return error_answer(401, "Authenticate", headers=challenge)
        return self._api.answer(request.method, request.path, request.query)


def _encoded(body: bytes, request: web.BaseRequest, headers: CIMultiDict[str]) -> bytes:
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
    if (
        len(body) < _COMPRESSED_FROM
        or "gzip" not in accepted
        or hdrs.CONTENT_ENCODING in headers  # asked for with a fault
    ):
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
