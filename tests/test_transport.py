"""One call: its attempts, the waits between them, limiters, cancellation and closing.

In virtual time, so all times are exact.
"""

import asyncio
import errno
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any
from unittest import mock

import aiohttp
import anyio
import attrs
import pytest
from aiolimiter import AsyncLimiter
from leftovers import leaves_nothing
from scripted_api import (
    ADD_ON,
    EXTENSION,
    FOUND,
    NEVER,
    Answer,
    Request,
    ScriptedApi,
    Steady,
    error,
    failure,
    fetch,
    now,
)

from marketplace_async import AdaptiveLimiter, MarketplaceSession, RetryEvent, RetryPolicy, Timeout
from marketplace_async.errors import (
    ApiError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    SessionClosedError,
)

URL = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions/{EXTENSION.sid}"
DISCONNECTED = Answer(failure=aiohttp.ServerDisconnectedError())
KEY: Any = mock.Mock(host="x", port=443, ssl=True)


def failed_with(number: int) -> Answer:
    return Answer(failure=aiohttp.ClientConnectorError(KEY, OSError(number, "no")))


def at(seconds: float, session: MarketplaceSession) -> asyncio.Task[Any]:
    async def run() -> object:
        await asyncio.sleep(seconds)
        return await fetch(session)

    return asyncio.create_task(run())


def is_idle(session: MarketplaceSession) -> bool:
    statistics = session.statistics()
    return (statistics.in_flight, statistics.waiting) == (0, 0)


def down_until(end: float, request: Request) -> Answer:
    return error(503) if request.seconds < end else FOUND


async def batch(session: MarketplaceSession, calls: int = 1) -> list[Any]:
    """Fetch so many times in a fan-out; return the results and errors."""
    async with session.fan_out(lambda _: fetch(session), range(calls)) as outcomes:
        return [outcome.error or outcome.value async for outcome in outcomes]


# Retries

RETRYABLE: dict[str, tuple[Answer, type[MarketplaceError]]] = {
    "408": (error(408), ApiError),
    "429": (error(429), RateLimitError),
    **{str(status): (error(status), ServerError) for status in (500, 502, 503, 504)},
    "refused": (failed_with(errno.ECONNREFUSED), ConnectionFailedError),
    "lost": (DISCONNECTED, ConnectionFailedError),
    "cut": (Answer(failure=aiohttp.ClientPayloadError("cut")), ConnectionFailedError),
    "descriptors": (failed_with(errno.EMFILE), ConnectionFailedError),
    "connecting": (Answer(failure=aiohttp.ConnectionTimeoutError()), RequestTimeoutError),
    "attempt": (NEVER, RequestTimeoutError),
    "half a body": (Answer(FOUND.body[:-1]), InvalidResponseError),
    "no body": (Answer(b""), InvalidResponseError),
}


@pytest.mark.parametrize("kind", RETRYABLE)
@leaves_nothing
async def test_retried(kind: str) -> None:
    """A retryable error is retried, and raised after the last attempt."""
    answer, expected = RETRYABLE[kind]
    async with ScriptedApi(answer, answer, FOUND) as api, api.session() as session:
        assert await fetch(session) == EXTENSION
    assert [str(request.url) for request in api.requests] == [URL] * 3
    async with ScriptedApi(then=answer) as api:
        async with api.session(retry=RetryPolicy(attempts=3)) as session:
            raised = await failure(session)
        async with api.session(retry=RetryPolicy.off()) as session:
            assert (await failure(session)).attempts == 1
            assert isinstance((await batch(session))[0], (expected, RequestTimeoutError))
    assert type(raised) is expected
    assert (raised.attempts, raised.not_retried, len(api.requests)) == (3, None, 5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *((error(status), ApiError) for status in (302, 400, 422)),
        (error(404), NotFoundError),
        *((error(status), ServerError) for status in (501, 599)),
        (Answer(b"", 204), InvalidResponseError),
        (Answer(b"{}"), InvalidResponseError),
        (
            Answer(failure=aiohttp.ClientConnectorCertificateError(KEY, ValueError("expired"))),
            CertificateError,
        ),
        (Answer(failure=ValueError("two headers")), ConnectionFailedError),
    ],
)
@leaves_nothing
async def test_not_retried(answer: Answer, expected: type[MarketplaceError]) -> None:
    """Any other error is raised after the first attempt, for direct and batch calls."""
    events: list[RetryEvent] = []
    async with ScriptedApi(then=answer) as api, api.session(on_retry=events.append) as session:
        raised = [await failure(session), *await batch(session)]
    assert [(type(error), error.attempts) for error in raised] == [(expected, 1)] * 2
    assert (len(api.requests), events, now()) == (2, [], 0)


