"""What can be typed: commands, arguments, options and their help."""

from pathlib import Path

import click

from marketplace_async.cli.options import (
    connection_options,
    listing_options,
    output_option,
    sid_argument,
)
from marketplace_async.sids import available_add_on_sid, extension_sid
from marketplace_async.version import __version__

__all__ = ["program"]

# Each command loads what it does only when it runs: --help, --version and shell completion
# need no HTTP library.

_add_on_argument = sid_argument("add_on", available_add_on_sid)
_extension_argument = sid_argument("extension", extension_sid)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@connection_options
@click.version_option(__version__, message="%(prog)s %(version)s")
def program() -> None:
    """Read Twilio's Marketplace: Add-ons and the Extensions they plug into.

    \b
    Try it without an account:
      marketplace-async catalog --sandbox

    \b
    With an account, credentials come from the environment, from
      TWILIO_API_KEY and TWILIO_API_SECRET, or else from
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
@listing_options
@output_option
@connection_options
def list_add_ons(limit: int | None, page_size: int | None, output: str | None) -> None:
    """List all Add-ons.

    \b
    Examples:
      marketplace-async add-ons list --limit 20
      marketplace-async add-ons list -o csv > add-ons.csv
      marketplace-async add-ons list | jq -r 'select(.pricing_type == "free").sid'
    """
    from marketplace_async.cli import actions, running

    running.run_on_session(actions.list_add_ons, limit, page_size, output)


@add_ons.command("fetch")
@_add_on_argument
@output_option
@connection_options
def fetch_add_on(add_on: str, output: str | None) -> None:
    """Show one Add-on.

    \b
    Example:
      marketplace-async add-ons fetch XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    """
    from marketplace_async.cli import actions, running

    running.run_on_session(actions.fetch_add_on, add_on, output)


@program.group("extensions")
def extensions() -> None:
    """Extensions: the features of Twilio products that an Add-on can be used in."""


@extensions.command("list")
@_add_on_argument
@listing_options
@output_option
@connection_options
def list_extensions(
    add_on: str, limit: int | None, page_size: int | None, output: str | None
) -> None:
    """List the Extensions of an Add-on.

    \b
    Examples:
      marketplace-async extensions list XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
      marketplace-async extensions list XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -o json
    """
    from marketplace_async.cli import actions, running

    running.run_on_session(actions.list_extensions, add_on, limit, page_size, output)


@extensions.command("fetch")
@_add_on_argument
@_extension_argument
@output_option
@connection_options
def fetch_extension(add_on: str, extension: str, output: str | None) -> None:
    """Show one Extension of an Add-on.

    \b
    Example:
      marketplace-async extensions fetch XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \\
          XFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    """
    from marketplace_async.cli import actions, running

    running.run_on_session(actions.fetch_extension, add_on, extension, output)


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
    help="Only Extensions with TEXT in a name, of their product or Add-on too, or in the Add-on's "
    "description.",
)
@click.option(
    "--resume",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save each finished Add-on in FILE, and take those that it holds from there.",
)
@output_option
@connection_options
def catalog(product: str, search: str, resume: Path | None, output: str | None) -> None:
    """List every Extension of every Add-on, many Add-ons at a time.

    Add-ons come as they are answered; a table is sorted by Add-on. One that cannot be listed
    is reported on stderr, the others are printed, and the exit code is 7.

    With --resume, the same command continues a run that was interrupted or incomplete: only
    what is not yet in FILE is requested. Delete FILE to start afresh. The filters do not
    change what is saved.

    \b
    Examples:
      marketplace-async catalog --product voice
      marketplace-async catalog --search transcri -o json
      marketplace-async catalog --resume catalog.jsonl -o csv > catalog.csv
    """
    from marketplace_async.cli import actions, running

    running.run_on_session(actions.catalog, product, search, resume, output)


@program.command("sandbox")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="N",
    help="Port to listen at on this machine; 0 takes a free one.",
)
def sandbox(port: int) -> None:
    """Serve the API from an invented catalogue, until Ctrl-C.

    Prints what to type into another shell to use it.

    \b
    Example:
      marketplace-async sandbox --port 9000
    """
    from marketplace_async.cli import actions, running

    running.run(actions.serve_sandbox(port))
