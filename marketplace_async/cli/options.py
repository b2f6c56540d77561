"""The options that several commands share."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from marketplace_async.errors import InvalidSidError

__all__ = [
    "ConnectionOptions",
    "connection_options",
    "listing_options",
    "output_option",
    "sid_argument",
]

F = TypeVar("F", bound=Callable[..., Any] | click.Command)

FORMATS: Final = ("table", "json", "jsonl", "csv")


def sid_argument(name: str, check: Callable[[object], str]) -> Callable[[F], F]:
    """Add an argument that is a SID, as a function of `marketplace_async.sids` takes it."""

    def checked(_: click.Context, __: click.Parameter, value: str) -> str:
        try:
            return check(value)
        except InvalidSidError as error:
            raise click.BadParameter(str(error)) from None

    return click.argument(name, metavar=f"{name.upper()}_SID", callback=checked)


class ConnectionOptions(dict[str, Any]):
    """The options about whom to ask, as far as they are given, by name."""


def _remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    # In front of the command or behind it: both write into the same object.
    if value not in (None, False) and parameter.name:
        ctx.ensure_object(ConnectionOptions)[parameter.name] = value


def _connection_option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def connection_options(command: F) -> F:
    """Add the options about whom to ask; they gather in a `ConnectionOptions` in the context."""
    for option in reversed(
        (
            _connection_option(
                "--sandbox",
                is_flag=True,
                help="Ask a sandbox with an invented catalogue, started for this command. "
                "No account is needed.",
            ),
            _connection_option("--region", metavar="NAME", help="Twilio region, such as ie1."),
            _connection_option("--edge", metavar="NAME", help="Twilio edge, such as dublin."),
            _connection_option(
                "--base-url",
                metavar="URL",
                help="Another server, such as http://127.0.0.1:8080.",
            ),
            _connection_option(
                "-v", "--verbose", is_flag=True, help="Log requests and retries on stderr."
            ),
        )
    ):
        command = option(command)
    return command


def listing_options(command: F) -> F:
    """Add how much is listed."""
    page_size = click.option(
        "--page-size",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="Items to request at once, 1 to 1000.  [default: the limit, or the API's 50]",
    )
    limit = click.option(
        "--limit", type=click.IntRange(min=0), metavar="N", help="Stop after N items."
    )
    return limit(page_size(command))


def output_option(command: F) -> F:
    """Add in which format results are written."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(FORMATS),
        help="Format of the results.  [default: table on a terminal, else jsonl]",
    )(command)
