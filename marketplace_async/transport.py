"""One call: its deadline, its attempts, and the waits between them.

The decisions are made elsewhere: `retry` (is there another attempt, and when), `outage` (may it
be made now) and the limiter. One attempt is made by `attempt`.
"""

import asyncio
import inspect
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import attrs
from yarl import URL

from marketplace_async.attempt import Sender
from marketplace_async.errors import (
    ApiError,
    MarketplaceError,
    RateLimitError,
    RequestTimeoutError,
    SessionClosedError,
)
from marketplace_async.limits import AdaptiveLimiter, Limiter, is_batch
from marketplace_async.outage import DOWN, Outage
from marketplace_async.retry import (
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    is_local,
    is_outage_sign,
    is_retryable,
)
from marketplace_async.timeouts import Deadline, Deadlines, Expired

__all__ = ["SessionStatistics", "Transport"]

T = TypeVar("T")

logger: Final = logging.getLogger("marketplace_async")

# Seconds, after failures that do not count: the limiter and the outage set the pace already.
UNCOUNTED_WAIT_MAX: Final = 1.0
# A fan-out starts inputs while fewer attempts wait than this share of those in flight. The
# limiter grows only while some wait.
WAITING_SHARE: Final = 4
WAITING_MIN: Final = 2

LIMITER: Final = "waiting for the limiter"


@attrs.frozen
class SessionStatistics:
    """The state of a session at one moment, and its counts since the start."""

    limit: int | None
    """The present limit of an `AdaptiveLimiter`, None for another limiter."""
    in_flight: int
    """The number of attempts under way."""
    waiting: int
    """The number of attempts that wait for the limiter, a pause, or the end of an outage."""
    calls: int
    """The number of calls started."""
    attempts: int
    """The number of attempts started."""
    retries: int
    """The number of attempts that were not the first of their call."""
    rejections: int
    """The number of 429 responses."""
    outage: bool
    """True while the server is considered down."""
    pause: float
    """The seconds until the end of the pause that the server requested, 0 without one."""
    budget_left: int
    """The tokens left in the retry budget, 0 to 500."""


class _Blocked(Exception):
    """Leaves the limiter: a pause or an outage began while the attempt waited for its slot."""


class _Call:
    """The progress of one call."""

    attempts = 0
    failures = 0  # the attempts that count towards RetryPolicy.attempts
    error: MarketplaceError | None = None  # of the last attempt
    is_probe = False  # of an outage, the present attempt
    is_waiting = False  # for the present attempt
    spent: Mapping[str, float] = MappingProxyType({})  # seconds by phase
    _phase = LIMITER
    _since = 0.0

    def __init__(self, url: URL, deadline: Deadline, *, is_batch: bool) -> None:
        self.url = url
        self.deadline = deadline
        self.is_batch = is_batch

    def enter(self, phase: str) -> None:
        """Begin a phase; the time until now belongs to the one before."""
        elapsed = self.deadline.elapsed
        spent = elapsed - self._since
        if spent > 0.001:
            self.spent = {**self.spent, self._phase: self.spent.get(self._phase, 0.0) + spent}
        self._phase, self._since = phase, elapsed


