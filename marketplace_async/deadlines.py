"""Time-outs of one length for many tasks at once.

`asyncio.timeout` sets a timer for each use. Time-outs of equal length expire in the order in
which they began, so one timer that stands for the oldest serves them all, and what a request
pays is an entry in a dictionary. (Measured, a timer of its own costs a tenth of a whole request.)
"""

import asyncio
from itertools import takewhile
from types import TracebackType
from typing import Any

__all__ = ["Deadlines", "Expired", "Watch"]


class Expired(Exception):
    """The time of a watched block was over before the block ended."""


class Deadlines:
    """The running time-outs of ``seconds`` each, in one event loop."""

    __slots__ = ("_timer", "closed", "loop", "seconds", "watches")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds: float = seconds
        self.loop: asyncio.AbstractEventLoop = loop
        self.watches: dict[Watch, None] = {}  # a set that remembers the order
        self.closed: bool = False
        """Whether the watches that ended early were ended by `close`."""
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """End all blocks now, as if their time were over."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end(list(self.watches))

    def ensure_timer(self, when: float) -> None:
        """Have a timer running, at ``when`` if none is: all others would be later."""
        if self._timer is None:
            self._timer = self.loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self.loop.time()
        # In one pass: the first entry is slow to find behind many that were removed one by one.
        self._end(list(takewhile(lambda watch: watch.when <= now, self.watches)))
        if self.watches:
            self.ensure_timer(next(iter(self.watches)).when)

    def _end(self, watches: list["Watch"]) -> None:
        for watch in watches:
            del self.watches[watch]  # once: a second cancellation would pass for somebody else's
            watch.expire()


class Watch:
    """One running time-out: a context manager to be entered once, inside a task.

    When the time is over before the block ends, the block ends with `Expired`.
    """

    __slots__ = ("_began", "_cancellations", "_deadlines", "_task", "expired", "when")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.expired: bool = False
        """Whether the time was over before the block ended."""
        self._began = 0.0

    def __enter__(self) -> "Watch":
        deadlines = self._deadlines
        task = asyncio.current_task(deadlines.loop)
        if task is None:
            raise RuntimeError("a time-out needs a task to end")
        self._task: asyncio.Task[Any] = task
        self._cancellations = task.cancelling()
        self._began = deadlines.loop.time()
        self.when: float = self._began + deadlines.seconds
        """When the time is over, in the event loop's time."""
        deadlines.watches[self] = None
        deadlines.ensure_timer(self.when)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.watches.pop(self, None)
        # As asyncio.timeout does: somebody else's cancellation goes first.
        mine = self.expired and self._task.uncancel() <= self._cancellations
        if mine and exc_type is asyncio.CancelledError:
            raise Expired from exc

    @property
    def elapsed(self) -> float:
        """How many seconds ago the block was entered."""
        return self._deadlines.loop.time() - self._began

    @property
    def left(self) -> float:
        """How many seconds are left, 0 or less if the time is over."""
        return self.when - self._deadlines.loop.time()

    def expire(self) -> None:
        """End the block: its task is cancelled, and `__exit__` turns that into `Expired`."""
        self.expired = True
        self._task.cancel()
