"""One call: its deadline, its attempts and the waits in between. The only place that does I/O.

What is decided here is decided by functions of values: `responses` (what does this answer
mean?), `retry` (is there another attempt, and when?) and `budget` (may there be one now?).
"""

import asyncio
import logging
import random
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar

import aiohttp
from multidict import CIMultiDict, istr
from yarl import URL

from marketplace_async.budget import RetryBudget, is_outage
from marketplace_async.deadlines import Deadlines, Expired, Watch
from marketplace_async.errors import (
    ApiError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    RequestTimeoutError,
    ResponseTooLargeError,
    SessionClosedError,
)
from marketplace_async.responses import error_of
from marketplace_async.retry import RetryEvent, RetryPolicy, is_retryable
from marketplace_async.settings import Credentials, Timeout
from marketplace_async.version import __version__

__all__ = ["Limiter", "Transport"]

T = TypeVar("T")

Limiter = AbstractAsyncContextManager[Any, bool | None]
"""What is entered around each attempt and sees its error pass."""

logger: Final = logging.getLogger("marketplace_async")

USER_AGENT: Final = f"marketplace-async/{__version__} Python/{sys.version.split()[0]}"
ENCODINGS: Final = frozenset({"identity", "gzip", "deflate"})
ERROR_BODY_BYTES: Final = 64 * 1024
CONTENT_ENCODING: Final = istr("Content-Encoding")