@leaves_nothing
async def test_backoff() -> None:
    """The waits double up to a maximum."""
    settings = {"retry": Steady(wait_max=1), "limiter": asyncio.Semaphore(1)}
    async with ScriptedApi(then=error(500, seconds=1)) as api, api.session(**settings) as session:
        await failure(session)
    assert api.times == pytest.approx([0, 1.2, 2.6, 4.4, 6.4, 8.4])


@pytest.mark.parametrize("seed", range(100))
@leaves_nothing
async def test_short_outage(seed: int) -> None:
    """A lone direct call survives an outage of 2 seconds."""
    random.seed(seed)
    answer = partial(down_until, 2)
    async with ScriptedApi(then=answer) as api, api.session() as session:
        assert await fetch(session) == EXTENSION


@leaves_nothing
async def test_uncounted_failures() -> None:
    """A batch call does not use up attempts for 429 and local errors."""
    answers = [error(429), failed_with(errno.EMFILE)] * 8
    async with ScriptedApi(*answers, then=FOUND) as api, api.session() as session:
        assert await batch(session) == [EXTENSION]
    assert len(api.requests) == 17
    assert max(b - a for a, b in zip(api.times, api.times[1:], strict=False)) <= 1


@leaves_nothing
async def test_budget() -> None:
    """While the budget is spent direct calls are not retried, but batch calls are."""
    answers = [error(500), error(500), FOUND] * 123 + [error(500)] * 5
    outages: list[bool] = []

    def on_retry(_: RetryEvent) -> None:
        outages.append(session.statistics().outage)

    api = ScriptedApi(*answers, then=FOUND)
    async with api, api.session(on_retry=on_retry) as session:
        for _ in range(123):
            assert await fetch(session) == EXTENSION
        assert session.statistics().budget_left == 500 - 4 * 123
        assert not any(outages)
        for attempts in (2, 1):
            raised = await failure(session)
            assert raised.not_retried == "too many retries of this session have failed recently"
            assert (raised.attempts, session.statistics().budget_left) == (attempts, 3)
        assert await batch(session) == [EXTENSION]
        assert session.statistics().budget_left == 4


# Retry-After


def later(seconds: float) -> dict[str, str]:
    sent = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    moment = format_datetime(sent + timedelta(seconds=seconds), usegmt=True)
    return {"Date": format_datetime(sent, usegmt=True), "Retry_After": moment}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "least"),
    [
        *(({"Retry_After": value}, 3) for value in ("3", "3.0", " 3\t")),
        (later(3), 3),
        (later(-3), 0),
        *(({"Retry_After": value}, 0) for value in ("", "0", "-3", "soon", "3 s", "nan", "inf")),
        *(({"Retry_After": value}, 0) for value in ("1e1", "\u0663", "Mon, 99 Foo 99999 99:99")),
    ],
)
@leaves_nothing
async def test_retry_after(status: int, headers: dict[str, Any], least: float) -> None:
    """A valid Retry-After is the minimum wait, any other value is ignored."""
    async with ScriptedApi(error(status, **headers), FOUND) as api, api.session() as session:
        await fetch(session)
    assert least <= api.times[1] <= least + 0.2


