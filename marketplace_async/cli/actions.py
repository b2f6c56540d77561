"""What each command does. Loaded when one runs, for this loads the HTTP library."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import Path
from typing import Any

from marketplace_async import MarketplaceSession, Pager
from marketplace_async.cli.catalog import Filter, Tally, print_catalog
from marketplace_async.cli.exits import CommandError, Exit
from marketplace_async.cli.journal import NOWHERE, Journal
from marketplace_async.cli.printing import ADD_ON, ADD_ONS, CATALOG, EXTENSION, EXTENSIONS, Printer
from marketplace_async.cli.stdout import Stdout
from marketplace_async.cli.terminal import may_show_progress
from marketplace_async.conversion import converter

__all__ = [
    "catalog",
    "fetch_add_on",
    "fetch_extension",
    "list_add_ons",
    "list_extensions",
    "serve_sandbox",
]


async def list_add_ons(
    marketplace: MarketplaceSession,
    limit: int | None,
    page_size: int | None,
    output: str | None,
) -> None:
    """Print the Available Add-ons, a page at a time."""
    add_ons = marketplace.available_add_ons
    await _print_pages(
        add_ons.list(limit=limit, page_size=page_size, prefetch=1), Printer(ADD_ONS, output)
    )


async def fetch_add_on(marketplace: MarketplaceSession, add_on: str, output: str | None) -> None:
    """Print one Available Add-on."""
    async with Printer(ADD_ON, output) as printer:
        fetched = await marketplace.available_add_ons(add_on).fetch()
        await printer.print([converter.unstructure(fetched)])


async def list_extensions(
    marketplace: MarketplaceSession,
    add_on: str,
    limit: int | None,
    page_size: int | None,
    output: str | None,
) -> None:
    """Print the Extensions of an Add-on, a page at a time."""
    extensions = marketplace.available_add_ons(add_on).extensions
    await _print_pages(
        extensions.list(limit=limit, page_size=page_size, prefetch=1),
        Printer(EXTENSIONS, output),
    )


async def fetch_extension(
    marketplace: MarketplaceSession, add_on: str, extension: str, output: str | None
) -> None:
    """Print one Extension."""
    async with Printer(EXTENSION, output) as printer:
        fetched = await marketplace.available_add_ons(add_on).extensions(extension).fetch()
        await printer.print([converter.unstructure(fetched)])


async def _print_pages(pager: Pager[Any], printer: Printer) -> None:
    async with printer, aclosing(pager.pages()) as pages:
        async for page in pages:
            await printer.print(map(converter.unstructure, page.items))


async def catalog(
    marketplace: MarketplaceSession,
    product: str,
    search: str,
    resume: Path | None,
    output: str | None,
) -> None:
    """Print every Extension of every Add-on.

    :raises CommandError: some are missing.
    """
    # Without a file to save in, there is one that is always empty.
    with Journal(resume or NOWHERE) as journal:
        async with Printer(CATALOG, output) as printer:
            with _progress(printer) as show:
                tally = await print_catalog(
                    marketplace, journal, Filter(product, search), printer, show
                )
    if tally.failed:
        again = "; the same command again requests only them" if resume else ""
        raise CommandError(
            f"{tally.failed} of {tally.found} add-ons could not be listed{again}",
            Exit.INCOMPLETE,
        )


def _progress(printer: Printer) -> AbstractContextManager[Callable[[Tally], object]]:
    is_in_the_way = sys.stdout.isatty() and not printer.prints_at_end
    if is_in_the_way or not may_show_progress():
        return nullcontext(_ignore)
    # Here, because it loads rich.
    from marketplace_async.cli.progress import ProgressBar

    return ProgressBar()


def _ignore(_: Tally) -> None:
    """Show nothing."""


async def serve_sandbox(port: int) -> None:
    """Serve a sandbox until cancelled."""
    # Here, because no other command needs a server.
    from marketplace_async.sandbox import Sandbox

    async with Sandbox(port=port) as sandbox:
        await Stdout().write(
            f"# A sandbox listens at {sandbox.url} until Ctrl-C. In another shell:\n"
            f"export TWILIO_API_KEY={sandbox.credentials.username}\n"
            f"export TWILIO_API_SECRET={sandbox.credentials.password}\n"
            f"marketplace-async --base-url {sandbox.url} catalog\n".encode()
        )
        await asyncio.Event().wait()
