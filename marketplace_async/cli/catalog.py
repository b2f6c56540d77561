"""Every Extension of every Add-on: requested many at a time, filtered, saved and printed."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import attrs

from marketplace_async import AvailableAddOn, Extension, MarketplaceSession
from marketplace_async.cli.formats import Record
from marketplace_async.cli.journal import Entry, Journal
from marketplace_async.cli.printing import Printer
from marketplace_async.cli.terminal import complain
from marketplace_async.conversion import converter

__all__ = ["Filter", "Tally", "print_catalog"]


@attrs.define
class Tally:
    """How far it has got."""

    found: int = 0
    """How many Add-ons there are, as far as is known."""

    all_found: bool = False
    """There are no more than these."""

    done: int = 0
    """How many of them are listed, now or in an earlier run."""

    failed: int = 0
    """How many of them could not be listed."""

    extensions: int = 0
    """How many Extensions all that are done have."""


@attrs.frozen
class Filter:
    """Which Extensions are printed; upper and lower case are the same."""

    product: str
    """Is in the name of the product."""

    search: str
    """Is in a name of the Extension or its product, or in the name or description of its Add-on."""

    def records(self, entry: Entry) -> list[Record]:
        """Give those of an Add-on as plain data, with the Add-on's name."""
        add_on = entry.add_on
        return [
            {
                **converter.unstructure(extension),
                "available_add_on_friendly_name": add_on.friendly_name,
            }
            for extension in entry.extensions
            if self._takes(add_on, extension)
        ]

    def _takes(self, add_on: AvailableAddOn, extension: Extension) -> bool:
        searched = (
            extension.friendly_name,
            extension.unique_name,
            extension.product_name,
            add_on.friendly_name,
            add_on.description,
        )
        return _within(self.product, extension.product_name) and any(
            _within(self.search, text) for text in searched
        )


def _within(part: str, text: str | None) -> bool:
    return part.casefold() in (text or "").casefold()


async def print_catalog(
    marketplace: MarketplaceSession,
    journal: Journal,
    wanted: Filter,
    printer: Printer,
    on_progress: Callable[[Tally], object],
) -> Tally:
    """Print what the journal holds, then request, save and print the rest as it is answered.

    An Add-on that cannot be listed is named on standard error. ``on_progress`` is called
    after each step.
    """
    tally = Tally()

    async def print_done(entry: Entry) -> None:
        tally.done += 1
        tally.extensions += len(entry.extensions)
        on_progress(tally)
        await printer.print(wanted.records(entry))

    async def remaining() -> AsyncIterator[AvailableAddOn]:
        async with aclosing(aiter(marketplace.available_add_ons.list(prefetch=1))) as add_ons:
            async for add_on in add_ons:
                if add_on.sid not in journal:
                    tally.found += 1
                    yield add_on
        tally.all_found = True
        on_progress(tally)

    for entry in journal.read():
        tally.found += 1
        await print_done(entry)
    async with marketplace.extensions_across(remaining()) as outcomes:
        async for outcome in outcomes:
            if outcome.value is None:
                tally.failed += 1
                on_progress(tally)
                complain(f"{outcome.input.sid}: {outcome.error}")
                continue
            entry = Entry(outcome.input, outcome.value)
            journal.add(entry)
            await print_done(entry)
    return tally
