"""Concurrency that finds the server's limit by itself."""

import asyncio
from collections import deque
from types import TracebackType

import attrs

from marketplace_async.errors import RateLimitError, RequestTimeoutError, ServerError

__all__ = ["AdaptiveLimiter", "LimiterStatistics"]


@attrs.frozen
class LimiterStatistics:
    """A limiter at one moment."""

    limit: int
    in_flight: int
    waiting: int


class AdaptiveLimiter:
    """Additive increase, multiplicative decrease."""

    def __init__(self, *, start: int = 10, floor: int = 1, ceiling: int = 1000) -> None:
        self._limit = float(start)
        self._floor, self._ceiling = floor, ceiling
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._entered: dict[asyncio.Task[object] | None, int] = {}
        self._count = self._cut_at = 0
        self._refused = False

    def statistics(self) -> LimiterStatistics:
        return LimiterStatistics(int(self._limit), self._in_flight, len(self._waiting))

    async def __aenter__(self) -> None:
        if self._in_flight >= int(self._limit) or self._waiting:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._in_flight -= 1
                    self._admit()
                raise
        else:
            self._in_flight += 1
        self._count += 1
        self._entered[asyncio.current_task()] = self._count

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = self._entered.pop(asyncio.current_task())
        held_back = self._in_flight >= int(self._limit)
        self._in_flight -= 1
        if exc is None:
            if held_back:
                self._limit += 1 / self._limit if self._refused else 1
                self._limit = min(self._limit, self._ceiling)
        elif isinstance(exc, RateLimitError | RequestTimeoutError) or (
            isinstance(exc, ServerError) and exc.status == 503
        ):
            self._refused = True
            if entered > self._cut_at:
                self._cut_at = self._count
                self._limit = max(self._floor, self._limit * 0.8)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._in_flight < int(self._limit):
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._in_flight += 1
                waiter.set_result(None)
