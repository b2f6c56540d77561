"""How records are written: each format turns batches of plain data into bytes, at once.

What a server sent cannot steer a terminal, or a spreadsheet: control characters are escaped in
each format's own way, which in JSON does not change the value.
"""

import csv
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Csv", "Format", "JsonArray", "JsonLines", "JsonObject", "Record", "escaped"]

Record = Mapping[str, Any]

# C0, DEL and C1 steer terminals; the others break lines or reverse what is read: Unicode's
# line and paragraph separators and its bidirectional controls.
CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CONTROLS_BUT_LINES: Final = re.compile(rf"(?!\n){CONTROLS.pattern}")

# What makes a spreadsheet take a cell for a formula: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


class Format(ABC):
    """A way to write records that come in batches."""

    @abstractmethod
    def rows(self, records: Iterable[Record]) -> bytes:
        """Give the text of a batch, in front of the first with whatever opens the whole."""

    def end(self) -> bytes:
        """Give what closes the whole."""
        return b""

    def cut_short(self) -> bytes:
        """Give what comes in place of `end` where an error cut it short."""
        return b""


class JsonLines(Format):
    """One object a line: https://jsonlines.org."""

    def rows(self, records: Iterable[Record]) -> bytes:
        """Give a line for each."""
        return b"".join(_json(record) + b"\n" for record in records)


class JsonArray(Format):
    """An array of objects, indented. Cut short, it is left open, so that no parser takes it."""

    def __init__(self) -> None:
        self._is_empty = True

    def rows(self, records: Iterable[Record]) -> bytes:
        """Give the elements, each with the bracket or comma before it."""
        written = bytearray()
        for record in records:
            written += b"[\n  " if self._is_empty else b",\n  "
            written += _json(record, indent=2).replace(b"\n", b"\n  ")
            self._is_empty = False
        return bytes(written)

    def end(self) -> bytes:
        """Give the closing bracket."""
        return b"[]\n" if self._is_empty else b"\n]\n"

    def cut_short(self) -> bytes:
        """End the line."""
        return b"" if self._is_empty else b"\n"


class JsonObject(Format):
    """The one record there is, indented."""

    def rows(self, records: Iterable[Record]) -> bytes:
        """Give the object."""
        return b"".join(_json(record, indent=2) + b"\n" for record in records)


class Csv(Format):
    """Comma-separated values (RFC 4180, with bare line feeds) under a line of names.

    An apostrophe goes before text that a spreadsheet would take for a formula. Objects are
    written as JSON.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._head = self._lines([columns])

    def rows(self, records: Iterable[Record]) -> bytes:
        """Give a line for each, below the names."""
        lines = self._lines(
            [_cell(record[column]) for column in self._columns] for record in records
        )
        head, self._head = self._head, b""
        return head + lines

    def end(self) -> bytes:
        """Give the names, if there was nothing to write below them."""
        return self._head

    @staticmethod
    def _lines(rows: Iterable[Sequence[str]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def escaped(text: str) -> str:
    """Give text that stays on its line and steers no terminal."""
    return CONTROLS.sub(_escape, text)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else _json(value).decode()
    text = CONTROLS_BUT_LINES.sub(_escape, text)
    return f"'{text}" if FORMULA.match(text) else text


def _json(value: object, indent: int | None = None) -> bytes:
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    # JSON escapes the rest of them itself. What is left of C0 are its own line breaks.
    return CONTROLS_BUT_LINES.sub(_json_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
