"""The fixtures of the pytest plugin, used as in users' tests."""

import asyncio
import errno
import socket
import subprocess
import sys
import threading

import pytest

from marketplace_async import MarketplaceSession, NotFoundError, RateLimitError
from marketplace_async.sandbox import Catalog, Sandbox
from marketplace_async.testing import sandbox_beside


async def test_session(
    marketplace_session: MarketplaceSession, marketplace_catalog: Catalog
) -> None:
    """The session lists the catalogue."""
    async with marketplace_session as marketplace:
        sids = [item.sid async for item in marketplace.available_add_ons.list()]
    assert sids == [*marketplace_catalog]


async def test_no_waits(
    marketplace_session: MarketplaceSession, marketplace_sandbox: Sandbox
) -> None:
    """If responses have Retry-After, the session retries without waiting."""
    marketplace_sandbox.fail_next(status=429, times=6, retry_after=29)
    async with asyncio.timeout(20), marketplace_session as marketplace:
        with pytest.raises(RateLimitError) as caught:
            await marketplace.available_add_ons.list().first()
    assert caught.value.attempts == len(marketplace_sandbox.requests) == 6


def test_without_event_loop(
    marketplace_session: MarketplaceSession, marketplace_sandbox: Sandbox
) -> None:
    """The fixtures work in a test without an event loop."""

    async def fetch() -> None:
        async with marketplace_session as marketplace:
            with pytest.raises(NotFoundError):
                await marketplace.available_add_ons("XB" + "0" * 32).fetch()

    asyncio.run(fetch())
    assert [request.status for request in marketplace_sandbox.requests] == [404]


def test_thread_ends() -> None:
    """The sandbox's thread ends with the block."""
    before = threading.active_count()
    with sandbox_beside() as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the sandbox cannot start, its error is raised."""

    async def start(_: Sandbox) -> Sandbox:
        raise OSError("in use")

    before = threading.active_count()
    monkeypatch.setattr(Sandbox, "start", start)
    with pytest.raises(OSError, match="in use"), sandbox_beside():
        pass
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [RuntimeError("disabled"), OSError(errno.EMFILE, "too many")])
def test_no_sockets(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """If sockets are disabled, or too many files are open, the error is raised at once."""

    def no_socket(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(type(error), match=str(error.args[-1])), sandbox_beside():
        pass


def test_import_is_light() -> None:
    """If no fixture is used, the server is not imported."""
    code = (
        "import sys, marketplace_async.testing;"
        "sys.exit(' '.join({'aiohttp.web', 'marketplace_async.sandbox'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert ended.stderr.strip() == b""
