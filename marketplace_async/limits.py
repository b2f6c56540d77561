"""The limiter that finds the server's concurrency limit: `Window` and its queue."""

import asyncio
import math
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, Final

import attrs

from marketplace_async.errors import RateLimitError, RequestTimeoutError, ServerError
from marketplace_async.retry import is_local
from marketplace_async.settings import require_type

__all__ = ["AdaptiveLimiter", "Limiter", "LimiterStatistics", "Window", "is_batch", "is_rejection"]

Limiter = AbstractAsyncContextManager[Any, bool | None]
"""An async context manager entered around each attempt. It sees the error of the attempt and
must not suppress it. `AdaptiveLimiter`, `asyncio.Semaphore`, `anyio.CapacityLimiter` and
`aiolimiter.AsyncLimiter` are limiters."""

is_batch: Final = ContextVar("is_batch", default=False)
"""True inside a fan-out: its calls yield to direct calls and may wait for long."""

# Doubling from 8 reaches 200 within five round trips; 8 is a small load to begin with.
START: Final = 8

# Attempts in flight may take half of the descriptors that are not reserved.
CEILING: Final = 240
RESERVED_DESCRIPTORS: Final = 32

# A round has as many responses as the limit, about the duration of one response. After a
# rejection the limit is held for at least and at most this many rounds.
MIN_HOLD: Final = 2
MAX_HOLD: Final = 16
# The mean duration of fewer responses is noise. Below this number of seconds it measures this
# machine rather than a queue of the server.
ROUND_MIN: Final = 16
MEAN_MIN: Final = 0.01

# In seconds. In a simulation of 8 clients with long queues at a server that admits 5, more than
# half of the calls used up their attempts without this pause, and none with it.
REJECTION_PAUSE: Final = 0.1

# At a server that queues, the limit grows to this many times the number of attempts that the
# server works on at once: it is always busy, and its queue is short.
QUEUE: Final = 2
# A round is slow if its mean duration is more than this many times the shortest one.
SLOW: Final = 1.5
# The shortest duration is measured again when the slowdowns of successive slow rounds add up to
# more than this: after 13 rounds of twice the duration, or 4 of eight times.
PATIENCE: Final = 24
# During the measurement the limit is this share of the number that the server works on at once,
# so that no attempt waits there.
MEASURED_SHARE: Final = 2 / 3


def is_rejection(error: BaseException) -> bool:
    """Return True for 429, 503, timeouts and local errors: signs of too many attempts at once."""
    if isinstance(error, ServerError):
        return error.status == 503
    return isinstance(error, (RateLimitError, RequestTimeoutError)) or is_local(error)


