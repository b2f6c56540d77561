"""What is left of a call or a listing that ends early, and of a session that is used wrongly."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from wire import (
    ADD_ON,
    CANONICAL,
    EXTENSION,
    RESET,
    STALL,
    Answer,
    Request,
    Wire,
    add_on,
    answer,
    answers_in_turn,
    error,
    extension,
    fetch,
    page,
)

import marketplace_async
from marketplace_async import (
    AdaptiveLimiter,
    Extension,
    MarketplaceSession,
    Pager,
    RequestTimeoutError,
    SessionClosedError,
)
from marketplace_async.testing import without_waits

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())


def listing(session: MarketplaceSession, **settings: Any) -> Pager[Extension]:
    return session.available_add_ons(ADD_ON).extensions.list(**settings)


def three_pages(request: Request) -> Answer:
    number = int(request.query.get("Page", 0))
    following = f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}/Extensions?Page={number + 1}"
    items = [3 * number + 1, 3 * number + 2, 3 * number + 3]
    return answer(page(items, following if number < 2 else None))


def everything(request: Request) -> Answer:
    """Answer whatever is asked for, in good health."""
    if "/Extensions/" in request.target:
        return HEALTHY
    return three_pages(request) if "/Extensions" in request.target else answer(add_on())


@asynccontextmanager
async def narrow(
    respond: Callable[[Request], Answer],
) -> AsyncGenerator[tuple[Wire, MarketplaceSession]]:
    """A session with room for one connection and one request, so that nothing lost is unnoticed."""
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
    """Cancel after so many rounds of the event loop; say whether that was before the end."""
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


def faults_once(*faults: Answer) -> Callable[[Request], Answer]:
    """Answer each request for the Extension with the faults in turn, then well, and so on."""
    turns = itertools.cycle([*faults, HEALTHY])
    return lambda request: next(turns) if "/Extensions/" in request.target else everything(request)


# Cancelled anywhere


async def take_all(session: MarketplaceSession, prefetch: int = 0) -> int:
    count = 0
    async for _ in listing(session, prefetch=prefetch):
        await asyncio.sleep(0)
        count += 1
    return count


async def take_across(session: MarketplaceSession) -> int:
    count = 0
    async with session.extensions_across([ADD_ON] * 3) as outcomes:
        async for outcome in outcomes:
            count += len(outcome.unwrap())
    return count


CALLS = [
    pytest.param(everything, fetch, EXTENSION, id="a call"),
    pytest.param(
        faults_once((HEALTHY[:9], [b""], HEALTHY[9:-9], [b""], HEALTHY[-9:])),
        fetch,
        EXTENSION,
        id="in pieces",
    ),
    pytest.param(faults_once(error(503), error(429)), fetch, EXTENSION, id="refused"),
    pytest.param(faults_once((RESET,), (RESET,)), fetch, EXTENSION, id="reset"),
    pytest.param(faults_once((HEALTHY[:-9], RESET)), fetch, EXTENSION, id="cut"),
    pytest.param(everything, take_all, 9, id="a listing"),
    pytest.param(everything, partial(take_all, prefetch=1), 9, id="a listing read ahead"),
    pytest.param(everything, take_across, 27, id="a fan-out"),
]


@pytest.mark.parametrize(("respond", "work", "result"), CALLS)
async def test_what_is_cancelled_at_any_point_leaves_the_session_whole(
    respond: Callable[[Request], Answer],
    work: Callable[[MarketplaceSession], Coroutine[Any, Any, object]],
    result: object,
) -> None:
    async with narrow(respond) as (_, session):
        rounds = 0
        while await is_cancelled_after(rounds, work(session)):
            assert await is_usable(session)
            rounds += 1
        assert await work(session) == result
    assert rounds > 5


@pytest.mark.parametrize(("respond", "work", "result"), CALLS)
async def test_a_session_may_be_closed_at_any_point_of_a_call(
    respond: Callable[[Request], Answer],
    work: Callable[[MarketplaceSession], Coroutine[Any, Any, object]],
    result: object,
) -> None:
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


async def test_a_time_out_around_a_call_leaves_the_session_whole() -> None:
    answers: list[Answer] = [(STALL,)]

    def respond(request: Request) -> Answer:
        return answers[-1] if "/Extensions/" in request.target else everything(request)

    async def expire(scope: asyncio.Timeout) -> None:
        await wire.until(lambda: wire.requests)
        scope.reschedule(asyncio.get_running_loop().time())

    async def fetch_in_time() -> None:
        async with asyncio.timeout(None) as scope, asyncio.TaskGroup() as group:
            group.create_task(expire(scope))
            await fetch(session)

    async with narrow(respond) as (wire, session):
        with pytest.raises(TimeoutError) as caught:
            await fetch_in_time()
        assert not isinstance(caught.value, RequestTimeoutError)
        assert await is_usable(session)
        answers.append(HEALTHY)
        assert await fetch(session) == EXTENSION


async def test_of_calls_in_a_task_group_one_failure_ends_the_others_cleanly() -> None:
    def respond(request: Request) -> Answer:
        return (STALL,) if "/Extensions/" in request.target else error(404)

    async def fetch_together() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(fetch(session))
            await wire.until(lambda: len(wire.requests) == 5)
            group.create_task(session.available_add_ons(ADD_ON).fetch())

    async with Wire(respond) as wire, wire.session() as session:
        with pytest.raises(ExceptionGroup) as caught:
            await fetch_together()
        assert len(caught.value.exceptions) == 1


# Left early


@pytest.mark.parametrize("prefetch", [0, 1, 2])
async def test_a_listing_left_by_break_holds_nothing(prefetch: int) -> None:
    async with narrow(everything) as (_, session):
        async for _ in listing(session, prefetch=prefetch):
            break
        assert await is_usable(session)


@pytest.mark.parametrize("prefetch", [0, 1, 2])
async def test_an_exception_in_the_loop_body_holds_nothing_and_comes_out_as_it_is(
    prefetch: int,
) -> None:
    async def fail() -> None:
        async for item in listing(session, prefetch=prefetch):
            raise ZeroDivisionError(item.sid)

    async with narrow(everything) as (_, session):
        with pytest.raises(ZeroDivisionError, match="XF0"):
            await fail()
        assert await is_usable(session)


@pytest.mark.parametrize("prefetch", [0, 1, 2])
async def test_an_iterator_that_is_closed_gives_nothing_more(prefetch: int) -> None:
    async with narrow(everything) as (_, session):
        async with aclosing(listing(session, prefetch=prefetch).pages()) as pages:
            await anext(pages)
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
        assert await is_usable(session)


@pytest.mark.parametrize("prefetch", [0, 1])
async def test_a_listing_under_which_the_session_is_closed_says_so(prefetch: int) -> None:
    async with Wire(everything) as wire:
        async with wire.session() as session:
            pages = listing(session, prefetch=prefetch).pages()
            await anext(pages)
        with pytest.raises(SessionClosedError):
            [page async for page in pages]


# Shared


async def test_two_tasks_that_iterate_over_one_pager_get_all_items_each() -> None:
    async with Wire(everything) as wire, wire.session() as session:
        pager = listing(session)
        one, two = await asyncio.gather(pager.to_list(), pager.to_list())
    assert [len(one), len(two)] == [9, 9]


@pytest.mark.parametrize("prefetch", [0, 1])
async def test_two_tasks_that_await_the_next_page_of_one_iterator_are_told_so(
    prefetch: int,
) -> None:
    async with Wire(everything) as wire, wire.session() as session:
        pages = listing(session, prefetch=prefetch).pages()
        first, second = await asyncio.gather(anext(pages), anext(pages), return_exceptions=True)
        assert not isinstance(first, BaseException)
        assert isinstance(second, RuntimeError)
        assert "another task" in str(second)
        rest = [page async for page in pages]
    assert len(rest) == 2


async def test_many_tasks_share_a_session() -> None:
    async with Wire(everything) as wire, wire.session() as session:
        sids = await asyncio.gather(*(fetch(session) for _ in range(50)))
    assert sids == [EXTENSION] * 50


# Before, after, elsewhere


async def test_a_session_that_is_not_open_says_so() -> None:
    async with Wire(answers_in_turn()) as wire:
        session = wire.session()
        with pytest.raises(SessionClosedError, match="not open"):
            await fetch(session)
        async with session:
            pass
        with pytest.raises(SessionClosedError, match="closed"):
            await fetch(session)
        with pytest.raises(SessionClosedError, match="make another"):
            await session.start()
        await session.close()
        assert not wire.connections


async def test_a_pool_that_its_owner_closes_is_an_error_that_says_so() -> None:
    async with Wire(lambda _: (STALL,)) as wire:
        async with aiohttp.ClientSession() as http:
            session = await wire.session(http=http, retry=without_waits()).start()
            call = asyncio.create_task(fetch(session))
            await wire.until(lambda: wire.requests)
        with pytest.raises(SessionClosedError, match="aiohttp session is closed"):
            await call
        with pytest.raises(SessionClosedError, match="aiohttp session is closed"):
            await fetch(session)
        await session.close()


async def test_closing_that_is_cancelled_can_be_repeated() -> None:
    async with Wire(everything) as wire:
        for rounds in range(5):
            session = await wire.session().start()
            await fetch(session)
            await is_cancelled_after(rounds, session.close())
            await session.close()
            with pytest.raises(SessionClosedError):
                await fetch(session)


def in_another_loop(work: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """Run in a loop of its own in another thread, and give the result or the error."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work(), debug=True))
        except Exception as error:  # noqa: BLE001  # that is what is asked for
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