@pytest.mark.parametrize(
    ("wait", "settings", "reason"),
    [
        (31, {}, "the server requests a wait of more than 30 s (retry_after_max)"),
        ("9" * 18, {}, "the server requests a wait of more than 30 s (retry_after_max)"),
        (8, {"timeout": 7}, "the next wait, 8"),
        (8, {"retry": RetryPolicy.off()}, None),
    ],
)
@leaves_nothing
async def test_retry_after_too_long(
    wait: object, settings: dict[str, Any], reason: str | None
) -> None:
    """A Retry-After beyond the policy or the deadline ends the call at once."""
    async with ScriptedApi(then=error(429, Retry_After=str(wait))) as api:
        async with api.session(**settings) as session:
            raised = [await failure(session)]
        async with api.session(**settings) as session:
            raised += await batch(session)
    assert now() == 0
    for each in raised:
        assert isinstance(each, RateLimitError)
        assert each.attempts == 1
        assert (each.not_retried or "None").startswith(str(reason))


@leaves_nothing
async def test_pause() -> None:
    """All calls of the session wait for the latest Retry-After, also those in the limiter."""
    waits = (5, 9, 1)
    answers = [error(429, Retry_After=wait, seconds=n) for n, wait in enumerate(waits, 1)]
    limiter = asyncio.Semaphore(3)
    async with ScriptedApi(*answers, then=FOUND) as api, api.session(limiter=limiter) as session:
        calls = [at(seconds, session) for seconds in (0, 0, 0, 0, 1.5, 3.5, 6, 10)]
        await asyncio.sleep(4)
        statistics = session.statistics()
        assert (statistics.pause, statistics.waiting, statistics.rejections) == (7, 3, 3)
        await asyncio.gather(*calls)
        assert session.statistics().pause == 0
    assert api.times[:3] == [0, 0, 0]
    assert all(11 <= time <= 11.4 for time in api.times[3:])
    assert len(set(api.times[3:])) == len(calls)


@leaves_nothing
async def test_pause_too_long() -> None:
    """A call that would end before the end of a pause is not begun."""
    answers = error(429, Retry_After=7), FOUND
    async with ScriptedApi(*answers) as api, api.session(timeout=6) as session:
        await failure(session)
        await asyncio.sleep(0.5)
        raised = await failure(session)
        assert now() == 0.5
        await asyncio.sleep(1.5)
        assert await fetch(session) == EXTENSION
    assert isinstance(raised, RequestTimeoutError)
    assert raised.attempts == 0
    assert raised.not_retried == "the server requested a pause of 6.5 s, and 6 s are left"


# Deadlines


@leaves_nothing
async def test_deadline() -> None:
    """The error of the deadline names the phases, the attempts and the last error."""
    answers = error(429, Retry_After=3, seconds=1), error(500, seconds=2)
    timeout = Timeout(total=40, attempt=50)
    settings = {"timeout": timeout, "limiter": asyncio.Semaphore(1), "retry": Steady()}
    async with ScriptedApi(*answers, then=NEVER) as api, api.session(**settings) as session:
        calls = fetch(session), fetch(session)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert now() == 40
    for result in results:
        assert isinstance(result, RequestTimeoutError)
        assert (result.what, result.seconds, result.url) == ("the call", 40, URL)
        assert sum(result.spent.values()) == pytest.approx(40)
        assert str(result).startswith("the call took longer than 40 s (")
        assert f", {result.attempts} attempt" in str(result)
        assert result.__cause__ is result.last_error
    phases = " ".join(map(str, results))
    for phase in ("for the limiter", "in attempts", "to retry", "the end of a pause"):
        assert phase in phases
    assert "; the last attempt: HTTP 500, code 20500: No" in phases


@leaves_nothing
async def test_deadlines_each() -> None:
    """Each call has its own deadline, whichever calls end before it."""
    lengths = [100, 2, 100, 1, 9.9, 100]
    answers = [attrs.evolve(FOUND, seconds=seconds) for seconds in lengths]
    async with ScriptedApi(*answers) as api, api.session(timeout=10) as session:
        ends: list[float] = []
        calls = [at(number, session) for number in range(6)]
        for call in calls:
            call.add_done_callback(lambda _: ends.append(round(now(), 1)))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert not any(call.cancelling() for call in calls)
    assert ends == [3, 4, 10, 12, 13.9, 15]
    assert [result == EXTENSION for result in results] == [length < 10 for length in lengths]


