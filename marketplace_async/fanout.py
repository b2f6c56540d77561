"""Fan-out: one function awaited for many inputs, a bounded number of them at a time."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

import attrs

from marketplace_async.readahead import BackgroundIterator, Room, read
from marketplace_async.validation import check_whole_number

__all__ = ["FanOut", "Outcome"]

I = TypeVar("I")  # noqa: E741  # an input
V = TypeVar("V")


@attrs.frozen
class Outcome(Generic[I, V]):
    """What became of one input of a `FanOut`."""

    input: I
    """The input itself."""

    value: V | None
    """What the function returned, ``None`` if it failed."""

    error: Exception | None
    """What the function raised, ``None`` if it succeeded. Where something that it awaited was
    cancelled, or its task by somebody else, ``concurrent.futures.CancelledError``."""

    def unwrap(self) -> V:
        """Return the value.

        :raises Exception: the error, if there is one.
        """
        if self.error is not None:
            raise self.error
        return cast(V, self.value)


class FanOut(BackgroundIterator[Outcome[I, V]]):
    """The outcomes of awaiting ``function`` for each of ``inputs``, in the order of completion.

    Each input is answered by one `Outcome`, equal ones each. Inputs are taken as there is room:
    from there until its outcome is taken, an input is one of at most ``max_in_flight``. So a
    slow consumer slows the work down, and memory does not grow with the number of inputs.
    Several tasks may iterate over one fan-out and share the outcomes. An error of ``inputs``
    itself is raised behind the outcomes of those that came before it.

    The work begins on entering ``async with``, or with the first outcome asked for; making a
    fan-out needs no event loop. Every call is a task of its own, in the context of that moment.
    Leaving the ``async with``, in whichever way, cancels the tasks, waits until they have ended,
    and closes ``inputs`` if it is an async generator or the like (has ``aclose()``). In a plain
    ``async for`` the same begins when the fan-out is garbage, as after ``break``.

    :raises TypeError: ``inputs`` cannot be iterated; ``max_in_flight`` is no whole number.
    :raises ValueError: ``max_in_flight`` is below 1.
    """

    def __init__(
        self,
        function: Callable[[I], Awaitable[V]],
        inputs: Iterable[I] | AsyncIterable[I],
        *,
        max_in_flight: int,
    ) -> None:
        check_whole_number("max_in_flight", max_in_flight, 1)
        source = aiter(inputs) if isinstance(inputs, AsyncIterable) else _each(iter(inputs))
        super().__init__(partial(_answer, function, source), source, max_in_flight)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _each(inputs: Iterable[I]) -> AsyncIterator[I]:
    for input_ in inputs:
        yield input_


async def _answer(
    function: Callable[[I], Awaitable[V]],
    inputs: AsyncIterator[I],
    room: Room,
    put: Callable[[Outcome[I, V]], None],
) -> Exception | None:
    context = copy_context()  # before the inputs set anything in it
    async with asyncio.TaskGroup() as group:

        def start(input_: I) -> None:
            call = group.create_task(_outcome(function, input_), context=context.copy())
            call.add_done_callback(partial(_deliver, input_, put))

        return await read(inputs, room, start)


async def _outcome(function: Callable[[I], Awaitable[V]], input_: I) -> Outcome[I, V]:
    try:
        return Outcome(input_, await function(input_), None)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the consumer's
        return Outcome(input_, None, error)


def _deliver(
    input_: I, put: Callable[[Outcome[I, V]], None], call: asyncio.Task[Outcome[I, V]]
) -> None:
    # A callback and no part of the task, which may be cancelled before it begins.
    if call.cancelled():
        error = concurrent.futures.CancelledError("the call, or what it awaited, was cancelled")
        put(Outcome(input_, None, error))
    elif call.exception() is None:
        put(call.result())
