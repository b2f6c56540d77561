"""What serves as a session's limiter, and what is asked of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import anyio
import pytest
from aiolimiter import AsyncLimiter
from leftovers import all_blocked, leaves_nothing
from scripted_api import (
    EXTENSION,
    FOUND,
    NEVER,
    Answer,
    ScriptedApi,
    Steady,
    error,
    fetch,
)

from marketplace_async import (
    AdaptiveLimiter,
    InvalidResponseError,
    MarketplaceError,
    MarketplaceSession,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    Timeout,
    open_session,
)
from marketplace_async.sandbox import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(latency=0.01) as sandbox:
        yield sandbox


def on(sandbox: Sandbox, limiter: AbstractAsyncContextManager[Any]) -> MarketplaceSession:
    return open_session(
        sandbox.credentials,
        base_url=sandbox.url,
        limiter=limiter,
        retry=RetryPolicy(wait_initial=0.001, wait_max=0.002),
    )


def limiter_of(kind: str, places: int) -> AbstractAsyncContextManager[Any]:
    match kind:
        case "asyncio.Semaphore":
            return asyncio.Semaphore(places)
        case "asyncio.Lock":
            return asyncio.Lock()
        case "anyio.Semaphore":
            return anyio.Semaphore(places)
        case "anyio.CapacityLimiter":
            return anyio.CapacityLimiter(places)
        case _:
            return AdaptiveLimiter(start=places, floor=places, ceiling=places)


KINDS = ["asyncio.Semaphore", "anyio.Semaphore", "anyio.CapacityLimiter", "AdaptiveLimiter"]


# On a real server


@pytest.mark.parametrize("kind", KINDS)
async def test_no_more_requests_are_in_flight_than_the_limiter_has_places(
    kind: str, sandbox: Sandbox
) -> None:
    async with (
        on(sandbox, limiter_of(kind, 3)) as session,
        session.extensions_across(sandbox.catalog) as outcomes,
    ):
        found = {outcome.input: outcome.unwrap() async for outcome in outcomes}
    assert found.keys() == sandbox.catalog.keys()
    assert sandbox.peak_concurrency == 3


@pytest.mark.parametrize("kind", [*KINDS, "asyncio.Lock"])
async def test_attempts_that_fail_give_their_place_back(kind: str, sandbox: Sandbox) -> None:
    sandbox.fail_next(429, times=2)
    sandbox.fail_next(503, times=2)
    sandbox.drop_next(times=2)
    sandbox.truncate_next(times=2)
    sandbox.fail_next(404)
    sids = [*sandbox.catalog][:9]
    async with on(sandbox, limiter_of(kind, 1)) as session, asyncio.timeout(60):
        calls = (session.available_add_ons(sid).fetch() for sid in sids)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ended].count(NotFoundError) == 1
        assert sum(isinstance(end, BaseException) for end in ended) == 1
        assert (await session.available_add_ons(sids[0]).fetch()).sid == sids[0]
    assert sandbox.peak_concurrency == 1


async def test_a_limiter_of_the_rate_spaces_the_requests(sandbox: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    sandbox.fail_next(503)
    async with on(sandbox, AsyncLimiter(2, 0.1)) as session:
        began = loop.time()
        sids = [*sandbox.catalog][:5]
        await asyncio.gather(*(session.available_add_ons(sid).fetch() for sid in sids))
        # Six attempts, of which two may begin at once and one after each 50 ms.
        assert loop.time() - began >= 0.19
    assert len(sandbox.requests) == 6


async def test_one_limiter_may_serve_two_sessions(sandbox: Sandbox) -> None:
    limiter = asyncio.Semaphore(2)
    async with on(sandbox, limiter) as one, on(sandbox, limiter) as other:
        sids = [*sandbox.catalog][:10]
        await asyncio.gather(
            *(session.available_add_ons(sid).fetch() for sid in sids for session in (one, other))
        )
    assert len(sandbox.requests) == 20
    assert sandbox.peak_concurrency == 2


async def test_without_one_given_a_session_finds_the_pace_of_the_server_by_itself() -> None:
    async with Sandbox(max_concurrent=5, latency=0.005) as sandbox:
        async with (
            open_session(sandbox.credentials, base_url=sandbox.url) as session,
            session.extensions_across(sandbox.catalog) as outcomes,
        ):
            found = [outcome.unwrap() async for outcome in outcomes]
        assert len(found) == len(sandbox.catalog)
        refused = [request for request in sandbox.requests if request.status == 429]
        assert len(refused) < len(sandbox.catalog) / 2


# In virtual time: when it is entered and left, and with what


class Recording:
    """A limiter of one place that notes when it is entered and left, and with what error."""

    def __init__(self) -> None:
        self.entered: list[float] = []
        self.left: list[tuple[float, type[BaseException] | None]] = []
        self._place = asyncio.Semaphore(1)

    async def __aenter__(self) -> None:
        await self._place.acquire()
        self.entered.append(now())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert exc_type is (None if exc is None else type(exc))
        self.left.append((now(), exc_type))
        self._place.release()


def after(answer: Answer, seconds: float) -> Answer:
    return Answer(answer.body, answer.status, answer.headers, seconds=seconds)


def now() -> float:
    return asyncio.get_running_loop().time()


@leaves_nothing
async def test_it_is_held_for_each_attempt_and_not_for_the_waits_in_between() -> None:
    limiter = Recording()
    answers = error(429, seconds=1), error(503, seconds=1), after(FOUND, 1)
    async with (
        ScriptedApi(*answers) as api,
        api.session(limiter=limiter, retry=Steady()) as session,
    ):
        await fetch(session)
    assert limiter.entered == pytest.approx([0, 1.2, 2.6])
    assert [error for _, error in limiter.left] == [RateLimitError, ServerError, None]
    assert [at for at, _ in limiter.left] == pytest.approx([1, 2.2, 3.6])


@leaves_nothing
async def test_while_a_call_waits_for_its_retry_another_has_the_place() -> None:
    limiter = asyncio.Semaphore(1)
    async with (
        ScriptedApi(error(500), after(FOUND, 3), FOUND) as api,
        api.session(limiter=limiter, retry=Steady(wait_initial=9)) as session,
    ):
        first = asyncio.create_task(fetch(session))
        await all_blocked()
        assert not limiter.locked()
        assert await fetch(session) == EXTENSION
        assert now() == 4
        await first
    assert api.times == [0, 1, 9]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(429), RateLimitError),
        (error(503), ServerError),
        (error(404), NotFoundError),
        (NEVER, RequestTimeoutError),
    ],
    ids=["429", "503", "404", "time-out"],
)
@leaves_nothing
async def test_it_sees_the_error_of_the_attempt_pass(
    answer: Answer, expected: type[MarketplaceError]
) -> None:
    limiter = Recording()
    async with (
        ScriptedApi(answer) as api,
        api.session(limiter=limiter, retry=RetryPolicy.off()) as session,
    ):
        with pytest.raises(expected):
            await fetch(session)
    assert [error for _, error in limiter.left] == [expected]


@leaves_nothing
async def test_what_is_wrong_with_a_body_does_not_concern_it() -> None:
    limiter = Recording()
    async with ScriptedApi(Answer(b"{}")) as api, api.session(limiter=limiter) as session:
        with pytest.raises(InvalidResponseError):
            await fetch(session)
    assert limiter.left == [(0, None)]


@pytest.mark.parametrize("end", ["cancelled", "timed out", "closed"])
@leaves_nothing
async def test_an_attempt_that_is_ended_from_outside_leaves_it(end: str) -> None:
    limiter = Recording()
    async with ScriptedApi(NEVER) as api:
        async with api.session(limiter=limiter, timeout=Timeout(total=5)) as session:
            call = asyncio.create_task(fetch(session))
            await all_blocked()
            if end == "cancelled":
                call.cancel()
            if end == "timed out":
                await asyncio.sleep(5)
        (raised,) = await asyncio.gather(call, return_exceptions=True)
    expected = {
        "cancelled": asyncio.CancelledError,
        "timed out": RequestTimeoutError,
        "closed": SessionClosedError,
    }
    assert type(raised) is expected[end]
    assert len(limiter.entered) == len(limiter.left) == 1


@pytest.mark.parametrize("kind", KINDS)
@leaves_nothing
async def test_calls_cancelled_in_its_queue_cost_nobody_a_place(kind: str) -> None:
    async with (
        ScriptedApi(then=after(FOUND, 2)) as api,
        api.session(limiter=limiter_of(kind, 1)) as session,
    ):
        calls = [asyncio.create_task(fetch(session)) for _ in range(4)]
        await all_blocked()
        calls[1].cancel()
        calls[2].cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ended[1:3]] == [asyncio.CancelledError] * 2
        assert [ended[0], ended[3]] == [EXTENSION, EXTENSION]
        assert now() == 4
        assert await fetch(session) == EXTENSION
    assert api.times == [0, 2, 4]


@leaves_nothing
async def test_the_adaptive_one_learns_from_refusals_that_pass_through_it() -> None:
    limiter = AdaptiveLimiter(start=16, ceiling=16)
    async with (
        ScriptedApi(*[after(error(429), 1)] * 16, then=after(FOUND, 1)) as api,
        api.session(limiter=limiter) as session,
    ):
        calls = [asyncio.create_task(fetch(session)) for _ in range(32)]
        await asyncio.sleep(0.5)
        assert limiter.statistics().in_flight == 16
        assert limiter.statistics().waiting == 16
        await asyncio.sleep(0.6)
        assert limiter.statistics().limit < 16
        assert await asyncio.gather(*calls) == [EXTENSION] * 32
    assert limiter.statistics().in_flight == limiter.statistics().waiting == 0


@leaves_nothing
async def test_the_adaptive_one_does_not_learn_from_what_is_not_found() -> None:
    limiter = AdaptiveLimiter(start=16, ceiling=16)
    async with (
        ScriptedApi(then=after(error(404), 1)) as api,
        api.session(limiter=limiter) as session,
    ):
        calls = (fetch(session) for _ in range(32))
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ended] == [NotFoundError] * 32
    assert limiter.statistics().limit == 16


class Swallowing:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> bool:
        return True


async def test_a_limiter_that_swallows_errors_is_found_out(sandbox: Sandbox) -> None:
    sandbox.fail_next(404)
    limiter: Any = Swallowing()
    async with on(sandbox, limiter) as marketplace:
        with pytest.raises(RuntimeError, match="the limiter swallowed the error of an attempt"):
            await marketplace.available_add_ons.list().first()
