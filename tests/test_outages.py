"""A server that is down for a while, in virtual time."""

import asyncio
import errno
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import aiohttp
import attrs
import pytest
from leftovers import leaves_nothing
from scripted_api import (
    EXTENSION,
    FOUND,
    NEVER,
    Answer,
    Request,
    ScriptedApi,
    error,
    failure,
    fetch,
    now,
)
from virtual_time import VirtualTimeLoop

from marketplace_async import (
    ConnectionFailedError,
    MarketplaceSession,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    Timeout,
)

T = TypeVar("T")

DOWN: dict[str, Answer] = {
    "500": error(500, seconds=0.01),
    "503": error(503, seconds=0.01),
    "refused": Answer(failure=aiohttp.ClientConnectionError("refused")),
    "hanging": NEVER,
}
LATENCY = 0.05


@attrs.define
class Server:
    """Admits so many requests at once; down at some times, and with faults at others."""

    outages: list[tuple[float, float, Answer]]
    admits: Callable[[float], int] = lambda _: 40
    faults: Callable[[], Answer | None] = lambda: None
    _ends: list[float] = attrs.field(factory=lambda: [0.0])

    def __call__(self, request: Request) -> Answer:
        for start, end, answer in self.outages:
            if start <= request.seconds < end:
                return answer
        self._ends = [end for end in self._ends if end > request.seconds]
        if len(self._ends) >= self.admits(request.seconds):
            return error(429, seconds=0.005)
        self._ends.append(request.seconds + LATENCY)
        return self.faults() or attrs.evolve(FOUND, seconds=LATENCY)


def down(kind: str, start: float = 0, end: float = 1e9) -> Server:
    return Server([(start, end, DOWN[kind])])


async def batch(session: MarketplaceSession, calls: int) -> Counter[str]:
    """Fetch so many times in a fan-out; return the number of results by type."""
    async with session.fan_out(lambda _: fetch(session), range(calls)) as outcomes:
        return Counter(
            [type(outcome.error or outcome.value).__name__ async for outcome in outcomes]
        )


async def together(session: MarketplaceSession, calls: int) -> list[Any]:
    """Fetch so many times at once in one input of a fan-out."""

    async def run(count: int) -> list[Any]:
        fetches = (fetch(session) for _ in range(count))
        return await asyncio.gather(*fetches, return_exceptions=True)

    async with session.fan_out(run, [calls]) as outcomes:
        return (await anext(outcomes)).unwrap()


