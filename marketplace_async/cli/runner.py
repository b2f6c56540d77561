"""The run of a command: session, event loop, signals and exit codes."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from enum import IntEnum
from typing import Any, Final, NoReturn

import click

from marketplace_async import (
    AuthenticationError,
    ConnectionFailedError,
    Credentials,
    MarketplaceError,
    MarketplaceSession,
    MissingCredentialsError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    open_session,
)
from marketplace_async.cli.output import StderrHandler, log_to, print_error

__all__ = ["Exit", "fail", "run", "run_on_session", "run_program"]


class Exit(IntEnum):
    """The exit codes; they are documented and do not change."""

    OK = 0
    ERROR = 1  # any other error
    USAGE = 2  # wrong command, option, SID or setting; nothing was requested
    CREDENTIALS = 3  # missing, rejected, or not permitted to do this
    NOT_FOUND = 4  # no such add-on or extension
    NETWORK = 5  # no connection, or no complete response in time
    RATE_LIMITED = 6  # too many requests, even after retries
    INCOMPLETE = 7  # some add-ons of the catalogue could not be listed
    INTERRUPTED = 130  # Ctrl-C; what a shell reports for SIGINT
    CLOSED_PIPE = 141  # the reader closed the pipe; what a shell reports for SIGPIPE


_EXIT_CODES: Final[dict[type[MarketplaceError], Exit]] = {
    AuthenticationError: Exit.CREDENTIALS,
    PermissionDeniedError: Exit.CREDENTIALS,
    NotFoundError: Exit.NOT_FOUND,
    RateLimitError: Exit.RATE_LIMITED,
    ConnectionFailedError: Exit.NETWORK,
    RequestTimeoutError: Exit.NETWORK,
}


def run_program(program: click.Command, args: Sequence[str] | None, name: str) -> int:
    """Run the program, print an error in one line, and return the exit code."""
    if sys.stdout is None:  # closed by the shell: >&-
        print_error("standard output is closed")
        return Exit.ERROR
    try:
        # In standalone mode, click prints several lines and has other exit codes.
        return program.main(args, name, standalone_mode=False) or Exit.OK
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else name
        message = error.format_message().rstrip(".")
        end = "" if message.endswith("?") else "."
        print_error(f"{message}{end} See '{command} --help'.")
        return Exit.USAGE
    except click.Abort:
        return Exit.INTERRUPTED
    except (MarketplaceError, OSError) as error:
        print_error(str(error))
        codes = (code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
        return next(codes, Exit.ERROR)


def fail(message: str, code: Exit) -> NoReturn:
    """Print an error and end the command with the exit code."""
    print_error(message)
    raise click.exceptions.Exit(code)


def run_on_session(
    action: Callable[[MarketplaceSession], Awaitable[None]], *, verbose: bool = False, **server: Any
) -> None:
    """Run the action on a session; ``server`` are the options that select the server."""

    async def run_action() -> None:
        async with _session(**server) as session:
            await action(session)

    with log_to(StderrHandler(), logging.DEBUG if verbose else logging.WARNING):
        run(run_action())


@asynccontextmanager
async def _session(
    *,
    sandbox: bool = False,
    base_url: str | None = None,
    region: str | None = None,
    edge: str | None = None,
) -> AsyncGenerator[MarketplaceSession]:
    async with AsyncExitStack() as stack:
        if sandbox:
            if (base_url, region, edge) != (None, None, None):
                raise click.UsageError(
                    "--sandbox is a server of its own; leave out --base-url, --region and --edge."
                )
            # Imported here, because only the sandbox needs an HTTP server.
            from marketplace_async.sandbox import Sandbox

            server = await stack.enter_async_context(Sandbox())
            credentials, base_url = server.credentials, server.url
        else:
            credentials = _credentials()
        try:
            session = open_session(credentials, base_url=base_url, region=region, edge=edge)
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error).replace("base_url", "--base-url")) from None
        yield await stack.enter_async_context(session)


def _credentials() -> Credentials:
    try:
        return Credentials.from_env()
    except MissingCredentialsError as error:
        fail(
            f"{error.reason()}; set TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID "
            "and TWILIO_AUTH_TOKEN; or try --sandbox, which needs none.",
            Exit.CREDENTIALS,
        )
    except ValueError as error:
        fail(f"credentials in the environment: {error}", Exit.CREDENTIALS)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine until it ends; Ctrl-C and SIGTERM cancel it, then end the process."""
    try:
        asyncio.run(_cancel_on_sigterm(coroutine))
    except KeyboardInterrupt:
        _end_by(signal.SIGINT)
    except asyncio.CancelledError:
        _end_by(signal.SIGTERM)
    except BrokenPipeError:
        # Handled here, because click would exit with 1.
        sys.exit(Exit.CLOSED_PIPE)


async def _cancel_on_sigterm(coroutine: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(coroutine)
    with suppress(NotImplementedError):  # on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


def _end_by(number: signal.Signals) -> NoReturn:
    """End the process by the signal, so that a loop of the shell ends too."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    sys.exit(128 + number)  # on Windows
