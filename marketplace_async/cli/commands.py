"""The commands: arguments, options, help, and what each command does."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import attrs
import click

from marketplace_async import (
    AvailableAddOn,
    Extension,
    InvalidSidError,
    MarketplaceSession,
    Pager,
    __version__,
)
from marketplace_async.cli.output import FORMATS, Printer, View, log_to, print_error
from marketplace_async.cli.runner import Exit, fail, run, run_on_session
from marketplace_async.sids import require_sid

__all__ = ["program"]

HEADINGS: Final = {
    "sid": "SID",
    "available_add_on_sid": "Add-on",
    "unique_name": "Unique name",
    "friendly_name": "Name",
    "product_name": "Product",
    "description": "Description",
    "pricing_type": "Pricing",
    "configuration_schema": "Configuration",
    "url": "URL",
}


def _columns(*fields: str) -> dict[str, str]:
    return {field: HEADINGS[field].upper() for field in fields}


ADD_ON: Final = View(tuple(attrs.fields_dict(AvailableAddOn)), HEADINGS, is_single=True)
ADD_ONS: Final = View(ADD_ON.fields, _columns("friendly_name", "pricing_type", "sid"))
EXTENSION: Final = View(tuple(attrs.fields_dict(Extension)), HEADINGS, is_single=True)
EXTENSIONS: Final = View(
    EXTENSION.fields, _columns("unique_name", "friendly_name", "product_name", "sid")
)
CATALOG: Final = View(
    (*EXTENSION.fields, "available_add_on_friendly_name"),
    {"unique_name": "ADD-ON / EXTENSION", **_columns("product_name", "sid")},
    group={"unique_name": "available_add_on_friendly_name", "sid": "available_add_on_sid"},
)

F = TypeVar("F", bound=Callable[..., Any] | click.Command)
P = ParamSpec("P")


def _sid_argument(name: str, prefix: str) -> Callable[[F], F]:
    def callback(_: click.Context, __: click.Parameter, value: str) -> str:
        try:
            return require_sid(prefix, value)
        except InvalidSidError as error:
            raise click.BadParameter(str(error)) from None

    return click.argument(name, metavar=f"{name.upper()}_SID", callback=callback)


class _Options(dict[str, Any]):
    """The values of the options for the server, by name."""


def _connection_option(*names: str, **settings: Any) -> Callable[[F], F]:
    def remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        # The options before and after the command change the same object.
        if value not in (None, False):
            ctx.ensure_object(_Options)[parameter.name] = value

    return click.option(*names, expose_value=False, callback=remember, **settings)


_connection_options = (
    _connection_option(
        "--sandbox",
        is_flag=True,
        help="Use a sandbox with an invented catalogue, started for this command. "
        "No account is needed.",
    ),
    _connection_option("--region", metavar="NAME", help="Twilio region, such as ie1."),
    _connection_option("--edge", metavar="NAME", help="Twilio edge, such as dublin."),
    _connection_option(
        "--base-url", metavar="URL", help="Another server, such as http://127.0.0.1:8080."
    ),
    _connection_option("-v", "--verbose", is_flag=True, help="Log requests and retries on stderr."),
)


def _with_connection_options(command: F) -> F:
    for option in reversed(_connection_options):
        command = option(command)
    return command


def _with_session(
    action: Callable[Concatenate[MarketplaceSession, P], Awaitable[None]],
) -> Callable[P, None]:
    """Make a command of a coroutine function, whose first argument is the session."""

    @_with_connection_options
    @wraps(action)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        options = click.get_current_context().ensure_object(_Options)
        run_on_session(lambda session: action(session, *args, **kwargs), **options)

    return command


_add_on_argument = _sid_argument("add_on", "XB")
_extension_argument = _sid_argument("extension", "XF")
_limit_option = click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Stop after N items."
)
_page_size_option = click.option(
    "--page-size",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Items per request, 1 to 1000.  [default: the limit, or the API's 50]",
)
_output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(FORMATS),
    help="Format of the results.  [default: table on a terminal, else jsonl]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@_with_connection_options
@click.version_option(__version__, message="%(prog)s %(version)s")
def program() -> None:
    """Read Twilio's Marketplace: Add-ons and their Extensions.

    \b
    Try it without an account:
      marketplace-async catalog --sandbox

    \b
    With an account, set the credentials in the environment, either
      TWILIO_API_KEY and TWILIO_API_SECRET, or
      TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN:
      marketplace-async add-ons list
      marketplace-async extensions list XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa

    \b
    Results are a table on a terminal and JSON Lines in a pipe:
      marketplace-async catalog | jq -r .unique_name | sort | uniq -c
    """


@program.group("add-ons")
def add_ons() -> None:
    """Add-ons that can be installed."""


@add_ons.command("list")
@_limit_option
@_page_size_option
@_output_option
@_with_session
async def list_add_ons(
    marketplace: MarketplaceSession, limit: int | None, page_size: int | None, output: str | None
) -> None:
    """List all Add-ons.

    \b
    Examples:
      marketplace-async add-ons list --limit 20
      marketplace-async add-ons list -o csv > add-ons.csv
      marketplace-async add-ons list | jq -r 'select(.pricing_type == "free").sid'
    """
    listing = marketplace.available_add_ons
    pager = listing.list(limit=limit, page_size=page_size, prefetch=True)
    await _print_pages(pager, ADD_ONS, output)


@add_ons.command("fetch")
@_add_on_argument
@_output_option
@_with_session
async def fetch_add_on(marketplace: MarketplaceSession, add_on: str, output: str | None) -> None:
    """Show one Add-on.

    \b
    Example:
      marketplace-async add-ons fetch XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    """
    await _print_one(marketplace.available_add_ons(add_on).fetch(), ADD_ON, output)


@program.group("extensions")
def extensions() -> None:
    """Extensions: the features of Twilio products that an Add-on works with."""


@extensions.command("list")
@_add_on_argument
@_limit_option
@_page_size_option
@_output_option
@_with_session
async def list_extensions(
    marketplace: MarketplaceSession,
    add_on: str,
    limit: int | None,
    page_size: int | None,
    output: str | None,
) -> None:
    """List the Extensions of an Add-on.

    \b
    Examples:
      marketplace-async extensions list XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
      marketplace-async extensions list XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -o json
    """
    listing = marketplace.available_add_ons(add_on).extensions
    pager = listing.list(limit=limit, page_size=page_size, prefetch=True)
    await _print_pages(pager, EXTENSIONS, output)


@extensions.command("fetch")
@_add_on_argument
@_extension_argument
@_output_option
@_with_session
async def fetch_extension(
    marketplace: MarketplaceSession, add_on: str, extension: str, output: str | None
) -> None:
    """Show one Extension of an Add-on.

    \b
    Example:
      marketplace-async extensions fetch XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \\
          XFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    """
    handle = marketplace.available_add_ons(add_on).extensions(extension)
    await _print_one(handle.fetch(), EXTENSION, output)


async def _print_one(
    request: Awaitable[AvailableAddOn | Extension], view: View, output: str | None
) -> None:
    async with Printer(view, output) as printer:
        await printer.print([(await request).to_dict()])


async def _print_pages(pager: Pager[Any], view: View, output: str | None) -> None:
    async with Printer(view, output) as printer, aclosing(pager.pages()) as pages:
        async for page in pages:
            await printer.print([item.to_dict() for item in page])


@program.command("catalog")
@click.option(
    "--product",
    default="",
    metavar="TEXT",
    help="Only Extensions of products with TEXT in their name.",
)
@click.option(
    "--search",
    default="",
    metavar="TEXT",
    help="Only Extensions with TEXT in their name, the name of their product or Add-on, or the "
    "description of their Add-on.",
)
@_output_option
@_with_session
async def catalog(
    marketplace: MarketplaceSession, product: str, search: str, output: str | None
) -> None:
    """List every Extension of every Add-on, many Add-ons at a time.

    The order is that of the responses; a table is sorted by the names of the Add-ons. If an
    Add-on cannot be listed, it is reported on stderr, the others are printed, and the exit
    code is 7.

    \b
    Examples:
      marketplace-async catalog --product voice
      marketplace-async catalog --search transcri -o json
      marketplace-async catalog -o csv > catalog.csv
    """
    tally = _Tally()
    add_ons = tally.count(marketplace.available_add_ons.list(prefetch=True, skip_invalid=True))
    async with Printer(CATALOG, output) as printer:
        with log_to(tally.skipped), _progress_bar(printer) as show:
            async with marketplace.extensions_across(add_ons) as outcomes:
                async for outcome in outcomes:
                    tally.completed += 1
                    if outcome.error is not None:
                        tally.failed += 1
                        print_error(f"{outcome.input.sid}: {outcome.error}")
                    else:
                        tally.extensions += len(outcome.value)
                        await printer.print(
                            {
                                **extension.to_dict(),
                                "available_add_on_friendly_name": outcome.input.friendly_name,
                            }
                            for extension in outcome.value
                            if _is_wanted(outcome.input, extension, product, search)
                        )
                    show(tally.completed, tally.total, tally.extensions)
            show(tally.completed, tally.total, tally.extensions)
    if failed := tally.failed + tally.skipped.count:
        all_add_ons = tally.found + tally.skipped.count
        fail(f"{failed} of {all_add_ons} add-ons could not be listed", Exit.INCOMPLETE)


class _Skipped(logging.Handler):
    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        # The library logs one warning for each invalid add-on that the listing skips.
        self.count += record.levelno == logging.WARNING


@attrs.define
class _Tally:
    found: int = 0
    total: int | None = None  # known at the end of the listing of Add-ons
    completed: int = 0
    failed: int = 0
    extensions: int = 0
    skipped: _Skipped = attrs.Factory(_Skipped)

    async def count(self, add_ons: Pager[AvailableAddOn]) -> AsyncIterator[AvailableAddOn]:
        async with aclosing(aiter(add_ons)) as items:
            async for add_on in items:
                self.found += 1
                yield add_on
        self.total = self.found


def _is_wanted(add_on: AvailableAddOn, extension: Extension, product: str, search: str) -> bool:
    searched = (
        extension.friendly_name,
        extension.unique_name,
        extension.product_name,
        add_on.friendly_name,
        add_on.description,
    )
    is_product = product.casefold() in (extension.product_name or "").casefold()
    return is_product and any(search.casefold() in (text or "").casefold() for text in searched)


@contextmanager
def _progress_bar(printer: Printer) -> Generator[Callable[[int, int | None, int], object]]:
    # Nothing else may write to the terminal meanwhile: neither the records, nor the program
    # that reads them from a pipe. Files are seekable, pipes are not.
    is_free = printer.prints_at_end if sys.stdout.isatty() else sys.stdout.seekable()
    if is_free and sys.stderr.isatty():
        # Imported here: rich takes as long to import as all the rest of the command line.
        from marketplace_async.cli.table import progress_bar

        with progress_bar() as show:
            yield show
    else:
        yield lambda _completed, _total, _extensions: None


@program.command("sandbox")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="N",
    help="Port on this machine; 0 selects a free one.",
)
def sandbox(port: int) -> None:
    """Serve the API with an invented catalogue until Ctrl-C.

    Prints the commands to use it from another shell.

    \b
    Example:
      marketplace-async sandbox --port 9000
    """
    run(_serve_sandbox(port))


async def _serve_sandbox(port: int) -> None:
    # Imported here, because only the sandbox needs an HTTP server.
    from marketplace_async.sandbox import Sandbox

    async with Sandbox(port=port) as sandbox:
        click.echo(
            f"# A sandbox listens on {sandbox.url} until Ctrl-C. In another shell:\n"
            f"export TWILIO_API_KEY={sandbox.credentials.username}\n"
            f"export TWILIO_API_SECRET={sandbox.credentials.password}\n"
            f"marketplace-async --base-url {sandbox.url} catalog"
        )
        await asyncio.Event().wait()
