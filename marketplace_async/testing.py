"""A pytest plugin for the tests of code that uses this library; installed, it is there.

=======================  ==============================================================
``marketplace_sandbox``  a running `Sandbox`: script its faults, look at its requests
``marketplace_session``  a session on it that retries without waiting
``marketplace_catalog``  what it serves; override it to serve a catalogue of your own
=======================  ==============================================================

The sandbox runs in a thread of its own and the fixtures are plain functions. So they serve tests
without an event loop, and those of ``pytest-asyncio`` in both its modes and of ``anyio``.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import attrs
import pytest

from marketplace_async.errors import MarketplaceError
from marketplace_async.retry import RetryPolicy
from marketplace_async.sandbox import Catalog, Sandbox, add_on, builtin_catalog, extension
from marketplace_async.session import MarketplaceSession, open_session

__all__ = [
    "add_on",
    "extension",
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
    """Give a policy that retries what the usual one retries, and waits for nothing."""
    return _WithoutWaits(attempts=attempts)


@contextmanager
def sandbox_beside(catalog: Catalog | None = None) -> Generator[Sandbox]:
    """Run a sandbox in a thread of its own while the block runs."""
    started: Future[tuple[Sandbox, Callable[[], object]]] = Future()

    async def run() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with Sandbox(catalog) as sandbox:
                started.set_result((sandbox, lambda: loop.call_soon_threadsafe(end.set)))
                await end.wait()
        except BaseException as error:  # whatever it is, it is for who waits
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="marketplace sandbox")
    thread.start()
    sandbox, stop = started.result()
    try:
        yield sandbox
    finally:
        stop()
        thread.join()


@pytest.fixture
def marketplace_catalog() -> Catalog:
    """Give the catalogue that `marketplace_sandbox` serves: the built-in one."""
    return builtin_catalog()


@pytest.fixture
def marketplace_sandbox(marketplace_catalog: Catalog) -> Iterator[Sandbox]:
    """Give a running sandbox, a new one for each test."""
    with sandbox_beside(marketplace_catalog) as sandbox:
        yield sandbox


@pytest.fixture
def marketplace_session(marketplace_sandbox: Sandbox) -> MarketplaceSession:
    """Give a session on the sandbox, to be entered with ``async with``.

    It retries what any session retries, without waiting.
    """
    return open_session(
        marketplace_sandbox.credentials, base_url=marketplace_sandbox.url, retry=without_waits()
    )
