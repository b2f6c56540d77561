"""Run ``marketplace-async`` in this process, or as a process in a shell or a terminal."""

import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import MappingProxyType
from unittest import mock

import attrs
import pytest
from anyio.from_thread import start_blocking_portal

import marketplace_async
from marketplace_async.cli import main
from marketplace_async.sandbox import Catalog, Sandbox

__all__ = ["CommandLine", "Result", "Terminal", "command_line", "run_here", "shell", "until"]

PACKAGE = str(Path(marketplace_async.__file__).parents[1])
FOREIGN = ("TWILIO_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "TTY_")
SECONDS = 60


@attrs.frozen
class Result:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def is_one_line(self) -> bool:
        """The messages are one line without a traceback."""
        return self.err.startswith("marketplace-async: ") and self.err.count("\n") == 1


def _environment(**changes: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **bare,
        # The package under test: the source or an installed wheel.
        "PYTHONPATH": os.pathsep.join((PACKAGE, os.environ.get("PYTHONPATH", ""))),
        # A resource that is not closed is reported on standard error.
        "PYTHONWARNINGS": "error",
        "TERM": "xterm-256color",
        "CLI": f"{sys.executable} -m marketplace_async",
        **changes,
    }


def run_here(*args: str, **environment: str) -> Result:
    """Run a command in this process, without credentials and without a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, _environment(**environment), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as exit_,
    ):
        main(args)
    assert isinstance(exit_.value.code, int)
    return Result(exit_.value.code, out.getvalue(), err.getvalue())


def shell(command: str, **environment: str) -> Result:
    """Run a line of bash, in which ``$CLI`` is the command line, without credentials."""
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=_environment(**environment),
        stdin=DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@attrs.frozen
class CommandLine:
    """Runs commands on a sandbox in another thread."""

    sandbox: Sandbox

    @property
    def credentials(self) -> dict[str, str]:
        """The environment variables with the credentials of the sandbox."""
        username, password = self.sandbox.credentials.username, self.sandbox.credentials.password
        return {"TWILIO_API_KEY": username, "TWILIO_API_SECRET": password}

    def __call__(self, *args: str, **environment: str) -> Result:
        """Run a command in this process."""
        environment = {**self.credentials, **environment}
        return run_here("--base-url", self.sandbox.url, *args, **environment)

    @contextmanager
    def started(
        self,
        *args: str,
        stdout: int = PIPE,
        stderr: int = PIPE,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Generator[Popen[str]]:
        """Start a process, and kill it after the block."""
        command = (sys.executable, "-m", "marketplace_async", "--base-url", self.sandbox.url)
        env = _environment(**{**self.credentials, **environment})
        with Popen(
            [*command, *args], stdin=DEVNULL, stdout=stdout, stderr=stderr, env=env, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@contextmanager
def command_line(catalog: Catalog | None = None) -> Generator[CommandLine]:
    """Run a sandbox in a thread, because a command in this process has its own event loop."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(catalog)) as sandbox,
    ):
        yield CommandLine(sandbox)


class Terminal(AbstractContextManager["Terminal"]):
    """A pseudo-terminal; ``fd`` is the end for a process."""

    def __init__(self, columns: int = 100) -> None:
        self._other, self.fd = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._shown = bytearray()

    @property
    def shown(self) -> str:
        """Everything that was written until now, with the escape sequences."""
        while select.select((self._other,), (), (), 0)[0]:
            self._shown += os.read(self._other, 65536)
        return self._shown.decode(errors="replace")

    @property
    def has_cursor(self) -> bool:
        """The cursor is visible."""
        return self.shown.rfind("\x1b[?25h") >= self.shown.rfind("\x1b[?25l")

    def exit_code(self, process: Popen[str]) -> int:
        """Read until the end of the process, which a full terminal would block."""
        until(lambda: (self.shown, process.poll())[1] is not None)
        return process.wait()

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        os.close(self._other)
