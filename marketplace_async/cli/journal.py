"""The file that lets a run over the catalogue be continued: a line for each finished Add-on."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import attrs
import click

from marketplace_async import AvailableAddOn, Extension, InvalidResponseError
from marketplace_async.cli.formats import JsonLines
from marketplace_async.conversion import converter, structurer

__all__ = ["Entry", "Journal"]

LINE_START: Final = b'{"sid":"XB'


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
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sids: set[str] = set()
        # Opened before anything is requested for it in vain.
        self._file = path.open("ab")

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


def _is_cut(line: bytes) -> bool:
    # What does not begin like a line of ours is somebody's file, and is left alone.
    return not line.endswith(b"\n") and (line.startswith(LINE_START) or LINE_START.startswith(line))
