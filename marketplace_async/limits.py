"""Concurrency that finds the server's limit by itself.

`Window` is the arithmetic, a function of what happened; `AdaptiveLimiter` is the queue.
"""

import asyncio
import math
from collections import OrderedDict
from types import TracebackType
from typing import Final

import attrs

from marketplace_async.errors import RateLimitError, RequestTimeoutError, ServerError
from marketplace_async.validation import check_whole_number

__all__ = ["AdaptiveLimiter", "LimiterStatistics", "Window", "is_refusal"]

# Doubling from 8 reaches 200 within five round trips, and 8 is little to begin with.
START: Final = 8

# Each attempt in flight needs a connection, and some systems give a process 256 open files.
CEILING: Final = 240

# A round is as many answers as the limit, about the time that one takes. For so many rounds
# the limit stays as it is after a refusal, at the least and at the most.
LEAST_ROUNDS: Final = 2
MOST_ROUNDS: Final = 16

# In seconds. Simulated, 8 clients with long queues at a server that admits 5 use up all attempts
# of three calls for each that is answered; with this pause, of none.
PAUSE: Final = 0.1


def is_refusal(error: BaseException) -> bool:
    """Say whether an error is a sign of too many attempts at once: 429, 503 or a time-out."""
    if isinstance(error, ServerError):
        return error.status == 503
    return isinstance(error, (RateLimitError, RequestTimeoutError))


