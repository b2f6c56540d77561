"""Exit codes, and the one line on standard error that goes with them."""

import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import click

from marketplace_async.cli.terminal import complain
from marketplace_async.errors import (
    AuthenticationError,
    ConnectionFailedError,
    MarketplaceError,
    MissingCredentialsError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
)

__all__ = ["CommandError", "Exit", "exit_code"]


class Exit(IntEnum):
    """How a command ended; the numbers are documented and do not change."""

    OK = 0

    ERROR = 1
    """Any error that is not one of the others."""

    USAGE = 2
    """The command, an option, a SID or a setting is wrong; nothing was requested."""

    CREDENTIALS = 3
    """They are missing, not accepted, or not allowed to do this."""

    NOT_FOUND = 4
    """There is no such add-on or extension."""

    NETWORK = 5
    """There was no connection, or no complete answer in time."""

    RATE_LIMITED = 6
    """There were too many requests, even after retries."""

    INCOMPLETE = 7
    """Some add-ons of the catalogue could not be listed; the others were printed."""

    INTERRUPTED = 130
    """Ctrl-C: what a shell says of a process that SIGINT ended."""

    CLOSED_PIPE = 141
    """Nobody reads the output any more: what a shell says where SIGPIPE ended a process."""


class CommandError(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


_MEANINGS: Final[dict[type[MarketplaceError], Exit]] = {
    MissingCredentialsError: Exit.CREDENTIALS,
    AuthenticationError: Exit.CREDENTIALS,
    PermissionDeniedError: Exit.CREDENTIALS,
    NotFoundError: Exit.NOT_FOUND,
    RateLimitError: Exit.RATE_LIMITED,
    ConnectionFailedError: Exit.NETWORK,
    RequestTimeoutError: Exit.NETWORK,
}


def exit_code(program: click.Command, args: Sequence[str] | None, name: str) -> int:
    """Run the program and give its exit code; an error is said in one line."""
    if sys.stdout is None:  # closed by the shell: >&-
        complain("standard output is closed")
        return Exit.ERROR
    try:
        # Left to itself, click takes several lines for an error and has exit codes of its own.
        return program.main(args, name, standalone_mode=False) or Exit.OK
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else name
        message = error.format_message().rstrip(".")
        end = "" if message.endswith("?") else "."
        complain(f"{message}{end} See '{command} --help'.")
        return Exit.USAGE
    except CommandError as error:
        complain(str(error))
        return error.code
    except click.Abort:
        return Exit.INTERRUPTED
    except MissingCredentialsError:
        complain(
            "no credentials: set TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID "
            "and TWILIO_AUTH_TOKEN; or try --sandbox, which needs none."
        )
        return Exit.CREDENTIALS
    except MarketplaceError as error:
        complain(str(error))
        codes = (code for kind, code in _MEANINGS.items() if isinstance(error, kind))
        return next(codes, Exit.ERROR)
    except OSError as error:
        complain(str(error))
        return Exit.ERROR