@leaves_nothing
async def test_deadline_and_cancel() -> None:
    """A cancellation at the moment of the deadline is a cancellation."""
    async with ScriptedApi(then=NEVER) as api, api.session(timeout=5) as session:
        call = at(0, session)
        await asyncio.sleep(1)
        asyncio.get_running_loop().call_at(5, call.cancel)
        with pytest.raises(asyncio.CancelledError):
            await call
        for seconds, expected in (3, TimeoutError), (9, RequestTimeoutError):
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(seconds):
                    await fetch(session)
            assert caught.type is expected
        assert is_idle(session)


@leaves_nothing
async def test_deadline_and_error() -> None:
    """An exception at the moment of the deadline is raised as it is."""

    async def on_retry(_: RetryEvent) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise LookupError from None

    async with ScriptedApi(error(503)) as api, api.session(on_retry=on_retry) as session:
        with pytest.raises(LookupError):
            await fetch(session)


# on_retry


@pytest.mark.parametrize("pause", [0, 1])
@leaves_nothing
async def test_on_retry(pause: int) -> None:
    """on_retry gets each retry before the wait, is awaited if async, and may end the call."""
    events: list[tuple[float, RetryEvent]] = []

    async def wait() -> None:
        await asyncio.sleep(pause)

    def on_retry(event: RetryEvent) -> object:
        events.append((round(now(), 3), event))
        if event.attempt == 3:
            raise LookupError("enough")
        return wait() if pause else None

    settings = {"retry": Steady(), "on_retry": on_retry}
    answers = error(503), error(429), DISCONNECTED
    async with ScriptedApi(*answers, then=FOUND) as api, api.session(**settings) as session:
        with pytest.raises(LookupError, match="enough"):
            await fetch(session)
        assert await fetch(session) == EXTENSION
        assert is_idle(session)
    assert [time for time, _ in events] == ([0, 1.2, 2.6] if pause else [0, 0.2, 0.6])
    found = [(event.method, event.url, event.attempt, event.wait) for _, event in events]
    assert found == [("GET", URL, 1, 0.2), ("GET", URL, 2, 0.4), ("GET", URL, 3, 0.8)]
    expected = [ServerError, RateLimitError, ConnectionFailedError]
    assert [type(event.error) for _, event in events] == expected
    assert [event.error.attempts for _, event in events] == [1, 2, 3]


# Limiters


@pytest.mark.parametrize("create", [asyncio.Semaphore, anyio.CapacityLimiter])
@leaves_nothing
async def test_foreign_limiter(create: Callable[[int], Any]) -> None:
    """Another limiter is entered for each attempt, not during the waits between them."""
    answers = [error(503, seconds=1), *[attrs.evolve(FOUND, seconds=1)] * 5]
    settings = {"limiter": create(2), "retry": Steady(wait_initial=2)}
    async with ScriptedApi(*answers) as api, api.session(**settings) as session:
        calls = [at(0, session) for _ in range(5)]
        await asyncio.sleep(0.5)
        assert (session.statistics().in_flight, session.statistics().limit) == (2, None)
        await asyncio.gather(*calls)
    assert api.times == [0, 0, 1, 1, 2, 3]


@leaves_nothing
async def test_rate_limiter() -> None:
    """A limiter of the rate spaces the attempts."""
    limiter = AsyncLimiter(1, 2)
    async with ScriptedApi(then=FOUND) as api, api.session(limiter=limiter) as session:
        await asyncio.gather(*(fetch(session) for _ in range(4)))
    assert api.times == pytest.approx([0, 2, 4, 6])


class Suppressing(asyncio.Semaphore):
    async def __aexit__(self, *error: object) -> Any:
        await super().__aexit__(None, None, None)
        return True


@leaves_nothing
async def test_suppressing_limiter() -> None:
    """A limiter that suppresses errors is reported."""
    async with ScriptedApi(error(404)) as api, api.session(limiter=Suppressing()) as session:
        with pytest.raises(RuntimeError, match="suppressed"):
            await fetch(session)
        assert is_idle(session)


