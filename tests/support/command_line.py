"""Runs ``marketplace-async`` in this process, or as one of its own in a pipe or a terminal."""

import asyncio
import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from unittest import mock

import attrs
import pytest
from anyio.from_thread import start_blocking_portal

import marketplace_async
from marketplace_async.cli import main
from marketplace_async.sandbox import Catalog, Sandbox

__all__ = [
    "COMMAND",
    "CommandLine",
    "Ended",
    "Terminal",
    "ended",
    "process_environment",
    "run_here",
    "sandbox_beside",
    "until",
]

COMMAND = (sys.executable, "-m", "marketplace_async.cli")
PACKAGE = str(Path(marketplace_async.__file__).parents[1])
FOREIGN = ("TWILIO_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "TTY_")


@attrs.frozen
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@contextmanager
def sandbox_beside(catalog: Catalog | None = None) -> Generator[Sandbox]:
    """A sandbox in a thread of its own: a command in this process has its own event loop."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(catalog)) as sandbox,
    ):
        yield sandbox


def run_here(*args: str, **environment: str) -> Ended:
    """Run a command in this process, without credentials and in nothing like a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, bare_environment() | environment, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as exit_,
    ):
        main(args)
    assert isinstance(exit_.value.code, int)
    return Ended(exit_.value.code, out.getvalue(), err.getvalue())


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def credentials_of(sandbox: Sandbox) -> dict[str, str]:
    return {
        "TWILIO_API_KEY": sandbox.credentials.username,
        "TWILIO_API_SECRET": sandbox.credentials.password,
    }


@attrs.frozen
class CommandLine:
    """Runs commands that talk to a sandbox, and starts them as processes in a directory."""

    sandbox: Sandbox
    directory: Path

    def __call__(self, *args: str, **environment: str) -> Ended:
        """Run a command in this process, beside which the sandbox must run."""
        return run_here(
            "--base-url", self.sandbox.url, *args, **credentials_of(self.sandbox), **environment
        )

    @asynccontextmanager
    async def started(
        self,
        *args: str,
        stdout: int = PIPE,
        stderr: int = PIPE,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncGenerator[Process]:
        """A process; one that has not ended by the end of the block is killed."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "--base-url",
            self.sandbox.url,
            *args,
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=self.directory,
            env=process_environment(**{**credentials_of(self.sandbox), **environment}),
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def run(self, *args: str, environment: Mapping[str, str] = MappingProxyType({})) -> Ended:
        """Run a process to its end."""
        async with self.started(*args, environment=environment) as process:
            return await ended(process)


def process_environment(**more: str) -> dict[str, str]:
    return {
        **bare_environment(),
        # The package under test, wherever it is: the source or an installed wheel.
        "PYTHONPATH": os.pathsep.join((PACKAGE, os.environ.get("PYTHONPATH", ""))),
        # What is left open is said on standard error.
        "PYTHONWARNINGS": "error",
        "TERM": "xterm-256color",
        **more,
    }


async def ended(process: Process) -> Ended:
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())


class Terminal:
    """A pseudo-terminal; ``fd`` is the end that a process is given."""

    def __init__(self, fd: int, other: int) -> None:
        self.fd = fd
        self._other = other
        self._shown = bytearray()

    @property
    def shown(self) -> str:
        """What has been written to it, with the escape sequences."""
        while select.select((self._other,), (), (), 0)[0]:
            self._read()
        return self._shown.decode()

    def _read(self) -> None:
        self._shown += os.read(self._other, 65536)

    @classmethod
    @asynccontextmanager
    async def open(cls, columns: int = 100) -> AsyncGenerator["Terminal"]:
        other, fd = pty.openpty()
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        terminal = cls(fd, other)
        # A terminal that nobody empties would hold up the process.
        asyncio.get_running_loop().add_reader(other, terminal._read)
        try:
            yield terminal
        finally:
            asyncio.get_running_loop().remove_reader(other)
            os.close(fd)
            os.close(other)