def _default_ceiling() -> int:
    """Return the largest limit that leaves this process enough file descriptors."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return CEILING
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CEILING
    return max(1, min(CEILING, (soft - RESERVED_DESCRIPTORS) // 2))


class Window:
    """The limit and its changes: arithmetic only, no clock, no queue, no I/O."""

    def __init__(self, start: int, floor: int, ceiling: int) -> None:
        self.limit: int = start
        """The number of attempts that may be in flight."""
        self.floor: int = floor
        self.ceiling: int = ceiling
        # Rejections.
        self._held = 0  # the number that the server held when it last rejected one, or 0
        self._hold = 0  # the number of responses until the limit may grow again
        self._hold_rounds = MIN_HOLD
        self._gained = 0  # progress towards the next step, which takes `limit`
        self._burst_ends = 0
        self._bottom = floor
        # Durations.
        self._shortest = math.inf  # the mean duration in the fastest round, in seconds
        self._rate = 0.0  # responses per second in the last round
        self._useful = math.inf  # the limit may grow to this number
        self._slowness = 0.0  # the sum of the slowdowns of successive slow rounds
        self._limit_before = 0  # the limit before the measurement under way, or 0
        self._ignored = 0  # the number of responses to ignore before the next round
        self._begin_round()

    def record_success(self) -> None:
        """Record a successful attempt that was in flight when others had to wait for a slot."""
        if self._hold:
            self._hold -= 1
        elif self.limit < self._useful:
            # A round adds as much as was added since the last rejection: the limit doubles
            # before the first one.
            self._gained += max(1, self.limit - self._held)
            if self._gained >= self.limit:
                self._gained -= self.limit
                self.limit = min(self.limit + 1, self.ceiling)

    def record_rejection(self, in_flight: int, ended: int) -> None:
        """Record a rejection, with the number of other attempts under way.

        ``ended`` counts the attempts that have ended since the start, this one included.
        """
        if ended > self._burst_ends:
            # The burst may last until as many attempts have ended as are under way now.
            self._burst_ends = ended + in_flight
            self._bottom = max(self.floor, (self.limit + 1) // 2)
            grown = self.limit - self._held
            if grown == 0:
                self.limit -= math.isqrt(self.limit)
            # If the first step is rejected, the next one probably will be too: wait for longer.
            self._hold_rounds = min(2 * self._hold_rounds, MAX_HOLD) if grown == 1 else MIN_HOLD
        self.limit = self._held = max(self._bottom, min(self.limit, in_flight))
        self._hold = self._hold_rounds * self.limit
        self._limit_before = 0

    def record_duration(self, seconds: float) -> None:
        """Record the duration of a successful attempt."""
        if self._ignored:
            self._ignored -= 1
            if not self._ignored:
                self._begin_round()
            return
        self._seconds += seconds
        self._round_left -= 1
        if not self._round_left:
            self._end_round(max(MEAN_MIN, self._seconds / self._round_size))
            self._begin_round()

    def _begin_round(self) -> None:
        self._seconds = 0.0
        self._round_size = self._round_left = max(ROUND_MIN, self.limit)

    def _end_round(self, mean: float) -> None:
        if self._limit_before:  # the end of a measurement
            self._shortest = mean
            self._useful = QUEUE * self._rate * mean
            self.limit = max(self.limit, min(self._limit_before, math.ceil(self._useful)))
            self._limit_before = 0
            self._ignored = self.limit
            return
        self._shortest = min(self._shortest, mean)
        # Little's law: number in flight = responses per second * duration of a response.
        self._rate = self.limit / mean
        self._useful = QUEUE * self._rate * self._shortest
        slowdown = mean / self._shortest
        self._slowness = self._slowness + slowdown if slowdown > SLOW else 0.0
        if self._slowness > PATIENCE:
            # Begin a measurement: the queue of the server empties, then a round is measured.
            self._slowness = 0.0
            self._limit_before = self.limit
            self.limit = max(self.floor, math.ceil(MEASURED_SHARE * self._rate * self._shortest))
            self._useful = 0
            # Ignore the attempts in flight, which have waited in the queue, and then one round,
            # in which most responses are quick ones: the slow ones end later.
            self._ignored = self._limit_before + self.limit


@attrs.frozen
class LimiterStatistics:
    """The state of an `AdaptiveLimiter` at one moment."""

    limit: int
    """The number of attempts that may be in flight."""
    in_flight: int
    """The number of attempts that have a slot."""
    waiting: int
    """The number of attempts that wait for a slot."""


class AdaptiveLimiter:
    """A concurrency limit that adapts to the server; the default of `open_session`.

    It is entered around each attempt and learns from the errors that pass through its exit.
    Direct calls get a slot before calls of a fan-out; within each kind the order is of arrival.

    1. It doubles with each round trip until the first rejection: a 429, a 503, a timeout, or a
       lack of file descriptors. Then it becomes the number of accepted attempts in flight.
    2. It is held for 2 to 16 rounds of responses, then grows faster and faster until a
       rejection. The rejections of one burst take half of the limit at most.
    3. After a rejection without growth it falls by its square root more: a large share falls by
       more than a small one, so independent clients reach equal shares.
    4. At a server that queues, as the durations show, it grows to about twice the number of
       attempts that the server works on at once.
    5. It grows only while attempts wait for a slot. Other errors, such as 404, and cancellations
       do not change it.
    6. After a 429 the slot stays taken for a tenth of a second if attempts wait for it, so that
       not the whole queue meets the same rejection.

    Arguments are numbers of attempts in flight. A limiter may be shared by sessions of one event
    loop, and used in event loops one after the other.

    :param start: the first limit; default 8, or the nearest number within the bounds.
    :param floor: the smallest limit.
    :param ceiling: the largest limit; default 240, or less if this process may open few files.
    :raises TypeError: an argument is no ``int``.
    :raises ValueError: they are not in the order 1 <= ``floor`` <= ``start`` <= ``ceiling``.

    Entering raises `RuntimeError` if another event loop that still runs uses the limiter.
    """

    def __init__(
        self, *, start: int | None = None, floor: int = 1, ceiling: int | None = None
    ) -> None:
        require_type("floor", floor, int)
        if ceiling is None:
            ceiling = max(floor, _default_ceiling())
        require_type("ceiling", ceiling, int)
        if start is None:
            start = max(floor, min(START, ceiling))
        require_type("start", start, int)
        if not 1 <= floor <= start <= ceiling:
            raise ValueError(
                "floor, start and ceiling must be at least 1 and in ascending order, "
                f"not {floor=}, {start=}, {ceiling=}"
            )
        self._window = Window(start, floor, ceiling)
        self._ended = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reset()

    def _reset(self) -> None:
        self._in_flight = 0
        self._limited = 0  # the number of attempts in flight when the last one had to wait
        self._direct: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._batch: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._entered: dict[asyncio.Task[Any] | None, float] = {}  # times by task

    def __repr__(self) -> str:
        now, window = self.statistics(), self._window
        return (
            f"<AdaptiveLimiter: limit {now.limit} ({window.floor} to {window.ceiling}), "
            f"{now.in_flight} in flight, {now.waiting} waiting>"
        )

    def statistics(self) -> LimiterStatistics:
        """Return the limit and the numbers of attempts in flight and waiting."""
        waiting = len(self._direct) + len(self._batch)
        return LimiterStatistics(self._window.limit, self._in_flight, waiting)

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        if self._in_flight < self._window.limit:  # then no attempt waits: see _leave
            self._in_flight += 1
        else:
            await self._wait(loop)
        if self._limited:  # the durations at a server that is not busy are not needed
            self._entered[asyncio.current_task(loop)] = loop.time()

    async def __aexit__(self, exc_type: object, exc: BaseException | None, tb: object) -> None:
        self._ended += 1
        entered = None
        if self._entered:
            entered = self._entered.pop(asyncio.current_task(self._loop), None)
        try:
            if exc is None:
                if self._loop is not None and entered is not None:
                    self._window.record_duration(self._loop.time() - entered)
                if self._limited:
                    self._limited -= 1
                    self._window.record_success()
            elif is_rejection(exc):
                self._window.record_rejection(self._in_flight - 1, self._ended)
                has_successor = self._in_flight <= self._window.limit and (
                    self._direct or self._batch
                )
                # No pause after a 503: calls to a server that is down should fail soon.
                if has_successor and isinstance(exc, RateLimitError):
                    await asyncio.sleep(REJECTION_PAUSE)
        finally:
            self._leave()

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        other = self._loop
        if other is not None and not other.is_closed() and (other.is_running() or self._in_flight):
            raise RuntimeError("the limiter is in use in another event loop; create one for each")
        self._loop = loop
        self._reset()

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a slot, which an attempt that leaves assigns to the first in the queue."""
        queue = self._batch if is_batch.get() else self._direct
        slot = loop.create_future()
        queue[slot] = None
        self._limited = self._in_flight
        try:
            await slot
        except BaseException:
            if slot.done() and not slot.cancelled():
                self._leave()  # it was assigned at the moment of the cancellation
            else:
                queue.pop(slot, None)
            raise

    def _leave(self) -> None:
        if self._in_flight:  # 0 if an attempt of a closed loop is garbage-collected
            self._in_flight -= 1
        while self._in_flight < self._window.limit:
            queue = self._direct or self._batch
            if not queue:
                break
            slot, _ = queue.popitem(last=False)
            if not slot.done():
                slot.set_result(None)
                self._in_flight += 1
