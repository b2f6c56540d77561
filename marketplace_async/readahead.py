"""Async iterators that are filled by a task of their own, which ends when they do.

The task knows what it shares with the iterator, never the iterator itself. So one that is
dropped, as by ``break`` in a plain ``async for``, is collected while its task runs, and ends it.
"""

import asyncio
import concurrent.futures
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, cast

__all__ = ["BackgroundIterator", "ReadAhead", "Room", "read"]

T = TypeVar("T")

Work: TypeAlias = Callable[["Room", Callable[[T], None]], Coroutine[Any, Any, BaseException | None]]
WorkTask: TypeAlias = asyncio.Task[BaseException | None]


class _End:
    """What stands behind the last item."""


class Room(asyncio.Semaphore):
    """For how many more items there is room; none is wanted any more once it is closed."""

    closed = False


class BackgroundIterator(Generic[T]):
    """An async iterator over what ``work`` makes of ``source``, up to ``ahead`` items ahead.

    ``work`` acquires the `Room` that it is given before it begins an item, and hands each
    finished one to the function. The error that it returns, if any, is raised behind the last
    item, however often one is asked for.

    The task begins with the first item asked for. It also closes the source: what an async
    generator entered in one task must be left in the same.
    """

    _task: WorkTask | None = None
    _closed = False

    def __init__(self, work: Work[T], source: AsyncIterator[Any], ahead: int) -> None:
        self._work = work
        self._source = source
        self._room = Room(ahead)
        self._made: asyncio.Queue[T | _End] = asyncio.Queue()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._start()
        if self._task is None or self._closed:
            raise StopAsyncIteration
        task = self._task
        try:
            made = await self._made.get()
        except asyncio.CancelledError:
            del self  # a traceback that somebody keeps would keep the task running
            raise
        if not (self._closed or isinstance(made, _End)):
            self._room.release()
            return made
        self._made.put_nowait(_End())  # for whoever else waits
        if self._closed:
            raise StopAsyncIteration
        if task.cancelled():
            raise concurrent.futures.CancelledError("somebody cancelled the task of this iterator")
        error = task.result()
        raise StopAsyncIteration if error is None else error

    async def aclose(self) -> None:
        """End the task and close the source; return when that is done.

        Whoever waits for an item gets `StopAsyncIteration`. Closing again does nothing. Closing
        from inside the task, or a task that it started, does not wait.

        :raises Exception: what closing the source raises.
        """
        first, self._closed = not self._closed, True
        if self._task is None:
            if first:
                await _close(self._source)
        elif not self._task.done():
            if first:
                _cancel(self._task, self._room)
            if self._task not in _inside.get():
                await _ended(self._task)

    def __del__(self) -> None:
        if self._task is not None and not (self._closed or self._task.done()):
            _cancel(self._task, self._room)

    def _start(self) -> None:
        if self._task is None and not self._closed:
            run = _run(self._work, self._room, self._made.put_nowait, self._source)
            self._task = asyncio.create_task(run)
            _running.add(self._task)
            self._task.add_done_callback(_running.discard)
            self._task.add_done_callback(partial(_put_end, self._made))


class ReadAhead(BackgroundIterator[T]):
    """An async iterator over ``source`` that reads up to ``depth`` items before they are taken.

    The items keep their order, and an error its place in it.
    """

    _busy = False

    def __init__(self, source: AsyncIterator[T], depth: int) -> None:
        super().__init__(partial(read, source), source, depth)

    async def __anext__(self) -> T:
        if self._busy:
            raise RuntimeError("another task awaits the next item of this iterator")
        self._busy = True
        try:
            return await super().__anext__()
        finally:
            self._busy = False
            del self  # as above


async def read(
    source: AsyncIterator[T], room: Room, take: Callable[[T], object]
) -> Exception | None:
    """Hand over the items of ``source`` as there is room; return the error that ended it."""
    failure: Exception | None = None
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    cancellations = 0  # of this task, until the source was asked for the item at hand
    try:
        await room.acquire()
        async for item in source:
            if _is_swallowed(task, room):
                break
            take(item)
            cancellations = task.cancelling()
            await room.acquire()
    except asyncio.CancelledError:
        if task.cancelling() > cancellations:
            raise
        failure = concurrent.futures.CancelledError("what the source awaited was cancelled")
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the consumer's
        failure = error
    if _is_swallowed(task, room):
        # A TaskGroup that failed meanwhile has it come again; not while the source is closed.
        await asyncio.sleep(0)
        raise asyncio.CancelledError
    return failure


def _is_swallowed(task: "asyncio.Task[Any]", room: Room) -> bool:
    """Say whether the task was cancelled and the source did not let the exception pass."""
    # Before 3.13, a task counts as cancelled for ever behind a TaskGroup that failed, also when
    # that was handled (python/cpython#117407).
    return room.closed or (sys.version_info >= (3, 13) and task.cancelling() > 0)


# An event loop holds its tasks weakly, and one could be collected together with its iterator.
_running: Final[set[WorkTask]] = set()
# The tasks that the code at hand is a part of.
_inside: Final[ContextVar[tuple[object, ...]]] = ContextVar("_inside", default=())


async def _run(
    work: Work[T], room: Room, put: Callable[[T], None], source: AsyncIterator[Any]
) -> BaseException | None:
    _inside.set((*_inside.get(), asyncio.current_task()))
    try:
        return await work(room, put)
    except (KeyboardInterrupt, SystemExit) as error:
        return error  # for the consumer: raised here, it would break into the closing of the loop
    finally:
        await _close(source)


async def _close(source: AsyncIterator[Any]) -> None:
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()


def _put_end(made: "asyncio.Queue[T | _End]", _: WorkTask) -> None:
    made.put_nowait(_End())


def _cancel(task: WorkTask, room: Room) -> None:
    # Soon, not now: garbage may be collected in another thread, and a task that is cancelled
    # before its first step would not close its source.
    with contextlib.suppress(RuntimeError):  # the loop is closed
        task.get_loop().call_soon_threadsafe(_cancel_now, task, room)


def _cancel_now(task: WorkTask, room: Room) -> None:
    room.closed = True
    task.cancel()


async def _ended(task: WorkTask) -> None:
    """Wait until ``task`` has ended, and raise its error; a cancellation has to wait for that."""
    cancellation = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
    if not task.cancelled():
        task.result()