class _Unshown(str):
    """The value of a header that must not show in a ``repr``.

    aiohttp has the headers of a request in its exceptions and in local variables, which error
    trackers show together with a traceback.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class _HeldBack(Exception):
    """Leaves a limiter whose place is not used, because a pause began while the call queued."""


class _Call:
    """How far a call has got."""

    __slots__ = ("attempts", "ends_at", "error", "has_turn", "url")

    def __init__(self, url: URL) -> None:
        self.url = url
        self.attempts = 0
        self.error: MarketplaceError | None = None
        self.ends_at = 0.0
        self.has_turn = False


class Transport:
    """Sends the requests of a session, once opened, through one `aiohttp.ClientSession`."""

    def __init__(
        self,
        *,
        origin: URL,
        credentials: Credentials,
        retry: RetryPolicy,
        limiter: Limiter,
        timeout: Timeout,
        max_response_bytes: int,
        on_retry: Callable[[RetryEvent], object] | None,
    ) -> None:
        self.origin = origin
        """The only scheme, host and port that requests go to."""
        self._base = str(origin)
        authorization = aiohttp.encode_basic_auth(credentials.username, credentials.password)
        self._secrets = (authorization.split()[1].encode(), credentials.password.encode())
        # Given to each request and not to the aiohttp session, which may be the caller's and
        # talk to others too. Only gzip and deflate are undone piece by piece.
        self._headers = CIMultiDict(
            {
                "Authorization": _Unshown(authorization),
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": USER_AGENT,
            }
        )
        self._retry = retry
        self._limiter = limiter
        self._timeout = timeout
        # The time of a whole attempt is watched here. ``connect`` of aiohttp would count the
        # wait for a free connection too.
        self._http_timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout.connect)
        self._max_response_bytes = max_response_bytes
        self._on_retry = on_retry
        self._http: aiohttp.ClientSession | None = None

    def __reduce__(self) -> NoReturn:
        # Handles and pagers hold a transport too, and are easily handed to another process.
        raise TypeError("a session and what it gives hold credentials and cannot be pickled")

    def open(self, http: aiohttp.ClientSession) -> None:
        """Take the pool to send through, in the event loop that all calls will be made in."""
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._calls = Deadlines(self._timeout.total, self._loop)
        self._attempts = Deadlines(self._timeout.attempt, self._loop)
        self._budget = RetryBudget(self._loop.time)

    def close(self) -> None:
        """End all calls under way with a `SessionClosedError`.

        :raises SessionClosedError: another event loop is to do that, which still can.
        """
        if not (self._is_at_home() or self._loop.is_closed()):
            raise SessionClosedError("the session belongs to another event loop; close it there")
        self._calls.close()
        self._attempts.close()

    def _is_at_home(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:  # in a child process that was forked by a task, no loop runs
            return False

    async def get(self, path_and_query: str, structure: Callable[[bytes], T]) -> T:
        """Request a path of the origin and give what ``structure`` makes of the body.

        Path and query go out as they are; nothing is quoted or normalised.

        :raises ApiError: the API answered with an error.
        :raises ConnectionFailedError: no complete answer arrived.
        :raises RequestTimeoutError: no complete answer arrived in time.
        :raises InvalidResponseError: the answer is not what the API describes.
        :raises SessionClosedError: the session is not open, or not in this event loop.
        """
        if self._http is None:
            raise SessionClosedError("the session is not open: use async with or await start()")
        if self._calls.closed:
            raise SessionClosedError("the session is closed")
        if not self._is_at_home():
            raise SessionClosedError("the session belongs to another event loop")
        call = _Call(URL(self._base + path_and_query, encoded=True))
        try:
            with Watch(self._calls) as watch:
                call.ends_at = watch.when
                while True:
                    try:
                        return await self._attempt(call, structure)
                    except MarketplaceError as error:
                        call.error = self._about(call, error)
                    await self._back_off(call, call.error)
        except Expired:
            pass
        finally:
            if call.has_turn:
                self._budget.end_turn()
        if self._calls.closed:
            raise self._about(call, SessionClosedError("the session was closed under the call"))
        raise self._about(call, RequestTimeoutError("the call", self._timeout.total, call.error))

    async def _back_off(self, call: _Call, error: MarketplaceError) -> None:
        """Wait until the next attempt, or raise the error of the last if there is none."""
        wait = self._wait_after(call, error)
        if call.has_turn:
            call.has_turn = False
            self._budget.end_turn()
        if is_outage(error):
            await self._budget.turn()
            call.has_turn = True
            if self._budget.is_spent:
                error.not_retried = "too many retries of this session have failed of late"
                raise error
        event = RetryEvent("GET", str(call.url), call.attempts, wait, error)
        logger.info(
            "attempt %d failed, next in %.3g s: %s",
            event.attempt,
            wait,
            error,
            extra={"attempt": event.attempt, "wait": wait, "url": event.url},
        )
        if self._on_retry is not None:
            self._on_retry(event)
        await asyncio.sleep(wait)

    def _wait_after(self, call: _Call, error: MarketplaceError) -> float:
        """Give the seconds to wait before the next attempt, or raise the error of the last."""
        if error.not_retried:
            raise error
        self._budget.failed(error, call.attempts)
        wait = self._retry.wait(error, call.attempts, random.random)
        if wait is None:
            if call.attempts < self._retry.attempts and is_retryable(error):
                error.not_retried = (
                    f"the server asks for more than {self._retry.retry_after_max:g} s"
                    " (retry_after_max)"
                )
            raise error
        if isinstance(error, ApiError) and error.retry_after is not None:
            self._budget.pause(min(wait, error.retry_after))
        left = call.ends_at - self._loop.time()
        if wait >= left:
            error.not_retried = f"the next wait, {wait:.3g} s, is not within the {left:.3g} s left"
            raise error
        return wait

    async def _attempt(self, call: _Call, structure: Callable[[bytes], T]) -> T:
        while True:
            if self._budget.is_paused:
                await self._sit_out_the_pause(call)
            try:
                async with self._limiter:
                    if self._budget.is_paused:
                        raise _HeldBack
                    body = await self._exchange(call)
                break
            except _HeldBack:
                continue
        structured = structure(body)
        self._budget.succeeded()
        return structured

    async def _sit_out_the_pause(self, call: _Call) -> None:
        while (pause := self._budget.pause_left) > 0:
            left = call.ends_at - self._loop.time()
            if pause >= left:
                error = RequestTimeoutError(
                    f"the pause of {pause:.3g} s that the API asked of this session", left
                )
                error.not_retried = "the call would be over before the pause"
                raise error
            # All wait for the same moment, and must not start together.
            await asyncio.sleep(pause + random.random() * self._retry.wait_initial)

    async def _exchange(self, call: _Call) -> bytes:
        """Make one request and give the body of its answer, or raise what the answer means."""
        assert self._http is not None
        call.attempts += 1
        status = 0
        failure: MarketplaceError
        watch = Watch(self._attempts)
        try:
            with watch:
                response = await self._http.request(
                    "GET",
                    call.url,
                    headers=self._headers,
                    timeout=self._http_timeout,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=True,
                )
                try:
                    status = response.status
                    if status == 200:
                        self._check_encoding(response)
                        body = await response.content.readany()
                        if not response.content.at_eof():
                            body += await self._read(response, self._max_response_bytes - len(body))
                        if len(body) <= self._max_response_bytes:
                            return body
                        failure = ResponseTooLargeError(
                            f"the body is larger than {self._max_response_bytes} bytes "
                            "(max_response_bytes)"
                        )
                    else:
                        failure = await self._error(response)
                finally:
                    if not response.closed:  # it is after the last byte, and reusable
                        response.close()
        except Expired:
            failure = RequestTimeoutError("an attempt", self._timeout.attempt)
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            failure = self._translated(error)
        finally:
            if logger.isEnabledFor(logging.DEBUG):
                self._log(call, status, self._loop.time() - watch.began)
        # Raised here, where no exception of aiohttp is its context: theirs hold the request's
        # headers, with the credentials.
        raise failure

    @staticmethod
    def _check_encoding(response: aiohttp.ClientResponse) -> None:
        if CONTENT_ENCODING in response.headers:
            encoding = ", ".join(response.headers.getall(CONTENT_ENCODING))
            if encoding.lower() not in ENCODINGS:
                raise InvalidResponseError(f"the body is encoded as {encoding}, not as asked for")

    async def _error(self, response: aiohttp.ClientResponse) -> MarketplaceError:
        try:
            body = await self._read(response, ERROR_BODY_BYTES)
        except (aiohttp.ClientError, RuntimeError):
            body = b""  # the status alone says what the error means
        for secret in self._secrets:  # debugging pages show what was sent
            body = body.replace(secret, b"...")
        return error_of(response.status, response.headers, body, datetime.now(UTC))

    @staticmethod
    async def _read(response: aiohttp.ClientResponse, enough: int) -> bytes:
        """Read until the end, or until there is more than enough."""
        chunks: list[bytes] = []
        size = 0
        while size <= enough and (chunk := await response.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)

    def _translated(self, error: Exception) -> MarketplaceError:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return CertificateError(str(error))
            case TimeoutError():
                return RequestTimeoutError("connecting", self._timeout.connect)
            case RuntimeError() if self._http is None or self._http.closed:
                return SessionClosedError("the aiohttp session is closed")
            case aiohttp.ClientResponseError() if "content-encoding" in error.message:
                return InvalidResponseError(
                    f"the body is not encoded as asked for: {error.message}"
                )
            case aiohttp.ClientResponseError():  # its status is made up
                return ConnectionFailedError(f"the answer is not HTTP: {error.message}")
            case _:
                failure = ConnectionFailedError(f"{type(error).__name__}: {error}")
                if isinstance(error, ValueError):
                    failure.not_retried = "aiohttp does not make such a request"
                return failure

    @staticmethod
    def _about(call: _Call, error: MarketplaceError) -> MarketplaceError:
        error.method, error.url, error.attempts = "GET", str(call.url), call.attempts
        return error

    @staticmethod
    def _log(call: _Call, status: int, seconds: float) -> None:
        logger.debug(
            "GET %s: %s in %.3f s, attempt %d",
            call.url,
            status or "no answer",
            seconds,
            call.attempts,
            extra={
                "method": "GET",
                "url": str(call.url),
                "status": status,
                "duration": seconds,
                "attempt": call.attempts,
            },
        )
