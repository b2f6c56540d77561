"""A pytest plugin, active when the library is installed, and helpers for other tests.

=======================  =============================================================
``marketplace_sandbox``  a running `Sandbox`: script faults, inspect its requests
``marketplace_session``  a session on this sandbox that retries without waiting
``marketplace_catalog``  the catalogue of the sandbox; override it to serve your own
=======================  =============================================================

The sandbox runs in its own thread, and the fixtures are plain functions. So they work in tests
without an event loop, with ``pytest-asyncio`` in both modes, and with ``anyio``.

`marketplace_async.sandbox` has the functions that build a catalogue.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import attrs
import pytest

from marketplace_async.errors import MarketplaceError
from marketplace_async.retry import RetryPolicy

# pytest imports this module at every start: the server is imported when a fixture needs it.
if TYPE_CHECKING:
    from marketplace_async.sandbox import Catalog, Sandbox
    from marketplace_async.session import MarketplaceSession

__all__ = [
    "marketplace_catalog",
    "marketplace_sandbox",
    "marketplace_session",
    "sandbox_beside",
    "without_waits",
]


@attrs.frozen(kw_only=True)
class _WithoutWaits(RetryPolicy):
    def wait(
        self, error: MarketplaceError, attempt: int, random: Callable[[], float]
    ) -> float | None:
        return None if super().wait(error, attempt, random) is None else 0.0


def without_waits(attempts: int = 6) -> RetryPolicy:
    """Return a policy that retries the same errors as the default one, without waiting."""
    return _WithoutWaits(attempts=attempts, wait_initial=1e-9)


@contextmanager
def sandbox_beside(catalog: "Catalog | None" = None) -> "Generator[Sandbox]":
    """Run a sandbox in its own thread during the ``with`` block.

    :raises OSError: no socket can be opened.
    """
    from marketplace_async.sandbox import Sandbox  # noqa: PLC0415

    sandbox = Sandbox(catalog)
    # An event loop that gets no sockets is left half-built, and its finalizer fails. So the
    # error of disabled sockets, or of too many open files, is raised before there is a loop.
    socket.socket().close()
    with closing(asyncio.new_event_loop()) as loop:
        thread = threading.Thread(target=loop.run_forever, name="marketplace sandbox")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result()
            yield sandbox
        finally:
            asyncio.run_coroutine_threadsafe(sandbox.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


@pytest.fixture
def marketplace_catalog() -> "Catalog":
    """Return the catalogue that `marketplace_sandbox` serves: the built-in one."""
    from marketplace_async.sandbox import builtin_catalog  # noqa: PLC0415

    return builtin_catalog()


@pytest.fixture
def marketplace_sandbox(marketplace_catalog: "Catalog") -> "Iterator[Sandbox]":
    """Yield a running sandbox, a new one for each test."""
    with sandbox_beside(marketplace_catalog) as sandbox:
        yield sandbox


@pytest.fixture
def marketplace_session(marketplace_sandbox: "Sandbox") -> "MarketplaceSession":
    """Return a session on the sandbox, to be entered with ``async with``.

    It retries without waiting.
    """
    from marketplace_async.session import open_session  # noqa: PLC0415

    return open_session(
        marketplace_sandbox.credentials, base_url=marketplace_sandbox.url, retry=without_waits()
    )
