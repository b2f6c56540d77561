"""Tables and the progress bar, drawn by rich; imported only when one is needed."""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from marketplace_async.cli.formats import Format, Record, escaped

__all__ = ["Card", "Grid", "progress_bar"]

ANY_WIDTH: Final = 1_000_000
GAP: Final = 2
# Columns that a narrow terminal does not show.
OPTIONAL: Final = frozenset({"product_name", "pricing_type"})


class Grid(Format):
    """One row for each record, drawn at the end, when the widths of the columns are known.

    ``columns`` are the headings by field. ``group`` are the fields of the row above each group
    of records, by column; the groups are sorted by them.
    """

    def __init__(self, columns: Mapping[str, str], group: Mapping[str, str]) -> None:
        self._columns = columns
        self._group = group
        self._records: list[Record] = []

    def rows(self, records: Iterable[Record]) -> bytes:
        """Keep the records until the end."""
        self._records.extend(records)
        return b""

    def cut_short(self) -> bytes:
        """Return the table of the records before the error."""
        return self.end() if self._records else b""

    def end(self) -> bytes:
        """Return the table."""
        # Sorting is stable: the order within a group does not change.
        self._records.sort(key=lambda record: [text.casefold() for text in self._shared(record)])
        console = _console(sys.stdout)
        table = self._table(list(self._columns))
        any_width = console.options.update(max_width=ANY_WIDTH)
        if console.measure(table, options=any_width).maximum > console.width:
            table = self._table([name for name in self._columns if name not in OPTIONAL])
        return _drawn(table, console)

    def _table(self, names: Sequence[str]) -> Table:
        table = Table(
            *(_column(name, self._columns[name]) for name in names),
            box=None,
            header_style="bold",
            padding=(0, GAP, 0, 0),
        )
        for style, texts in self._rows(names):
            # As Text, because rich interprets markup in a str.
            table.add_row(*map(Text, texts), style=style)
        return table

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

    def _shared(self, record: Record) -> tuple[str, ...]:
        return tuple(record[field] or "" for field in self._group.values())


class Card(Format):
    """The fields of a single record, one per line."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns

    def rows(self, records: Iterable[Record]) -> bytes:
        """Return the card."""
        card = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, GAP))
        for record in records:
            for name, heading in self._columns.items():
                if name in record:
                    card.add_row(heading, _text(record[name]))
        return _drawn(card, _console(sys.stdout))


def _column(name: str, heading: str) -> Column:
    if name == "sid":
        # A wrapped or shortened SID cannot be copied.
        return Column(heading, style="cyan", no_wrap=True, min_width=34)
    return Column(heading, overflow="fold")


def _text(value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, str):
        return Text(escaped(value))
    lines = json.dumps(value, ensure_ascii=False, indent=2).split("\n")
    return Text("\n".join(map(escaped, lines)))


def _console(stream: TextIO) -> Console:
    # Colours only on a terminal: https://no-color.org. In a pipe a record stays on one line.
    has_color = stream.isatty() and not os.environ.get("NO_COLOR")
    return Console(
        file=stream,
        width=None if stream.isatty() else ANY_WIDTH,
        color_system="auto" if has_color else None,
        highlight=False,
    )


def _drawn(table: Table, console: Console) -> bytes:
    with console.capture() as capture:
        console.print(table, crop=False)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "".join(f"{line}\n" for line in lines).encode(console.encoding, "backslashreplace")


@contextmanager
def progress_bar() -> Generator[Callable[[int, int | None, int], None]]:
    """Show a progress bar on standard error; other lines on standard error appear above it.

    Yields a function that updates it with the number of listed add-ons, the number of all
    add-ons (None if unknown) and the number of extensions.
    """
    bar = Progress(
        BarColumn(complete_style="cyan", finished_style="green", pulse_style="cyan"),
        MofNCompleteColumn(),
        TextColumn("add-ons, {task.fields[extensions]} extensions"),
        TimeElapsedColumn(),
        console=_console(sys.stderr),
        redirect_stdout=False,
    )
    task = bar.add_task("", total=None, extensions=0)

    def show(completed: int, total: int | None, extensions: int) -> None:
        bar.update(task, completed=completed, total=total, extensions=extensions)

    with bar:
        yield show
