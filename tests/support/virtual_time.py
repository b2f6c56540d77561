"""An event loop whose clock jumps to the next timer when all tasks wait. It has no I/O.

In a test decorated with `in_virtual_time`, sleeping for a minute takes no time and exactly a
minute of the loop's clock. A test that would wait for ever fails at once.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
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
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    def timers(self) -> list[float]:
        """Return the times of the timers that have not gone off."""
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
            raise RuntimeError("all tasks wait for ever")
        self._loop.jump(timeout)
        return []


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in a `VirtualTimeLoop`; async fixtures would run in another loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=True) as runner:
            runner.run(test(*args, **kwargs))

    return run
