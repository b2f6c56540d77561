"""Standard output and standard error: records in a format, error messages and log lines."""

import asyncio
import logging
import os
import select
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Final

import attrs

from marketplace_async import MarketplaceError
from marketplace_async.cli.formats import (
    Csv,
    Format,
    JsonArray,
    JsonLines,
    JsonObject,
    Record,
    escaped,
)

__all__ = ["FORMATS", "Printer", "StderrHandler", "View", "log_to", "print_error"]

FORMATS: Final = ("table", "json", "jsonl", "csv")

# POSIX: a pipe that is writable takes this many bytes without blocking. Windows: no guarantee.
CHUNK: Final = getattr(select, "PIPE_BUF", 4096)


@attrs.frozen
class View:
    """The fields of one kind of records."""

    fields: tuple[str, ...]  # all, in the order of CSV columns
    headings: Mapping[str, str]  # of the fields that a table shows
    group: Mapping[str, str] = {}  # fields of the row above each group of records, by column
    is_single: bool = False  # one record, not a list


def _format(name: str, view: View) -> Format:
    match name:
        case "table":
            # Imported here: rich takes as long to import as all the rest of the command line.
            from marketplace_async.cli.table import Card, Grid

            return Card(view.headings) if view.is_single else Grid(view.headings, view.group)
        case "json":
            return JsonObject() if view.is_single else JsonArray()
        case "csv":
            return Csv(view.fields)
        case _:
            return JsonLines()


class Printer:
    """Print the records of a view in a format; use it with ``async with``.

    Printing does not block the event loop. A reader may pause for minutes, as a pager does; the
    running requests would time out meanwhile, and Ctrl-C would have to wait. Leaving the block
    prints the end of the output, or marks it as incomplete after an error of the API.
    """

    def __init__(self, view: View, output: str | None) -> None:
        output = output or ("table" if sys.stdout.isatty() else "jsonl")
        self.prints_at_end: bool = output == "table" and not view.is_single
        """Whether the format prints nothing before the end."""
        self._format = _format(output, view)

    async def print(self, records: Iterable[Record]) -> None:
        """Print a batch of records, or keep it if the format prints at the end."""
        await _write(self._format.rows(records))

    async def __aenter__(self) -> "Printer":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            await _write(self._format.end())
        elif isinstance(exc, MarketplaceError):
            await _write(self._format.cut_short())


async def _write(data: bytes) -> None:
    try:
        fd = sys.stdout.fileno()
    except OSError:  # replaced by an object in memory
        sys.stdout.write(data.decode())
        return
    left = memoryview(data)
    while left:
        await _wait_until_writable(fd)
        left = left[os.write(fd, left[:CHUNK]) :]


async def _wait_until_writable(fd: int) -> None:
    if sys.platform == "win32" or select.select((), (fd,), (), 0)[1]:
        return
    loop = asyncio.get_running_loop()
    is_writable = asyncio.Event()
    loop.add_writer(fd, is_writable.set)
    try:
        await is_writable.wait()
    finally:
        loop.remove_writer(fd)


def print_error(message: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"marketplace-async: {escaped(message)}\n")


class StderrHandler(logging.Handler):
    """Prints log records to the current ``sys.stderr``, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        print_error(self.format(record))


@contextmanager
def log_to(handler: logging.Handler, level: int | None = None) -> Generator[None]:
    """Pass the log records of the library, from this level on, to the handler."""
    logger = logging.getLogger("marketplace_async")
    previous = logger.level
    logger.setLevel(previous if level is None else level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
