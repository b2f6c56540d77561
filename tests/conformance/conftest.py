"""Fixtures of the checks with other tools: Prism (needs Node), schemathesis and twilio.

``MARKETPLACE_API_DESCRIPTION`` names the file of Twilio's OpenAPI description.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PRISM = "@stoplight/prism-cli@5.14.2"  # the last that Node 18 to 22 can run


@pytest.fixture(scope="session")
def description() -> Path:
    """Return the file of the API description."""
    name = os.environ.get("MARKETPLACE_API_DESCRIPTION")
    if not name:
        pytest.skip("MARKETPLACE_API_DESCRIPTION does not name Twilio's OpenAPI description")
    return Path(name).resolve(strict=True)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a function that finds a free port."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Yield a function that starts Prism at a port and returns its URL."""
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("npx is not installed: Prism, which runs on Node 18 to 22, is needed here")
    running: list[subprocess.Popen[str]] = []

    def start(port: int, command: str, *arguments: str) -> str:
        # In a process group of its own: npx runs a shell that runs Node.
        process = subprocess.Popen(
            [npx, "--yes", PRISM, command, "-h", "127.0.0.1", "-p", str(port), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if "Prism is listening" in line:
                return f"http://127.0.0.1:{port}"
        pytest.fail(f"Prism did not start:\n{output}")

    yield start
    for process in running:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
