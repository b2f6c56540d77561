"""Many inputs, one function, bounded in flight: outcomes as they end, and no task left behind."""

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, TypeVar

import attrs

from marketplace_async.validation import check_whole_number

__all__ = ["FanOut", "Outcome"]

I = TypeVar("I")  # noqa: E741  # an input
V = TypeVar("V")


@attrs.frozen
class Outcome(Generic[I, V]):
    """What became of one input."""

    input: I
    """The input, as it was given."""

    value: V | None
    """What the function gave for it, ``None`` if it raised."""

    error: Exception | None
    """What the function raised for it, ``None`` if it gave a value."""

    def unwrap(self) -> V:
        """Give the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # V may itself be optional


class FanOut(Generic[I, V]):
    """A running fan-out: iterate over it for the outcomes, in the order in which they end.

    Enter it with ``async with``: leaving the block, by whatever way, ends every task and closes
    an asynchronous input. A plain ``async for`` works too; then leaving early ends them as soon
    as the object is gone.

    Inputs are taken one after another as there is room. Room is for ``max_in_flight`` inputs
    which are taken and whose outcome is not: so a slow consumer holds the fan-out up, and
    memory does not depend on how many inputs there are. What the function raises is its input's
    outcome and disturbs no other. What the *input* raises ends the fan-out: the outcomes under
    way are given first, then it is raised here.

    Several tasks may iterate over one fan-out; each outcome goes to one of them.
    """

    def __init__(
        self,
        function: Callable[[I], Awaitable[V]],
        inputs: Iterable[I] | AsyncIterable[I],
        *,
        max_in_flight: int,
    ) -> None:
        check_whole_number("max_in_flight", max_in_flight, 1)
        # The tasks know the work but not this object, so that it can go while they run.
        self._work = _Work(function, inputs, max_in_flight)

    async def __aenter__(self) -> "FanOut[I, V]":
        self._work.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> "FanOut[I, V]":
        return self

    async def __anext__(self) -> Outcome[I, V]:
        return await self._work.next_outcome()

    async def aclose(self) -> None:
        """End every task, wait for their ends, and close an asynchronous input."""
        await self._work.aclose()

    def __del__(self) -> None:
        if hasattr(self, "_work"):
            self._work.abandon()


class _Work(Generic[I, V]):
    """What the tasks of a fan-out share."""

    def __init__(
        self,
        function: Callable[[I], Awaitable[V]],
        inputs: Iterable[I] | AsyncIterable[I],
        max_in_flight: int,
    ) -> None:
        self.function = function
        self.inputs = inputs
        self.room = asyncio.Semaphore(max_in_flight)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.outcomes: deque[Outcome[I, V]] = deque()
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin taking inputs, unless that has been done."""
        if self.loop is None and not self.closed:
            self.loop = asyncio.get_running_loop()
            self.context = contextvars.copy_context()
            self.spawn(self.feed())

    def spawn(self, coroutine: Any) -> None:
        assert self.loop is not None
        task = self.loop.create_task(coroutine, context=self.context.copy())
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not self.tasks:
            self.wake(len(self.waiting))
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = error

    def wake(self, count: int = 1) -> None:
        while count and self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    async def feed(self) -> None:
        """Start a task for each input, as there is room."""
        source = _iterated(self.inputs)
        try:
            while True:
                await self.room.acquire()
                try:
                    taken = await anext(source)
                except StopAsyncIteration:
                    return
                self.spawn(self.run(taken))
        finally:
            if (aclose := getattr(source, "aclose", None)) is not None:
                await aclose()

    async def run(self, taken: I) -> None:
        try:
            outcome = Outcome[I, V](taken, await self.function(taken), None)
        except Exception as error:
            outcome = Outcome(taken, None, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody ends this task: something that the function awaited was cancelled.
            outcome = Outcome(taken, None, RuntimeError("the function was cancelled from within"))
        self.outcomes.append(outcome)
        self.wake()

    async def next_outcome(self) -> Outcome[I, V]:
        self.start()
        while not self.outcomes:
            if not self.tasks:
                failure, self.failure = self.failure, None
                raise failure or StopAsyncIteration
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.wake()  # an outcome was meant for this consumer; let another have it
                raise
        self.room.release()
        return self.outcomes.popleft()

    async def aclose(self) -> None:
        self.closed = True
        self.outcomes.clear()
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            await asyncio.wait(self.tasks)
            await asyncio.sleep(0)  # for the callbacks that take them out
        self.wake(len(self.waiting))

    def abandon(self) -> None:
        """End the tasks although nobody can wait for that; from any thread."""
        if self.tasks and self.loop is not None and not self.loop.is_closed():
            for task in tuple(self.tasks):
                self.loop.call_soon_threadsafe(task.cancel)


async def _each(inputs: Iterable[I]) -> AsyncIterator[I]:
    for taken in inputs:
        yield taken


def _iterated(inputs: Iterable[I] | AsyncIterable[I]) -> AsyncIterator[I]:
    return aiter(inputs) if isinstance(inputs, AsyncIterable) else _each(inputs)