def quickly(work: Coroutine[Any, Any, T]) -> T:
    """Run in virtual time without the debug mode of asyncio."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


@pytest.mark.parametrize("kind", DOWN)
@leaves_nothing
async def test_direct(kind: str) -> None:
    """In a long outage, direct calls fail within 2 seconds, or two attempts that hang."""
    server = down(kind)
    async with ScriptedApi(then=server) as api, api.session() as session:
        while now() < (120 if kind == "hanging" else 5):  # until as many probes have failed
            await asyncio.gather(*(failure(session) for _ in range(10)))
        for _ in range(20):
            start = now()
            raised = await asyncio.gather(*(failure(session) for _ in range(50)))
            assert now() - start < (30.1 if kind == "hanging" else 2.1)
            assert all(str(each.not_retried).startswith("the server is down") for each in raised)
            assert max(each.attempts for each in raised) == 1
        assert session.statistics().outage
        assert session.statistics().budget_left > 0
        server.outages.clear()
        await asyncio.sleep(5)
        start = now()
        assert await fetch(session) == EXTENSION
        assert now() - start < 0.1
        assert not session.statistics().outage
        server.outages.append((now(), now() + 2, error(503)))
        assert await asyncio.gather(*(fetch(session) for _ in range(3))) == [EXTENSION] * 3


@pytest.mark.parametrize("kind", DOWN)
@leaves_nothing
async def test_batch(kind: str) -> None:
    """Batch calls wait for the end of an outage, start few inputs and use no budget."""
    async with ScriptedApi(then=down(kind, 0.1, 40)) as api, api.session() as session:
        run = asyncio.create_task(batch(session, 400))
        await asyncio.sleep(20)
        calls = session.statistics().calls
        await asyncio.sleep(15)
        statistics = session.statistics()
        assert statistics.calls - calls <= 1
        assert calls < 100
        assert (statistics.outage, statistics.budget_left) == (True, 500)
        assert await run == {"Extension": 400}
        assert now() < 59
        statistics = session.statistics()
        assert (statistics.outage, statistics.in_flight, statistics.waiting) == (False, 0, 0)
    assert sum(0.1 < time < 40 for time in api.times) < 120


@pytest.mark.parametrize("kind", DOWN)
@leaves_nothing
async def test_deadline(kind: str) -> None:
    """A batch call in an endless outage ends near its deadline, and the error says why."""
    async with ScriptedApi(then=down(kind)) as api, api.session() as session:
        raised = await together(session, 2)
    assert 57 < now() <= 60
    for each in raised:
        assert isinstance(each, RequestTimeoutError | ServerError | ConnectionFailedError)
        assert each.attempts > (2 if kind == "hanging" else 6)
        text = str(each)
        late = "the call took longer than 60 s (" in text and " s waiting to retry" in text
        assert late or "the next wait, " in text


@pytest.mark.parametrize(
    ("kind", "calls"), [*((kind, calls) for kind in DOWN for calls in (1, 100)), ("503", 10_000)]
)
def test_load(kind: str, calls: int) -> None:
    """A server that is down gets about one request per second, whatever the number of calls."""

    async def run() -> tuple[list[float], list[float]]:
        timeout = Timeout(total=30, attempt=5)
        async with ScriptedApi(then=down(kind)) as api, api.session(timeout=timeout) as session:
            await together(session, calls)
            start, count = now(), len(api.times)
            while now() < start + 30:
                direct = (fetch(session) for _ in range(min(calls, 1000)))
                await asyncio.gather(*direct, return_exceptions=True)
        return api.times[:count], [time - start for time in api.times[count:]]

    for times in quickly(run()):
        assert sum(time < 1 for time in times) <= 15
        assert sum(10 <= time < 30 for time in times) <= 22


@pytest.mark.parametrize("limiter", [None, asyncio.Semaphore])
@leaves_nothing
async def test_no_stampede(limiter: Any) -> None:
    """After an outage the number of requests at most doubles with each round trip."""
    settings = {} if limiter is None else {"limiter": limiter(1000)}
    server = down("503", 0, 10)
    server.admits = lambda _: 1000
    async with ScriptedApi(then=server) as api, api.session(**settings) as session:
        found = await together(session, 300)
    assert found == [EXTENSION] * 300
    times = [time for time in api.times if time >= 10]
    assert times[-1] - times[0] < 20 * LATENCY
    rounds = Counter(int((time - times[0]) / LATENCY + 1e-6) for time in times)
    for number in range(1, max(rounds) + 1):
        assert rounds[number] <= 2 * rounds[number - 1] + 2


@leaves_nothing
async def test_hanging_probes_cancelled() -> None:
    """Probes that are cancelled pass their turns to the calls that wait."""
    server = down("503", 0, 1)
    server.outages.append((1, 12, NEVER))
    timeout = Timeout(total=60, attempt=50)
    settings = {"retry": RetryPolicy(attempts=20), "limiter": asyncio.Semaphore(100)}
    async with (
        ScriptedApi(then=server) as api,
        api.session(timeout=timeout, **settings) as session,
    ):
        first = [asyncio.create_task(fetch(session)) for _ in range(5)]
        while session.statistics().in_flight < 5:
            await asyncio.sleep(0.1)
        others = [asyncio.create_task(fetch(session)) for _ in range(20)]
        await asyncio.sleep(16 - now())
        for task in first:
            task.cancel()
        assert await asyncio.gather(*others) == [EXTENSION] * 20
        assert now() < 19


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("turn", range(1, 5))
@leaves_nothing
async def test_cancelled_at_its_turn(turn: int, *, later: bool) -> None:
    """Calls that are cancelled at the moment of their turn pass it on."""
    loop = asyncio.get_running_loop()
    policy = RetryPolicy(attempts=50, wait_max=0.2)
    settings = {"retry": policy, "limiter": asyncio.Semaphore(100)}
    probes: list[float] = []
    for survivor in None, 0, 11:  # first without cancellations, to know the times of the turns
        random.seed(1)
        start = now()
        server = down("503", start, start + 6)
        async with ScriptedApi(then=server) as api, api.session(**settings) as session:
            calls = [asyncio.create_task(fetch(session)) for _ in range(12)]
            if survivor is None:
                assert await asyncio.gather(*calls) == [EXTENSION] * 12
                probes = [time - start for time in api.times if time > start + 0.5]
                continue
            cancelled = [call for number, call in enumerate(calls) if number != survivor]
            cancel = partial(_cancel, cancelled)
            loop.call_at(start + probes[turn], partial(loop.call_soon, cancel) if later else cancel)
            assert await calls[survivor] == EXTENSION
            assert now() - start < 8.1
            assert max(b - a for a, b in itertools.pairwise(api.times)) < 2.1


def _cancel(calls: list[asyncio.Task[Any]]) -> None:
    for call in calls:
        call.cancel()


@leaves_nothing
async def test_order() -> None:
    """After an outage direct calls go on before batch calls."""
    async with ScriptedApi(then=down("503", 0, 3)) as api, api.session() as session:
        run = asyncio.create_task(together(session, 100))
        await asyncio.sleep(0.5)
        start = now()
        assert await fetch(session) == EXTENSION
        assert sum(time >= 3 for time in api.times) <= 3
        assert start < 3
        assert await run == [EXTENSION] * 100


@leaves_nothing
async def test_local_error() -> None:
    """An error of this machine does not end an outage."""
    local = Answer(failure=OSError(errno.EMFILE, "Too many open files"))
    answers = [error(503)] * 5
    async with ScriptedApi(*answers, local, then=error(503)) as api, api.session() as session:
        run = asyncio.create_task(together(session, 3))
        while len(api.requests) < 6:
            await asyncio.sleep(0.01)
        assert session.statistics().outage
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


@pytest.mark.parametrize("kind", DOWN)
@leaves_nothing
async def test_fan_outs(kind: str) -> None:
    """Several fan-outs and direct calls share a session through an outage."""
    async with ScriptedApi(then=down(kind, 1, 16)) as api, api.session() as session:
        runs = [asyncio.create_task(batch(session, 500)) for _ in range(3)]
        while not all(run.done() for run in runs):
            start, outage = now(), session.statistics().outage
            results = await asyncio.gather(fetch(session), return_exceptions=True)
            if start > 31 and not outage:
                assert (results[0], now() - start < 1) == (EXTENSION, True)
            await asyncio.sleep(0.2)
        assert [await run for run in runs] == [{"Extension": 500}] * 3
        assert now() < 45


def test_mixed_trouble() -> None:
    """In a fan-out with faults, outages and a changing limit each input has one success."""
    chance = random.Random(1)
    faults: list[Answer] = [
        *(error(status, seconds=LATENCY) for status in (408, 429, 500, 502, 503, 504)),
        error(429, Retry_After=1),
        Answer(FOUND.body[:-1], seconds=LATENCY),
        Answer(failure=aiohttp.ServerDisconnectedError()),
        Answer(failure=OSError(errno.EMFILE, "Too many open files")),
        NEVER,
    ]
    server = Server(
        [(10, 15, DOWN["503"]), (40, 55, DOWN["hanging"]), (80, 110, DOWN["refused"])],
        admits=lambda seconds: 40 if seconds < 30 else 20,
        faults=lambda: chance.choice(faults) if chance.random() < 0.05 else None,
    )

    async def run() -> Counter[int]:
        seen: Counter[int] = Counter()
        async with (
            ScriptedApi(then=server) as api,
            api.session(timeout=Timeout(total=120, attempt=5)) as session,
            session.fan_out(lambda _: fetch(session), range(8000)) as outcomes,
        ):
            async for outcome in outcomes:
                assert outcome.unwrap() == EXTENSION
                seen[outcome.input] += 1
            statistics = session.statistics()
        assert (statistics.in_flight, statistics.waiting, statistics.calls) == (0, 0, 8000)
        assert statistics.attempts == len(api.requests) == 8000 + statistics.retries
        assert 110 < now() < 300
        return seen

    assert quickly(run()) == Counter(range(8000))
