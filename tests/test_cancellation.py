"""Calls, listings and fan-outs that are ended at any point leave no connection and no slot."""

import asyncio
import contextlib
import functools
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from wire import (
    ADD_ON,
    CANONICAL,
    EXTENSION,
    RESET,
    Answer,
    Request,
    Wire,
    add_on,
    answer,
    error,
    extension,
    fetch,
    page,
)

from marketplace_async import MarketplaceSession, SessionClosedError
from marketplace_async.testing import without_waits

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())


def healthy(request: Request) -> Answer:
    if "/Extensions/" in request.target:
        return HEALTHY
    if "/Extensions" not in request.target:
        return answer(add_on())
    number = int(request.query.get("Page", 0))
    following = f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}/Extensions?Page={number + 1}"
    return answer(page(range(3 * number + 1, 3 * number + 4), following if number < 2 else None))


def after(*faults: Answer) -> Callable[[Request], Answer]:
    """Respond to each call for the Extension with the faults in turn, then well, and so on."""
    turns = itertools.cycle([*faults, HEALTHY])
    return lambda request: next(turns) if "/Extensions/" in request.target else healthy(request)


async def list_(session: MarketplaceSession, *, prefetch: bool = False) -> int:
    pager = session.available_add_ons(ADD_ON).extensions.list(prefetch=prefetch)
    return len([await asyncio.sleep(0, item) async for item in pager])


async def fan_out(session: MarketplaceSession) -> int:
    async with session.extensions_across([ADD_ON] * 3) as outcomes:
        return sum([len(outcome.unwrap()) async for outcome in outcomes])


CALLS: dict[str, tuple[Callable[[Request], Answer], Any, object]] = {
    "call": (healthy, fetch, EXTENSION),
    "pieces": (after((HEALTHY[:9], [b""], HEALTHY[9:-9], [b""], HEALTHY[-9:])), fetch, EXTENSION),
    "rejected": (after(error(503), error(429)), fetch, EXTENSION),
    "reset": (after((RESET,), (RESET,)), fetch, EXTENSION),
    "truncated": (after((HEALTHY[:-9], RESET)), fetch, EXTENSION),
    "listing": (healthy, list_, 9),
    "prefetch": (healthy, functools.partial(list_, prefetch=True), 9),
    "fan-out": (healthy, fan_out, 27),
}


@contextlib.asynccontextmanager
async def narrow(
    respond: Callable[[Request], Answer],
) -> AsyncGenerator[tuple[Wire, MarketplaceSession]]:
    """Yield a session with one connection and one slot, so that a lost one blocks the next call."""
    async with (
        Wire(respond) as wire,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http,
        wire.session(http=http, limiter=asyncio.Semaphore(1), retry=without_waits()) as session,
    ):
        yield wire, session


async def is_usable(session: MarketplaceSession) -> bool:
    async with asyncio.timeout(10):
        return (await session.available_add_ons(ADD_ON).fetch()).sid == ADD_ON


async def is_cancelled_after(rounds: int, work: Coroutine[Any, Any, object]) -> bool:
    """Cancel after so many rounds of the event loop; return False if the work ended before."""
    task = asyncio.create_task(work)
    for _ in range(rounds):
        await asyncio.sleep(0)
    if task.done():
        await task
        return False
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return True


@pytest.mark.parametrize("name", CALLS)
async def test_cancel_anywhere(name: str) -> None:
    """If a call is cancelled at any point, the session stays usable."""
    respond, work, result = CALLS[name]
    async with narrow(respond) as (_, session):
        rounds = 0
        while await is_cancelled_after(rounds, work(session)):
            assert await is_usable(session)
            rounds += 1
        assert await work(session) == result
        statistics = session.statistics()
    assert (statistics.in_flight, statistics.waiting) == (0, 0)
    assert rounds > 5


@pytest.mark.parametrize("name", CALLS)
async def test_close_anywhere(name: str) -> None:
    """If the session is closed at any point of a call, the call ends with its result or so."""
    respond, work, result = CALLS[name]
    async with Wire(respond) as wire:
        rounds, finished = 0, False
        while not finished:
            async with wire.session(retry=without_waits()) as session:
                task = asyncio.create_task(work(session))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                finished = task.done()
            try:
                assert await task == result
            except SessionClosedError:
                assert not finished
            rounds += 1
    assert rounds > 5


FORK = """
import asyncio, os
from wire import Wire, answer, extension, fetch
from marketplace_async import SessionClosedError

async def rejected(session):
    try:
        await fetch(session)
    except SessionClosedError as error:
        return "another event loop" in str(error)

async def main():
    async with Wire(lambda _: answer(extension())) as wire, wire.session() as session:
        await fetch(session)
        if not (child := os.fork()):
            os._exit(0 if asyncio.run(rejected(session)) else 1)
        assert os.waitpid(child, 0)[1] == 0
        await fetch(session)
        assert wire.connections == 1

asyncio.run(main())
"""


def test_fork() -> None:
    """After a fork the session raises an error in the child, and works in the parent."""
    support = str(Path(__file__).parent / "support")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([support, *sys.path])}
    subprocess.run([sys.executable, "-c", FORK], env=environment, timeout=60, check=True)