class Window:
    """The limit and how it moves; `AdaptiveLimiter` says why. No clock, no queue, no I/O."""

    __slots__ = (
        "_bottom",
        "_burst_ends",
        "_ceiling",
        "_floor",
        "_gained",
        "_held",
        "_hold",
        "_rounds",
        "limit",
    )

    def __init__(self, start: int, floor: int, ceiling: int) -> None:
        self.limit: int = start
        """How many attempts may be in flight."""
        self._floor = floor
        self._ceiling = ceiling
        self._held = 0  # how many the server held when it last refused one; 0: it never did
        self._hold = 0  # how many answers are to come before the limit grows again
        self._gained = 0  # towards one more, which takes as much as the limit
        self._rounds = LEAST_ROUNDS
        self._burst_ends = 0
        self._bottom = floor

    def answered(self) -> None:
        """Take note of an attempt that went well while others waited for a place."""
        if self._hold:
            self._hold -= 1
            return
        # A round adds as much as all have since the last refusal: before the first, it doubles.
        self._gained += max(1, self.limit - self._held)
        if self._gained >= self.limit:
            self._gained -= self.limit
            self.limit = min(self.limit + 1, self._ceiling)

    def refused(self, in_flight: int, ended: int) -> None:
        """Take note of a refusal.

        ``in_flight`` counts the other attempts, which are under way; ``ended`` those that
        have ended in all this time, this one included.
        """
        if ended > self._burst_ends:
            # The burst may go on until all that are under way now have ended. Who of them does
            # is not known, so any that end are counted.
            self._burst_ends = ended + in_flight
            self._bottom = max(self._floor, (self.limit + 1) // 2)
            self._begin_burst(raised_by=self.limit - self._held)
        self.limit = max(self._bottom, min(self.limit, in_flight))
        self._held = self.limit
        self._hold = self._rounds * self.limit
        self._gained = 0

    def _begin_burst(self, raised_by: int) -> None:
        if raised_by == 1:  # as the last time, most likely
            self._rounds = min(2 * self._rounds, MOST_ROUNDS)
        else:
            self._rounds = LEAST_ROUNDS
        if raised_by == 0:
            self.limit -= math.isqrt(self.limit)


@attrs.frozen
class LimiterStatistics:
    """An `AdaptiveLimiter` at one moment."""

    limit: int
    """How many attempts may be in flight."""

    in_flight: int
    """How many attempts have a place."""

    waiting: int
    """How many attempts wait for a place."""


class AdaptiveLimiter:
    """Concurrency that finds the server's limit by itself; the default of `open_session`.

    It is an async context manager, entered around each attempt, and learns from the error that
    passes through its end. Who finds no place waits, and places are given in order of arrival.

    1. It starts low and doubles with each round trip, until the first refusal: a 429, a 503 or
       a time-out. Nobody knows the limit, and this finds one of 200 within five round trips.
    2. What is in flight once the refused have left is what the server holds: this becomes the
       limit, so that finding it costs no throughput. The refusals of one burst count as one,
       which takes half of the limit at the most.
    3. It stays there for some rounds of answers, then grows by one, and ever faster as long as
       nothing is refused. If the very first step up is, it stays twice as long the next
       time, 16 rounds at the most: a steady server refuses next to nothing.
    4. To be refused without having grown means that the server admits less, or that others
       take their share. Then it yields its square root more, and soon tries again: a large
       share yields more than a small one, so that clients who know nothing of each other end
       up with equal shares.
    5. It grows only while somebody waits, for only then it is the limit that holds them back.
       Other errors, such as 404, and cancellations teach it nothing.
    6. An attempt refused by a 429, whose place would go straight to the next in the queue, keeps
       it for a tenth of a second, lest the whole queue run into the same refusal.

    A server that queues instead of refusing is sent as much as ``ceiling`` allows: that is no
    faster than its own limit and no slower either.

    All arguments count attempts in flight. No event loop is needed to make one. It may be
    shared by several sessions and used in several event loops, one after the other.

    :param start: the limit at first, 8 unless given (or the nearest within the bounds).
    :param floor: the least limit.
    :param ceiling: the largest limit. Each attempt in flight needs a connection.
    :raises TypeError: one of them is no whole number.
    :raises ValueError: not 1 <= ``floor`` <= ``start`` <= ``ceiling``.

    Entering raises `RuntimeError` where attempts of another event loop are waiting.
    """

    __slots__ = ("_ceiling", "_ended", "_floor", "_in_flight", "_waiting", "_window")

    def __init__(self, *, start: int | None = None, floor: int = 1, ceiling: int = CEILING) -> None:
        check_whole_number("floor", floor, 1)
        check_whole_number("ceiling", ceiling, floor)
        if start is None:
            start = max(floor, min(START, ceiling))
        check_whole_number("start", start, floor, ceiling)
        self._floor = floor
        self._ceiling = ceiling
        self._window = Window(start, floor, ceiling)
        self._in_flight = 0
        self._ended = 0
        # In order, and a place that is no longer waited for is found without a search.
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def __repr__(self) -> str:
        return (
            f"<AdaptiveLimiter: limit {self._window.limit} ({self._floor} to {self._ceiling}), "
            f"{self._in_flight} in flight, {len(self._waiting)} waiting>"
        )

    def statistics(self) -> LimiterStatistics:
        """Give the present limit and how many attempts are in flight and waiting."""
        return LimiterStatistics(self._window.limit, self._in_flight, len(self._waiting))

    async def __aenter__(self) -> None:
        if self._in_flight < self._window.limit:  # then nobody waits: see _leave
            self._in_flight += 1
        else:
            await self._wait()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended += 1
        if exc is None:
            if self._waiting:
                self._window.answered()
        elif is_refusal(exc):
            self._window.refused(self._in_flight - 1, self._ended)
            # Calls to a server that is down are to fail soon: no pause after a 503.
            queue_follows = self._waiting and self._in_flight <= self._window.limit
            if queue_follows and isinstance(exc, RateLimitError):
                try:
                    await asyncio.sleep(PAUSE)
                finally:
                    self._leave()
                return
        self._leave()

    async def _wait(self) -> None:
        """Wait for a place, which whoever leaves takes for the first in the queue."""
        loop = asyncio.get_running_loop()
        if self._waiting and next(iter(self._waiting)).get_loop() is not loop:
            raise RuntimeError("the limiter is in use in another event loop")
        place = loop.create_future()
        self._waiting[place] = None
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._leave()  # it was given in the very moment of the cancellation
            else:
                self._waiting.pop(place, None)
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        while self._waiting and self._in_flight < self._window.limit:
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                place.set_result(None)
                self._in_flight += 1
