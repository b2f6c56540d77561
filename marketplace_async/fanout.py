"""Fan-out: one function awaited for many inputs, a bounded number of them at a time."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, NoReturn, Self, TypeAlias, TypeVar, cast

import attrs

from marketplace_async.limits import is_batch
from marketplace_async.settings import require_type
from marketplace_async.transport import Transport

__all__ = ["Failure", "FanOut", "Outcome", "Success"]

InputT = TypeVar("InputT")
ValueT = TypeVar("ValueT")


@attrs.frozen
class Success(Generic[InputT, ValueT]):
    """The outcome of an input for which the function returned."""

    input: InputT
    """The input itself."""
    value: ValueT
    """The value that the function returned."""
    error: None = attrs.field(default=None, init=False, repr=False)
    """None: there was no error."""

    def unwrap(self) -> ValueT:
        """Return the value."""
        return self.value


@attrs.frozen
class Failure(Generic[InputT]):
    """The outcome of an input for which the function raised."""

    input: InputT
    """The input itself."""
    error: Exception
    """The error that the function raised; ``concurrent.futures.CancelledError`` if its task, or
    what it awaited, was cancelled."""
    value: None = attrs.field(default=None, init=False, repr=False)
    """None: there is no value."""

    def unwrap(self) -> NoReturn:
        """Raise the error."""
        raise self.error


Outcome: TypeAlias = Success[InputT, ValueT] | Failure[InputT]
"""The outcome of one input: test ``outcome.error is None``, or ``match`` the two classes."""

_END = object()


class FanOut(Generic[InputT, ValueT]):
    """The outcomes of ``await function(input)`` for each of many inputs, as they complete.

    Use it as ``async with ... as outcomes: async for outcome in outcomes``. Each input has
    exactly one `Outcome`. Inputs are taken when their calls can soon run; from there until its
    outcome is taken, an input is one of at most ``max_in_flight``. So a slow consumer slows the
    work down, and memory does not grow with the number of inputs. Several tasks may share the
    outcomes. An error of ``inputs`` itself is raised after the outcomes of the inputs before it.

    Every input runs in a task of its own, in a copy of the context in which the block was
    entered. Leaving the block cancels the tasks, waits for their end, and closes ``inputs`` if
    it has ``aclose()``, as async generators do.
    """

    def __init__(
        self,
        function: Callable[[InputT], Awaitable[ValueT]],
        inputs: Iterable[InputT] | AsyncIterable[InputT],
        *,
        max_in_flight: int,
        pace: Callable[[], Transport],
    ) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        if not isinstance(inputs, AsyncIterable | Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
            raise TypeError(f"inputs must be iterable, not {type(inputs).__name__}")
        require_type("max_in_flight", max_in_flight, int)
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {max_in_flight}")
        self._function = function
        self._inputs = aiter(inputs) if isinstance(inputs, AsyncIterable) else _each(inputs)
        self._get_pace = pace
        self._max_in_flight = max_in_flight
        self._slots = asyncio.Semaphore(max_in_flight)
        self._outcomes: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._error: BaseException | None = None  # raised after the last outcome
        self._started = 0
        self._completed = 0

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        return (
            f"<FanOut of {name}: {self._started} inputs started, {self._completed} completed, "
            f"at most {self._max_in_flight} in flight>"
        )

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a fan-out can be entered once; create another one")
        self._task = asyncio.create_task(self._run(self._get_pace()))
        self._task.add_done_callback(self._end)
        return self

    async def __aexit__(self, _: object, exc: BaseException | None, traceback: object) -> None:
        if self._task is None:
            return
        self._is_closing = True
        left = self._error = RuntimeError("the block of the fan-out was left")
        cancellation: asyncio.CancelledError | None = None
        self._task.cancel()
        while not self._task.done():
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError as error:
                cancellation = error  # raised when all tasks have ended
        if cancellation is not None:
            raise cancellation
        if exc is None and self._error is not left:
            raise self._error  # of closing the inputs

    def __aiter__(self) -> AsyncIterator[Outcome[InputT, ValueT]]:
        return self

    async def __anext__(self) -> Outcome[InputT, ValueT]:
        if self._task is None:
            raise RuntimeError("enter the fan-out first: async with ... as outcomes")
        outcome = await self._outcomes.get()
        if outcome is _END:
            self._outcomes.put_nowait(_END)  # for other consumers
            raise StopAsyncIteration if self._error is None else self._error
        self._slots.release()
        return cast("Outcome[InputT, ValueT]", outcome)

    async def _run(self, pace: Transport) -> None:
        is_batch.set(True)  # for the calls that the inputs and the function make
        try:
            try:
                async with asyncio.TaskGroup() as group:
                    await self._start(group, pace)
                    if self._is_closing:  # and the inputs suppressed the cancellation
                        raise asyncio.CancelledError
            finally:
                aclose = getattr(self._inputs, "aclose", None)
                if aclose is not None:
                    await aclose()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # KeyboardInterrupt would stop the loop
            self._error = error

    async def _start(self, group: asyncio.TaskGroup, pace: Transport) -> None:
        """Start a task for each input when there is room."""
        context = copy_context()  # before the inputs change it
        try:
            await self._slots.acquire()
            async for input_ in self._inputs:
                if self._is_closing:
                    break
                await pace.wait_for_room()
                try:
                    task = group.create_task(self._call(input_), context=context.copy())
                    task.add_done_callback(partial(self._complete, input_))
                    self._started += 1
                    await asyncio.sleep(0)  # the call counts as waiting from its first step on
                finally:
                    pace.start_next()
                await self._slots.acquire()
        except asyncio.CancelledError:
            if self._is_closing:
                raise
            self._error = _cancelled("the fan-out, or something that its inputs awaited,")
        except Exception as error:  # noqa: BLE001  # raised after the last outcome
            self._error = error

    async def _call(self, input_: InputT) -> Outcome[InputT, ValueT]:
        try:
            return Success(input_, await self._function(input_))
        except Exception as error:  # noqa: BLE001  # any exception is the outcome
            return Failure(input_, error)

    def _complete(self, input_: InputT, task: "asyncio.Task[Outcome[InputT, ValueT]]") -> None:
        # A callback and not a part of the task, which may be cancelled before its first step.
        self._completed += 1
        if task.cancelled():
            error = _cancelled("the task of the input, or something that it awaited,")
            self._outcomes.put_nowait(Failure(input_, error))
        elif task.exception() is None:
            self._outcomes.put_nowait(task.result())

    def _end(self, task: asyncio.Task[None]) -> None:
        # A callback for the same reason.
        if task.cancelled() and not self._is_closing:
            self._error = _cancelled("the fan-out")
        self._outcomes.put_nowait(_END)


def _cancelled(what: str) -> concurrent.futures.CancelledError:
    # asyncio's own class, raised in the consumer, would look like a cancellation of the consumer.
    return concurrent.futures.CancelledError(f"{what} was cancelled")


async def _each(inputs: Iterable[InputT]) -> AsyncIterator[InputT]:
    for input_ in inputs:
        yield input_
