"""An asynchronous iterator that one owned task reads ahead of its consumer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Gives what ``source`` gives, in order, and has read up to ``depth`` items ahead.

    Reading begins with the first `__anext__`. An error of the source is raised in its place, and
    ends the iteration. The task ends, and closes the source, when the source does, with
    `aclose`, or as soon as this object is gone.
    """

    def __init__(self, source: AsyncIterator[T], depth: int) -> None:
        # The task must know these and not this object, so that it can go while the task runs.
        self._source = source
        self._room = asyncio.Semaphore(depth)
        self._read: asyncio.Queue[T | _End] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._busy = self._ended = False

    def __aiter__(self) -> "ReadAhead[T]":
        return self

    async def __anext__(self) -> T:
        if self._busy:
            raise RuntimeError("another task awaits the next item of this iterator")
        if self._ended:
            raise StopAsyncIteration
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(_read(self._source, self._room, self._read))
        self._busy = True
        try:
            item = await self._read.get()
        finally:
            self._busy = False
        if isinstance(item, _End):
            self._ended = True
            raise item.error or StopAsyncIteration
        self._room.release()
        return item

    async def aclose(self) -> None:
        """End the task, wait for its end, and close the source."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not task.done() and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)  # this may be any thread


class _End:
    def __init__(self, error: Exception | None) -> None:
        self.error = error


async def _read(
    source: AsyncIterator[T], room: asyncio.Semaphore, read: "asyncio.Queue[T | _End]"
) -> None:
    error: Exception | None = None
    try:
        while True:
            await room.acquire()
            read.put_nowait(await anext(source))
    except StopAsyncIteration:
        pass
    except Exception as raised:
        error = raised
    finally:
        read.put_nowait(_End(error))
        if (aclose := getattr(source, "aclose", None)) is not None:
            await aclose()