@leaves_nothing
async def test_local_errors() -> None:
    """A lack of descriptors shrinks the limit, but is no outage and costs no budget."""
    limiter = AdaptiveLimiter(start=40)
    answers = [attrs.evolve(failed_with(errno.EMFILE), seconds=0.1)] * 40
    async with ScriptedApi(*answers, then=FOUND) as api, api.session(limiter=limiter) as session:
        calls = [at(0, session) for _ in range(40)]
        await asyncio.sleep(0.15)
        statistics = session.statistics()
        assert (statistics.limit, statistics.outage, statistics.budget_left) == (20, False, 500)
        assert await asyncio.gather(*calls) == [EXTENSION] * 40


# Cancellation and closing


def troubled(seed: int) -> Callable[[Request], Answer]:
    """Return a server with many faults until 30 s, which is down from 2 s to 8 s."""
    chance = random.Random(seed)
    faults = [error(503), error(429), error(429, Retry_After=1), DISCONNECTED, NEVER]
    faults += [failed_with(errno.EMFILE), Answer(b""), error(404), *[FOUND] * 12]

    def answer(request: Request) -> Answer:
        fault = error(503) if 2 < request.seconds < 8 else chance.choice(faults)
        fault = FOUND if request.seconds > 30 else fault
        return attrs.evolve(fault, seconds=fault.seconds or chance.random() / 10)

    return answer


@pytest.mark.parametrize("seed", range(10))
@leaves_nothing
async def test_cancelled(seed: int) -> None:
    """Calls cancelled at any point leave no count behind, and all other calls go on."""
    chance = random.Random(seed)
    random.seed(seed)
    timeout = Timeout(total=20, attempt=1)
    limiter = AdaptiveLimiter(ceiling=6) if seed % 2 else asyncio.Semaphore(3)
    settings = {"limiter": limiter, "timeout": timeout}
    async with ScriptedApi(then=troubled(seed)) as api, api.session(**settings) as session:
        work: list[Callable[[Any], Any]] = [batch, partial(batch, calls=20), fetch, fetch]
        tasks = [asyncio.ensure_future(work[n % 4](session)) for n in range(40)]
        for task in chance.sample(tasks, 32):
            for _ in range(chance.choice([0, 1, 2, 3, 5])):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.1, 0.5]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert is_idle(session)
        await asyncio.sleep(40 - now())
        assert await batch(session, 50) == [EXTENSION] * 50
        assert await fetch(session) == EXTENSION
        assert now() < 45


@pytest.mark.parametrize("end", ["cancel", "timeout", "close"])
@pytest.mark.parametrize("phase", ["limiter", "pause", "attempt", "backoff", "outage", "on_retry"])
@leaves_nothing
async def test_ended_while(phase: str, end: str) -> None:
    """A call can be cancelled, timed out and closed while it waits for anything."""
    answers = {
        "pause": [error(429, Retry_After=20)],
        "attempt": [NEVER],
        "backoff": [error(503)],
        "on_retry": [error(503)],
        "outage": [error(503)] * 8,
    }.get(phase, [])
    settings: dict[str, Any] = {"limiter": asyncio.Semaphore(phase != "limiter")}
    if phase == "on_retry":
        settings["on_retry"] = partial(asyncio.sleep, 30)
    policy = RetryPolicy(wait_initial=20 if phase == "backoff" else 0.1)
    async with ScriptedApi(*answers, then=NEVER) as api:
        session = await api.session(retry=policy, **settings).start()
        calls = [asyncio.create_task(fetch(session)) for _ in range(6)]
        await asyncio.sleep(3)
        for call in calls:
            match end:
                case "cancel":
                    call.cancel()
                case "timeout":
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0):
                            await call
                case _:
                    await session.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert now() == 3
        expected = SessionClosedError if end == "close" else asyncio.CancelledError
        assert {type(result) for result in results} == {expected}
        if end == "close":
            assert str(results[0]).startswith("the session was closed during the call (GET ")
        else:
            assert is_idle(session)
            await session.close()