async def test_use_from_another_event_loop_is_refused_and_harms_nothing() -> None:
    async with Wire(everything) as wire, wire.session() as session:
        await fetch(session)
        for work in (lambda: fetch(session), session.close):
            error = in_another_loop(work)
            assert isinstance(error, SessionClosedError)
            assert "another event loop" in str(error)
        assert await is_usable(session)


def test_a_session_can_only_be_closed_after_its_event_loop() -> None:
    async def start() -> MarketplaceSession:
        async with Wire(answers_in_turn()) as wire:
            return await wire.session().start()

    session = asyncio.run(start())
    with pytest.raises(SessionClosedError, match="another event loop"):
        asyncio.run(fetch(session))
    with pytest.raises(SessionClosedError, match="another event loop"):
        fetch(session).send(None)  # in no event loop at all
    asyncio.run(session.close())


async def test_an_adaptive_limiter_is_whole_after_cancellations() -> None:
    """Of the default limiter, statistics tell what is in flight and waiting."""
    limiter = AdaptiveLimiter()
    async with Wire(faults_once((STALL,))) as wire, wire.session(limiter=limiter) as session:
        calls = [asyncio.create_task(fetch(session)) for _ in range(100)]
        await wire.until(lambda: len(wire.requests) > 5)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)
        assert await is_usable(session)


