"""Time-outs of one length for many tasks at once.

`asyncio.timeout` sets a timer for each use. Time-outs of equal length expire in the order in
which they began, so one timer that stands for the oldest serves them all: what a request pays
is an entry in a dictionary. (Measured, a timer of its own costs a tenth of a whole request.)
"""

import asyncio
from types import TracebackType
from typing import Any

__all__ = ["Deadlines", "Expired", "Watch"]


class Expired(Exception):
    """The time of a watched block was over before the block ended."""


class Deadlines:
    """Starts `Watch` es of ``seconds`` each; belongs to one event loop."""

    __slots__ = ("_loop", "_seconds", "_timer", "_watches", "closed")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._watches: dict[Watch, None] = {}  # a set that remembers the order
        self.closed = False
        """Whether the watches that ended early were ended by `close`."""

    def watch(self) -> "Watch":
        """Give the context manager that ends its block with `Expired` when the time is over."""
        return Watch(self)

    def close(self) -> None:
        """End all blocks now, as if their time were over."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for watch in list(self._watches):
            watch.expire()

    def add(self, watch: "Watch") -> float:
        """Take a watch in and give the loop's time at which it ends."""
        when = self._loop.time() + self._seconds
        self._watches[watch] = None
        if self._timer is None:
            self._timer = self._loop.call_at(when, self._expire)
        return when

    def remove(self, watch: "Watch") -> None:
        """Forget a watch whose block has been left."""
        self._watches.pop(watch, None)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._watches:
            oldest = next(iter(self._watches))
            if oldest.when > now:
                self._timer = self._loop.call_at(oldest.when, self._expire)
                return
            del self._watches[oldest]
            oldest.expire()


class Watch:
    """One running time-out; a context manager to be entered once, inside a task."""

    __slots__ = ("_cancellations", "_deadlines", "_task", "expired", "when")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.expired = False
        """Whether the time was over before the block ended."""

    def __enter__(self) -> "Watch":
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time-out needs a task to end")
        self._task: asyncio.Task[Any] = task
        self._cancellations = task.cancelling()
        self.when = self._deadlines.add(self)
        """When it ends, in the event loop's time."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.remove(self)
        # As asyncio.timeout does: somebody else's cancellation goes first.
        if self.expired and self._task.uncancel() <= self._cancellations:
            if exc_type is asyncio.CancelledError:
                raise Expired from exc

    def expire(self) -> None:
        """End the block: its task is cancelled, and the watch turns that into `Expired`."""
        self.expired = True
        self._task.cancel()
