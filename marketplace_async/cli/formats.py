"""The formats of the output: each one converts batches of records to bytes.

Text of the server must not control a terminal or a spreadsheet. Each format escapes control
characters in its own way; in JSON the value stays the same.
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

# C0, DEL and C1 control a terminal. The others break lines or reverse text: Unicode's line and
# paragraph separators and its bidirectional controls. Lone surrogates cannot be encoded.
CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CONTROLS_EXCEPT_LF: Final = re.compile(rf"(?!\n){CONTROLS.pattern}")

# The first characters of a formula: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


class Format(ABC):
    """A format for records that arrive in batches."""

    @abstractmethod
    def rows(self, records: Iterable[Record]) -> bytes:
        """Return a batch; the first one includes the header."""

    def end(self) -> bytes:
        """Return the end of a complete output."""
        return b""

    def cut_short(self) -> bytes:
        """Return the end of an output that an error interrupted."""
        return b""


class JsonLines(Format):
    """One object per line: https://jsonlines.org."""

    indent: int | None = None

    def rows(self, records: Iterable[Record]) -> bytes:
        """Return the objects."""
        return b"".join(_json(record, self.indent) + b"\n" for record in records)


class JsonObject(JsonLines):
    """A single record as an indented object."""

    indent: int | None = 2


class JsonArray(Format):
    """An indented array of objects.

    After an error the closing bracket is missing, so that no parser accepts the array.
    """

    def __init__(self) -> None:
        self._is_empty = True

    def rows(self, records: Iterable[Record]) -> bytes:
        """Return the elements, each after its bracket or comma."""
        written = bytearray()
        for record in records:
            written += b"[\n  " if self._is_empty else b",\n  "
            written += _json(record, indent=2).replace(b"\n", b"\n  ")
            self._is_empty = False
        return bytes(written)

    def end(self) -> bytes:
        """Return the closing bracket."""
        return b"[]\n" if self._is_empty else b"\n]\n"

    def cut_short(self) -> bytes:
        """Return the end of the line."""
        return b"" if self._is_empty else b"\n"


class Csv(Format):
    """Comma-separated values with a header (RFC 4180, but with LF as the end of a line).

    Text that a spreadsheet would take for a formula gets an apostrophe. Objects are JSON.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._header = self._lines([columns])

    def rows(self, records: Iterable[Record]) -> bytes:
        """Return one line for each record, the first ones after the header."""
        lines = self._lines(
            [_cell(record[column]) for column in self._columns] for record in records
        )
        header, self._header = self._header, b""
        return header + lines

    def end(self) -> bytes:
        """Return the header if there were no records."""
        return self._header

    @staticmethod
    def _lines(rows: Iterable[Sequence[str]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def escaped(text: str) -> str:
    """Return the text on one line, without characters that control a terminal."""
    return CONTROLS.sub(_escape, text)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else _json(value).decode()
    text = CONTROLS_EXCEPT_LF.sub(_escape, text)
    return f"'{text}" if FORMULA.match(text) else text


def _json(value: object, indent: int | None = None) -> bytes:
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    # json escapes C0 in strings; the remaining line feeds are its own.
    return CONTROLS_EXCEPT_LF.sub(_json_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
