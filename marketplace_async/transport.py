"""One call: its deadline, its attempts and the waits in between.

What is decided here is decided by functions of values: `retry` (is there another attempt, and
when?) and `budget` (may there be one now?). An attempt is made by `exchange`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from yarl import URL

from marketplace_async.budget import RetryBudget, is_outage
from marketplace_async.deadlines import Deadlines, Expired, Watch
from marketplace_async.errors import (
    ApiError,
    MarketplaceError,
    RequestTimeoutError,
    SessionClosedError,
)
from marketplace_async.exchange import Exchange
from marketplace_async.retry import RetryEvent, RetryPolicy, is_retryable

__all__ = ["Limiter", "Transport"]

T = TypeVar("T")

Limiter = AbstractAsyncContextManager[Any, bool | None]
"""What is entered around each attempt, sees its error pass, and must not swallow it."""

logger: Final = logging.getLogger("marketplace_async")


class _HeldBack(Exception):
    """Leaves a limiter whose place is not used, because a pause began while the call queued."""


class _Call:
    """How far a call has got."""

    __slots__ = ("attempts", "error", "has_turn", "url", "watch")

    def __init__(self, url: URL, watch: Watch) -> None:
        self.url = url
        self.watch = watch
        self.attempts = 0
        self.error: MarketplaceError | None = None
        self.has_turn = False


class Transport:
    """Makes the calls of a session, once opened."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        origin: URL,
        retry: RetryPolicy,
        limiter: Limiter,
        timeout: float,
        on_retry: Callable[[RetryEvent], object] | None,
    ) -> None:
        self.origin = origin
        """The only scheme, host and port that requests go to."""
        self.clean: Callable[[MarketplaceError], None] = exchange.clean
        """Cuts the credentials out of an error."""
        self._base = str(origin)
        self._exchange = exchange
        self._retry = retry
        self._limiter = limiter
        self._timeout = timeout
        self._on_retry = on_retry
        self._deadlines: Deadlines | None = None

    def open(self) -> None:
        """Begin, in the event loop that all calls will be made in."""
        loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._timeout, loop)
        self._budget = RetryBudget(loop.time)

    def close(self) -> None:
        """End all calls under way with a `SessionClosedError`.

        :raises SessionClosedError: another event loop is to do that, which still can.
        """
        if self._deadlines is None:
            return
        if not (_is_running(self._deadlines.loop) or self._deadlines.loop.is_closed()):
            raise SessionClosedError("the session belongs to another event loop; close it there")
        self._deadlines.close()

    async def get(self, path_and_query: str, structure: Callable[[bytes], T]) -> T:
        """Request a path of the origin and give what ``structure`` makes of the body.

        Path and query go out as they are; nothing is quoted or normalised.

        :raises ApiError: the API answered with an error.
        :raises ConnectionFailedError: no complete answer arrived.
        :raises RequestTimeoutError: no complete answer arrived in time.
        :raises InvalidResponseError: the answer is not what the API describes.
        :raises SessionClosedError: the session is not open, or not in this event loop.
        """
        deadlines = self._deadlines
        if deadlines is None:
            raise SessionClosedError("the session is not open: use async with or await start()")
        if deadlines.closed:
            raise SessionClosedError("the session is closed")
        if not _is_running(deadlines.loop):
            raise SessionClosedError("the session belongs to another event loop")
        call = _Call(URL(self._base + path_and_query, encoded=True), Watch(deadlines))
        try:
            with call.watch:
                while True:
                    try:
                        return await self._attempt(call, structure)
                    except MarketplaceError as error:
                        self.clean(error)
                        call.error = _about(call, error)
                    await self._back_off(call, call.error)
        except Expired:
            pass
        finally:
            if call.has_turn:
                self._budget.end_turn()
        if deadlines.closed:
            raise _about(call, SessionClosedError("the session was closed under the call"))
        raise _about(call, RequestTimeoutError("the call", self._timeout, call.error))

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
        left = call.watch.left
        if wait >= left:
            error.not_retried = f"the next wait, {wait:.3g} s, is not within the {left:.3g} s left"
            raise error
        return wait

    async def _attempt(self, call: _Call, structure: Callable[[bytes], T]) -> T:
        body = None
        while body is None:
            if self._budget.is_paused:
                await self._sit_out_the_pause(call)
            try:
                async with self._limiter:
                    if self._budget.is_paused:
                        raise _HeldBack
                    call.attempts += 1
                    body = await self._exchange.get(call.url, call.attempts)
            except _HeldBack:
                continue
            if body is None:  # pyright: ignore[reportUnnecessaryComparison]  # a caller's may
                raise RuntimeError("the limiter swallowed the error of an attempt")
        structured = structure(body)
        self._budget.succeeded()
        return structured

    async def _sit_out_the_pause(self, call: _Call) -> None:
        while (pause := self._budget.pause_left) > 0:
            left = call.watch.left
            if pause >= left:
                error = RequestTimeoutError("the call", self._timeout, call.error)
                error.not_retried = (
                    f"the API asked for a pause of {pause:.3g} s, and {left:.3g} s are left"
                )
                raise error
            # All wait for the same moment, and must not start together.
            await asyncio.sleep(pause + random.random() * self._retry.wait_initial)


def _about(call: _Call, error: MarketplaceError) -> MarketplaceError:
    error.method, error.url, error.attempts = "GET", str(call.url), call.attempts
    return error


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # in a child process that was forked by a task, no loop runs
        return False
