"""Servers that can do less than what the client has to do, and a client with few descriptors."""

import asyncio
import contextlib
import math
import resource
import statistics
from collections.abc import Callable
from functools import partial

from client import Run, fetch, fetch_all, session_at
from report import Figure
from server import Behaviour, serving

from marketplace_async import MarketplaceError, MarketplaceSession, Timeout

ADMITS_40 = Behaviour(latency=0.05, admits=((0, 40),))
QUEUES_40 = Behaviour(latency=0.5, slots=40)


async def _run(url: str, requests: int, total: float) -> Run:
    async with session_at(url, timeout=Timeout(total=total)) as marketplace:
        return await fetch_all(marketplace, requests, at_most=90)


def short_deadline(name: str, requests: int, behaviour: Behaviour) -> list[Figure]:
    """Fetch more than the server can send before the deadline of one call."""
    with serving(behaviour) as server:
        run = asyncio.run(_run(server.url, requests, 6))
    return [run.figure(f"{requests} fetches, {name}, deadline 6 s")]


def few_descriptors(number: int) -> list[Figure]:
    """Fetch in a process that may open few files."""
    requests = 3000
    with serving(Behaviour(latency=0.05)) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
        run = asyncio.run(_run(server.url, requests, 60))
    return [run.figure(f"{requests} fetches with {number} file descriptors")]


async def _median(marketplace: MarketplaceSession, samples: int, *, at_most: float) -> float:
    """Fetch one after another and return the median duration."""
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(at_most):
            for _ in range(samples):
                start = loop.time()
                try:
                    await fetch(marketplace)
                    seconds.append(loop.time() - start)
                except MarketplaceError:
                    seconds.append(math.inf)
    return statistics.median(seconds or [math.inf])


async def _beside(url: str, fan_outs: int) -> tuple[float, float]:
    async with session_at(url) as marketplace:
        alone = await _median(marketplace, 20, at_most=60)
        others = [
            asyncio.create_task(fetch_all(marketplace, 10**6, at_most=300)) for _ in range(fan_outs)
        ]
        await asyncio.sleep(3)  # the limiter finds the limit
        beside = await _median(marketplace, 40, at_most=120)
        assert not any(other.done() for other in others)
        for other in others:
            other.cancel()
        await asyncio.wait(others)
        return alone, beside


def lone_fetch(name: str, fan_outs: int, behaviour: Behaviour, goal: float) -> list[Figure]:
    """Fetch one after another while fan-outs keep the server busy."""
    with serving(behaviour) as server:
        alone, beside = asyncio.run(_beside(server.url, fan_outs))
    return [
        Figure(
            f"a lone fetch {name}: p50 / alone",
            beside / alone,
            goal,
            at_least=False,
            detail=f"{beside * 1e3:.0f} ms / {alone * 1e3:.0f} ms",
        )
    ]


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "admits-2": partial(
        short_deadline, "2 admitted, 50 ms", 800, Behaviour(latency=0.05, admits=((0, 2),))
    ),
    "queues-5": partial(
        short_deadline, "5 slots of 200 ms and a queue", 500, Behaviour(latency=0.2, slots=5)
    ),
    "descriptors-64": partial(few_descriptors, 64),
    "descriptors-128": partial(few_descriptors, 128),
    "beside-1": partial(lone_fetch, "beside one fan-out, 40 admitted, 50 ms", 1, ADMITS_40, 2.5),
    "beside-4": partial(lone_fetch, "beside four fan-outs, 40 admitted, 50 ms", 4, ADMITS_40, 2.5),
    "beside-queue": partial(
        lone_fetch, "beside one fan-out, 40 slots of 500 ms and a queue", 1, QUEUES_40, 4
    ),
}
