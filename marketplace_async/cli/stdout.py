"""Standard output, written to without holding up the event loop."""

import asyncio
import os
import select
import sys
from typing import Final

__all__ = ["Stdout"]

# What a pipe takes without blocking once it is writable (POSIX); Windows has no such promise.
CHUNK: Final = getattr(select, "PIPE_BUF", 4096)


class Stdout:
    """Where a command's results go.

    A reader may pause for minutes: a pager does. A write that blocked meanwhile would let the
    requests in flight time out, and Ctrl-C wait. Nothing stays in a buffer.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        try:
            self._fd: int | None = sys.stdout.fileno()
        except OSError:  # replaced by an object in memory
            self._fd = None

    async def write(self, data: bytes) -> None:
        """Write all of it.

        :raises BrokenPipeError: nobody reads any more.
        :raises OSError: it cannot be written, such as to a full disk.
        """
        if self._fd is None:
            sys.stdout.write(data.decode())
            return
        left = memoryview(data)
        while left:
            await _writable(self._fd)
            left = left[os.write(self._fd, left[:CHUNK]) :]


async def _writable(fd: int) -> None:
    if sys.platform == "win32" or select.select((), (fd,), (), 0)[1]:
        return
    loop = asyncio.get_running_loop()
    is_writable = asyncio.Event()
    loop.add_writer(fd, is_writable.set)
    try:
        await is_writable.wait()
    finally:
        loop.remove_writer(fd)
