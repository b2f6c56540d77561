"""Tables for people, by rich, which is loaded when the first one is made."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from marketplace_async.cli.formats import Format, Record, escaped
from marketplace_async.cli.terminal import color_system

__all__ = ["Card", "Grid"]

ANY_WIDTH: Final = 1_000_000
GAP: Final = 2
# Left out where the terminal is too narrow for all.
EXPENDABLE: Final = frozenset({"product_name", "pricing_type"})


class Grid(Format):
    """A row for each record, drawn at the end, when the widths are known.

    ``columns`` are headings by field. ``group`` are the fields that records of a group have in
    common, by the column in which a row of their own shows them; groups are sorted by them.
    """

    def __init__(self, columns: Mapping[str, str], group: Mapping[str, str]) -> None:
        self._columns = columns
        self._group = group
        self._records: list[Record] = []

    def rows(self, records: Iterable[Record]) -> bytes:
        """Keep them."""
        self._records.extend(records)
        return b""

    def cut_short(self) -> bytes:
        """Give the table of what came before."""
        return self.end() if self._records else b""

    def end(self) -> bytes:
        """Give the table."""
        # Sorting is stable: within a group the order stays.
        self._records.sort(key=lambda record: [text.casefold() for text in self._shared(record)])
        console = _console()
        names = list(self._columns)
        if self._width(names) > console.width:
            names = [name for name in names if name not in EXPENDABLE]
        table = Table(
            *(_column(name, self._columns[name]) for name in names),
            box=None,
            header_style="bold",
            padding=(0, GAP, 0, 0),
        )
        for style, texts in self._rows(names):
            # As Text, for in a str rich would look for markup.
            table.add_row(*map(Text, texts), style=style)
        return _drawn(table, console)

    def _rows(self, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        for shared, records in groupby(self._records, self._shared):
            if shared:
                by_column = dict(zip(self._group, shared, strict=True))
                yield "bold", [escaped(by_column.get(name, "")) for name in names]
            for record in records:
                texts = [escaped(record[name] or "") for name in names]
                if shared:
                    texts[0] = f"  {texts[0]}"
                yield "", texts

    def _width(self, names: Sequence[str]) -> int:
        """Give how many columns of a terminal the table needs."""
        headings = [self._columns[name] for name in names]
        columns = zip(headings, *(texts for _, texts in self._rows(names)), strict=True)
        return sum(max(map(cell_len, column)) for column in columns) + GAP * (len(names) - 1)

    def _shared(self, record: Record) -> tuple[str, ...]:
        return tuple(record[field] or "" for field in self._group.values())


class Card(Format):
    """The fields of the one record there is, a line each."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns

    def rows(self, records: Iterable[Record]) -> bytes:
        """Give the card."""
        return b"".join(map(self._card, records))

    def _card(self, record: Record) -> bytes:
        card = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, GAP))
        for name, heading in self._columns.items():
            card.add_row(heading, _text(record[name]))
        return _drawn(card, _console())


def _column(name: str, heading: str) -> Column:
    if name == "sid":
        # Broken or cut it could not be copied.
        return Column(heading, style="cyan", no_wrap=True, min_width=34)
    return Column(heading, overflow="fold")


def _text(value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, str):
        return Text(escaped(value))
    lines = json.dumps(value, ensure_ascii=False, indent=2).split("\n")
    return Text("\n".join(map(escaped, lines)))


def _console() -> Console:
    # In a pipe a record is a line, however long.
    width = None if sys.stdout.isatty() else ANY_WIDTH
    return Console(width=width, color_system=color_system(sys.stdout), highlight=False)


def _drawn(table: Table, console: Console) -> bytes:
    with console.capture() as capture:
        console.print(table, crop=False)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "".join(f"{line}\n" for line in lines).encode(console.encoding, "backslashreplace")