FORK = """
import asyncio, os, sys, warnings
from wire import Wire, answer, extension, fetch
from marketplace_async import SessionClosedError

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded")

async def refused(work):
    try:
        await work()
    except SessionClosedError as error:
        return "another event loop" in str(error)

def in_the_child(session):
    inherited = refused(lambda: fetch(session))
    try:
        inherited.send(None)  # as a task of the parent that goes on in the child
    except StopIteration as result:
        same_loop = result.value
    new_loop = asyncio.run(refused(lambda: fetch(session)))
    closing = asyncio.run(refused(session.close))
    return 0 if same_loop and new_loop and closing else 1

async def main():
    async with Wire(lambda _: answer(extension())) as wire, wire.session() as session:
        await fetch(session)
        child = os.fork()
        if child == 0:
            os._exit(in_the_child(session))
        _, status = os.waitpid(child, 0)
        await fetch(session)
        assert wire.connections == 1
        return os.waitstatus_to_exitcode(status)

sys.exit(asyncio.run(main()))
"""


def test_after_a_fork_the_child_is_refused_and_the_parent_goes_on() -> None:
    paths = [Path(__file__).parent / "support", Path(marketplace_async.__file__).parents[1]]
    ended = subprocess.run(
        [sys.executable, "-c", FORK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
