"""From a command to the end of the process: event loop, session, signals."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, Concatenate, NoReturn, ParamSpec

import attrs
import click

from marketplace_async import Credentials, MarketplaceSession, open_session
from marketplace_async.cli.exits import CommandError, Exit
from marketplace_async.cli.options import ConnectionOptions

__all__ = ["Connection", "run", "run_on_session"]

P = ParamSpec("P")


@attrs.frozen
class Connection:
    """Whom to ask: what `options.connection_options` let a user say."""

    sandbox: bool = False
    region: str | None = None
    edge: str | None = None
    base_url: str | None = None
    verbose: bool = False


class _ToStandardError(logging.Handler):
    """Writes to what standard error is at the time, so that lines go above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def run_on_session(
    action: Callable[Concatenate[MarketplaceSession, P], Awaitable[None]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Run the action on the session that the options of the current command describe.

    :raises MarketplaceError: it failed.
    :raises click.ClickException: options or environment make no session.
    """
    connection = Connection(**click.get_current_context().ensure_object(ConnectionOptions))
    if connection.verbose:
        log = logging.getLogger("marketplace_async")
        log.setLevel(logging.DEBUG)
        log.addHandler(_ToStandardError())

    async def with_session() -> None:
        async with AsyncExitStack() as stack:
            session = await _session(connection, stack)
            await action(await stack.enter_async_context(session), *args, **kwargs)

    run(with_session())


async def _session(connection: Connection, stack: AsyncExitStack) -> MarketplaceSession:
    elsewhere = connection.base_url, connection.region, connection.edge
    if connection.sandbox:
        if elsewhere != (None, None, None):
            raise click.UsageError(
                "--sandbox is a server of its own; leave out --base-url, --region and --edge."
            )
        # Here, because most commands need no server.
        from marketplace_async.sandbox import Sandbox

        sandbox = await stack.enter_async_context(Sandbox())
        return open_session(sandbox.credentials, base_url=sandbox.url)
    try:
        credentials = Credentials.from_env()
    except ValueError as error:
        raise CommandError(f"credentials in the environment: {error}", Exit.CREDENTIALS) from None
    base_url, region, edge = elsewhere
    try:
        return open_session(credentials, base_url=base_url, region=region, edge=edge)
    except ValueError as error:
        raise click.UsageError(str(error).replace("base_url", "--base-url")) from None


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or to Ctrl-C or `kill`, which both end it with everything closed."""
    try:
        asyncio.run(_until_terminated(coroutine))
    except KeyboardInterrupt:
        _die_of(signal.SIGINT)
    except asyncio.CancelledError:
        _die_of(signal.SIGTERM)
    except BrokenPipeError:
        # Here, because click has an exit code of its own for it.
        sys.exit(Exit.CLOSED_PIPE)


async def _until_terminated(coroutine: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(coroutine)
    with suppress(NotImplementedError):  # on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


def _die_of(number: signal.Signals) -> NoReturn:
    """End as the signal would have ended the process, so that a shell's loop ends too."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    sys.exit(128 + number)  # on Windows
