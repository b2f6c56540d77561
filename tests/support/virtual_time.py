"""An event loop whose clock does not tick: it jumps to the next timer when all are blocked.

In a test decorated with `in_virtual_time` a minute of sleeping takes no time and is a minute
exactly, and ``await asyncio.sleep(1)`` means "once everybody else waits for something". A
test that waits for what can never come fails at once instead of hanging. There is no I/O.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, ParamSpec, TypeVarTuple

__all__ = ["VirtualTimeLoop", "in_virtual_time"]

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 seconds."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    def timers(self) -> list[float]:
        """When the timers that are still to come will go off."""
        self._timers = [
            timer for timer in self._timers if timer.when() > self._now and not timer.cancelled()
        ]
        return [timer.when() for timer in self._timers]

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("all tasks are blocked for ever")
        self._loop.jump(timeout)
        return []


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in a `VirtualTimeLoop`; async fixtures would be of another loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=True) as runner:
            runner.run(test(*args, **kwargs))

    return run
