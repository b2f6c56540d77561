"""The file that lets a run over the catalogue be continued: a line for each finished Add-on."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import attrs
import click

from marketplace_async import AvailableAddOn, Extension, InvalidResponseError
from marketplace_async.cli.formats import JsonLines
from marketplace_async.conversion import converter, structurer

if sys.platform != "win32":
    import fcntl

__all__ = ["NOWHERE", "Entry", "Journal"]

LINE_START: Final = b'{"sid":"XB'
NOWHERE: Final = Path(os.devnull)
"""Holds nothing and keeps nothing."""


@attrs.frozen
class Entry:
    """An Add-on and its Extensions."""

    add_on: AvailableAddOn
    extensions: tuple[Extension, ...]


@attrs.frozen
class _Extensions:
    extensions: tuple[Extension, ...]


_add_on = structurer(AvailableAddOn)
_extensions = structurer(_Extensions)


class Journal:
    """Finished Add-ons in a file of JSON Lines, each an Add-on with its ``extensions`` inside.

    Open while its ``with`` block runs. Only SIDs are kept in memory.

    :raises OSError: the file cannot be opened, here or where it is read or written.
    :raises click.UsageError: it is no regular file, or another run or the output has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sids: set[str] = set()
        if path != NOWHERE and path.exists() and not path.is_file():
            raise click.UsageError(f"{path} is not a regular file, which --resume needs")
        # Opened before anything is requested for it in vain.
        self._file = path.open("ab")
        if path != NOWHERE and not _lock(self._file):
            self._file.close()
            raise click.UsageError(f"{path} is in use, by another run or for the output")

    def __contains__(self, sid: str) -> bool:
        return sid in self._sids

    def read(self) -> Iterator[Entry]:
        """Give what the file holds, and mend its end where writing was cut short.

        :raises click.UsageError: it holds something else.
        """
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if _is_cut(line):
                    self._file.truncate(file.tell() - len(line))
                    return
                entry = self._entry(number, line)
                if entry.add_on.sid not in self._sids:
                    self._sids.add(entry.add_on.sid)
                    yield entry

    def add(self, entry: Entry) -> None:
        """Write a finished Add-on to the file, at once."""
        record = converter.unstructure(entry.add_on)
        record["extensions"] = converter.unstructure(entry.extensions)
        self._file.write(JsonLines().rows([record]))
        self._file.flush()
        self._sids.add(entry.add_on.sid)

    def _entry(self, number: int, line: bytes) -> Entry:
        try:
            return Entry(_add_on(line), _extensions(line).extensions)
        except InvalidResponseError as error:
            raise click.UsageError(
                f"{self._path}, line {number}, is not an Add-on that --resume saved: {error}"
            ) from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _lock(file: BinaryIO) -> bool:
    """Keep other runs from the file until it is closed; say whether it was free."""
    with suppress(OSError):  # standard output is no file
        if os.path.sameopenfile(sys.stdout.fileno(), file.fileno()):
            return False
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _is_cut(line: bytes) -> bool:
    # What does not begin like a line of ours is somebody's file, and is left alone.
    return not line.endswith(b"\n") and (line.startswith(LINE_START) or LINE_START.startswith(line))
