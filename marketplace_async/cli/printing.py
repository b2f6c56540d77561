"""Records on standard output: which fields they have, and in which format they are written."""

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Final

import attrs

from marketplace_async import AvailableAddOn, Extension, MarketplaceError
from marketplace_async.cli.formats import Csv, Format, JsonArray, JsonLines, JsonObject, Record
from marketplace_async.cli.stdout import Stdout

__all__ = ["ADD_ON", "ADD_ONS", "CATALOG", "EXTENSION", "EXTENSIONS", "Printer", "View"]


@attrs.frozen
class View:
    """Records of one kind, as people and spreadsheets see them."""

    fields: tuple[str, ...]
    """The names of all fields, in order."""

    headings: dict[str, str]
    """The fields that a table shows, and the headings it shows them under."""

    group: dict[str, str] = attrs.Factory(dict[str, str])
    """The fields that a table shows once for each group of records, by column."""

    is_single: bool = False
    """There is one record, not a list of them."""


def _fields(model: type[attrs.AttrsInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(model))


ADD_ON: Final = View(
    _fields(AvailableAddOn),
    {
        "sid": "SID",
        "friendly_name": "Name",
        "description": "Description",
        "pricing_type": "Pricing",
        "configuration_schema": "Configuration",
        "url": "URL",
    },
    is_single=True,
)
ADD_ONS: Final = View(
    ADD_ON.fields,
    {"friendly_name": "NAME", "pricing_type": "PRICING", "sid": "SID"},
)
EXTENSION: Final = View(
    _fields(Extension),
    {
        "sid": "SID",
        "available_add_on_sid": "Add-on",
        "unique_name": "Unique name",
        "friendly_name": "Name",
        "product_name": "Product",
        "url": "URL",
    },
    is_single=True,
)
EXTENSIONS: Final = View(
    EXTENSION.fields,
    {
        "unique_name": "UNIQUE NAME",
        "friendly_name": "NAME",
        "product_name": "PRODUCT",
        "sid": "SID",
    },
)
CATALOG: Final = View(
    (*EXTENSION.fields, "available_add_on_friendly_name"),
    {
        "unique_name": "ADD-ON / EXTENSION",
        "product_name": "PRODUCT",
        "sid": "SID",
    },
    group={
        "unique_name": "available_add_on_friendly_name",
        "sid": "available_add_on_sid",
    },
)


def _format(name: str, view: View) -> Format:
    match name:
        case "table":
            # rich takes as long to load as all else of the command line.
            from marketplace_async.cli.table import Card, Grid

            if view.is_single:
                return Card(view.headings)
            return Grid(view.headings, view.group)
        case "json":
            return JsonObject() if view.is_single else JsonArray()
        case "csv":
            return Csv(view.fields)
        case _:
            return JsonLines()


class Printer:
    """Prints the records of a view in a format while its ``async with`` block runs."""

    def __init__(self, view: View, output: str | None) -> None:
        output = output or ("table" if sys.stdout.isatty() else "jsonl")
        self.prints_at_end: bool = output == "table" and not view.is_single
        """Whether nothing is printed before all records are there."""
        self._format = _format(output, view)
        self._stdout = Stdout()

    async def print(self, records: Iterable[Record]) -> None:
        """Print a batch, as far as the format does not need the others first."""
        await self._stdout.write(self._format.rows(records))

    async def __aenter__(self) -> "Printer":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            await self._stdout.write(self._format.end())
        elif isinstance(exc, MarketplaceError):
            await self._stdout.write(self._format.cut_short())