class Transport:
    """Makes the calls of an open session, in the event loop in which it is created."""

    def __init__(
        self,
        sender: Sender,
        *,
        origin: URL,
        retry: RetryPolicy,
        limiter: Limiter,
        timeout: float,
        on_retry: Callable[[RetryEvent], object] | None,
    ) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self._sender = sender
        self._base = str(origin)
        self._retry = retry
        self._limiter = limiter
        self._on_retry = on_retry
        self._deadlines = Deadlines(timeout, self.loop)
        self._budget = RetryBudget()
        self._outage = Outage(self.loop, attempts=retry.attempts, interval=retry.wait_initial)
        self._paused_until = 0.0
        self._starts: deque[asyncio.Future[None]] = deque()  # fan-outs that wait for room
        self._calls = self._attempts = self._retries = self._rejections = 0
        self._in_flight = self._waiting = 0
        self._rejected = 0  # calls that wait after a 429

    def statistics(self) -> SessionStatistics:
        """Return the present state and the counts."""
        limiter = self._limiter
        return SessionStatistics(
            limit=limiter.statistics().limit if isinstance(limiter, AdaptiveLimiter) else None,
            in_flight=self._in_flight,
            waiting=self._waiting,
            calls=self._calls,
            attempts=self._attempts,
            retries=self._retries,
            rejections=self._rejections,
            outage=self._outage.is_on,
            pause=max(0.0, self._paused_until - self.loop.time()) if self._paused_until else 0.0,
            budget_left=self._budget.tokens,
        )

    def close(self) -> None:
        """End all calls under way with `SessionClosedError`."""
        self._deadlines.close()
        self._outage.close()
        self._sender.close()

    async def get(self, path_and_query: str, read: Callable[[bytes], T]) -> T:
        """Make one call and return ``read(body)``; ``path_and_query`` is sent as it is.

        :raises ApiError: the API responded with an error.
        :raises ConnectionFailedError: no complete response arrived.
        :raises RequestTimeoutError: no complete response arrived in time.
        :raises InvalidResponseError: the response is not as the API describes it.
        :raises SessionClosedError: the session was closed during the call.
        """
        self._calls += 1
        url = URL(self._base + path_and_query, encoded=True)
        call = _Call(url, Deadline(self._deadlines), is_batch=is_batch.get())
        try:
            with call.deadline:
                while True:
                    try:
                        return await self._attempt(call, read)
                    except MarketplaceError as error:
                        call.error = self._about(call, error)
                        wait = self._wait_after(call, error)
                        if wait is None:
                            raise
                    await self._back_off(call, call.error, wait)
        except Expired:
            pass
        call.enter("")
        end: MarketplaceError = self._late(call)
        if self._deadlines.closed:
            end = SessionClosedError("the session was closed during the call")
        raise self._about(call, end) from call.error

    async def _attempt(self, call: _Call, read: Callable[[bytes], T]) -> T:
        """Wait until an attempt may be made, make it, and record how it ended."""
        call.is_waiting, call.is_probe = True, False
        self._waiting += 1
        try:
            body: bytes | None = None
            while body is None:
                if self._paused_until or self._outage.is_on:
                    await self._wait_for_permission(call)
                body = await self._send(call)
            result = self._sender.read(body, read)
        except MarketplaceError as error:
            body = None  # error trackers show local variables, and it may echo credentials
            if not call.is_waiting:
                self._record_failure(call, error)
            raise
        else:
            self._record_success()
            return result
        finally:
            if call.is_waiting:
                self._waiting -= 1
            else:
                self._in_flight -= 1
            if call.is_probe:
                self._outage.end_probe(has_begun=not call.is_waiting)
            self._outage.release()
            self.start_next()

    async def _wait_for_permission(self, call: _Call) -> None:
        while (pause := self._paused_until - self.loop.time()) > 0:
            call.enter("waiting for the end of a pause")
            left = call.deadline.left
            if pause >= left:
                error = self._late(call)
                error.not_retried = (
                    f"the server requested a pause of {pause:.3g} s, and {left:.3g} s are left"
                )
                raise error
            # All calls wait for the same moment and must not start together.
            await asyncio.sleep(pause + random.random() * self._retry.wait_initial)
        self._paused_until = 0.0
        if self._outage.is_on and not call.is_probe:
            call.enter("waiting for the end of an outage")
            call.is_probe = await self._outage.wait_for_turn(is_batch=call.is_batch)
        call.enter(LIMITER)

    async def _send(self, call: _Call) -> bytes | None:
        """Send the request in a slot of the limiter; return None if it may not be sent now."""
        try:
            async with self._limiter:
                if self._paused_until or (self._outage.is_on and not call.is_probe):
                    raise _Blocked
                call.enter("in attempts")
                call.is_waiting = False
                call.attempts += 1
                self._attempts += 1
                self._retries += call.attempts > 1
                self._waiting -= 1
                self._in_flight += 1
                if call.is_probe:
                    self._outage.begin_probe()
                self.start_next()
                return await self._sender.get(call.url, call.attempts)
        except _Blocked:
            return None
        raise RuntimeError("the limiter suppressed the error of an attempt")

    def _record_success(self) -> None:
        self._budget.record_success()
        self._outage.record_success()

    def _record_failure(self, call: _Call, error: MarketplaceError) -> None:
        is_rejection = isinstance(error, RateLimitError)
        self._rejections += is_rejection
        if is_outage_sign(error):
            self._outage.record_failure(error, was_probe=call.is_probe)
        elif not is_local(error):
            self._record_success()
        if not call.is_batch:
            call.failures += 1
            self._budget.record_failure(error, call.attempts)
        elif not (is_rejection or is_local(error) or self._outage.is_on):
            call.failures += 1

    def _wait_after(self, call: _Call, error: MarketplaceError) -> float | None:
        """Return the seconds until the next attempt, None if ``error`` ends the call."""
        if error.not_retried or not is_retryable(error):
            return None
        last = self._retry.attempts
        # The failures of a batch call may not count: then it has more attempts than the policy.
        step = last if call.failures >= last else max(1, min(call.attempts, last - 1))
        wait = self._retry.wait(error, step, random.random)
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        if wait is None:
            if retry_after is not None and retry_after > self._retry.retry_after_max:
                error.not_retried = (
                    f"the server requests a wait of more than {self._retry.retry_after_max:g} s"
                    " (retry_after_max)"
                )
            return None
        if retry_after is not None:
            until = self.loop.time() + min(wait, retry_after)  # the policy may wait for less
            self._paused_until = max(self._paused_until, until)
        elif call.failures < call.attempts:
            wait = min(wait, (1 + random.random()) / 2 * UNCOUNTED_WAIT_MAX)
        if not call.is_batch and self._outage.is_long:
            error.not_retried = DOWN
        elif not call.is_batch and self._budget.is_spent:
            error.not_retried = "too many retries of this session have failed recently"
        elif wait >= (left := call.deadline.left):
            error.not_retried = f"the next wait, {wait:.3g} s, is longer than the {left:.3g} s left"
        return None if error.not_retried else wait

    async def _back_off(self, call: _Call, error: MarketplaceError, wait: float) -> None:
        """Report the failed attempt and wait for the next one."""
        call.enter("waiting to retry")
        event = RetryEvent("GET", str(call.url), call.attempts, wait, error)
        text = "attempt %d failed, next in %.3g s: %s"
        extra = {"attempt": event.attempt, "wait": wait, "url": event.url}
        logger.info(text, event.attempt, wait, error, extra=extra)
        if self._on_retry is not None:
            result = self._on_retry(event)
            if inspect.isawaitable(result):
                await result
        is_rejection = isinstance(error, RateLimitError)
        self._rejected += is_rejection
        try:
            await asyncio.sleep(wait)
        finally:
            self._rejected -= is_rejection
        call.enter(LIMITER)

    def _late(self, call: _Call) -> RequestTimeoutError:
        return RequestTimeoutError("the call", self._deadlines.seconds, call.error, call.spent)

    def _about(self, call: _Call, error: MarketplaceError) -> MarketplaceError:
        error.method, error.url, error.attempts = "GET", str(call.url), call.attempts
        return error

    async def wait_for_room(self) -> None:
        """Wait until few attempts wait: then a fan-out may start another input."""
        if self._has_room and not self._starts:
            return
        start: asyncio.Future[None] = self.loop.create_future()
        self._starts.append(start)
        try:
            await start
        except asyncio.CancelledError:
            if start.done() and not start.cancelled():
                self.start_next()  # another fan-out starts an input instead
            raise

    def start_next(self) -> None:
        """Wake the next fan-out that waits for room, if there is room."""
        while self._starts and self._has_room:
            start = self._starts.popleft()
            if not start.done():
                start.set_result(None)
                break

    @property
    def _has_room(self) -> bool:
        # A call that was rejected needs room too, and soon.
        waiting = self._waiting + self._rejected
        return waiting < max(WAITING_MIN, self._in_flight // WAITING_SHARE)
