"""Timeouts of equal length for many tasks at once.

`asyncio.timeout` sets a timer for each use. Timeouts of equal length expire in the order in
which they began, so one timer for the oldest serves all of them, and each costs one entry in a
dictionary. (Measured: a timer for each request costs a tenth of the request.)
"""

import asyncio
from itertools import takewhile
from typing import Any

__all__ = ["Deadline", "Deadlines", "Expired"]


class Expired(Exception):
    """The deadline passed before the block ended."""


class Deadlines:
    """The running deadlines of ``seconds`` each, in one event loop."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds: float = seconds
        self.loop: asyncio.AbstractEventLoop = loop
        self.running: dict[Deadline, None] = {}  # an ordered set
        self.closed: bool = False
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """End all blocks now, as if their deadline had passed."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._expire(list(self.running))

    def ensure_timer(self, when: float) -> None:
        """Set the timer to ``when`` unless it runs: other deadlines are later."""
        if self._timer is None:
            self._timer = self.loop.call_at(when, self._expire_due)

    def _expire_due(self) -> None:
        self._timer = None
        now = self.loop.time()
        # One pass: finding the first entry is slow after many entries were deleted one by one.
        self._expire(list(takewhile(lambda deadline: deadline.when <= now, self.running)))
        if self.running:
            self.ensure_timer(next(iter(self.running)).when)

    def _expire(self, deadlines: list["Deadline"]) -> None:
        for deadline in deadlines:
            del self.running[deadline]  # once: a second cancellation would count as a foreign one
            deadline.expire()


class Deadline:
    """One timeout: a context manager, entered once; ends its block with `Expired`."""

    __slots__ = ("_began", "_cancellations", "_deadlines", "_expired", "_task", "when")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._expired = False
        self._began = 0.0

    def __enter__(self) -> "Deadline":
        deadlines = self._deadlines
        task = asyncio.current_task(deadlines.loop)
        if task is None:
            raise RuntimeError("a timeout needs a task to cancel")
        self._task: asyncio.Task[Any] = task
        self._cancellations = task.cancelling()
        self._began = deadlines.loop.time()
        self.when: float = self._began + deadlines.seconds
        deadlines.running[self] = None
        deadlines.ensure_timer(self.when)
        return self

    def __exit__(self, exc_type: object, exc: BaseException | None, tb: object) -> None:
        self._deadlines.running.pop(self, None)
        # As in asyncio.timeout: a cancellation by another caller takes precedence.
        mine = self._expired and self._task.uncancel() <= self._cancellations
        if mine and exc_type is asyncio.CancelledError:
            raise Expired from exc

    @property
    def elapsed(self) -> float:
        """Seconds since the block was entered."""
        return self._deadlines.loop.time() - self._began

    @property
    def left(self) -> float:
        """Seconds left, 0 or less if the time is over."""
        return self.when - self._deadlines.loop.time()

    def expire(self) -> None:
        """End the block: cancel its task; `__exit__` turns that into `Expired`."""
        self._expired = True
        self._task.cancel()
