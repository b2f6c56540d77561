"""Fan-outs at a server that limits requests and does not say how many it admits."""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier

from client import Run, fetch, fetch_all, session_at
from report import Course, Figure
from server import ADD_ON, Behaviour, serving

from marketplace_async import AdaptiveLimiter

ROUNDS = 100
PROCESSES = 8
PAGES = 3
PHASE = 4.0

_barrier: Barrier


async def _watch(limiter: AdaptiveLimiter) -> list[tuple[float, int]]:
    """Sample the limit until cancelled."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    samples: list[tuple[float, int]] = []
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            samples.append((loop.time() - start, limiter.statistics().limit))
            await asyncio.sleep(0.02)
    return samples


async def _run(url: str, requests: int, ideal: float) -> tuple[Run, list[tuple[float, int]]]:
    limiter = AdaptiveLimiter()
    async with session_at(url, limiter=limiter) as marketplace:
        watch = asyncio.create_task(_watch(limiter))
        run = await fetch_all(marketplace, requests, at_most=4 * ideal)
        watch.cancel()
        return run, await watch


def find_limit(
    name: str,
    latency: float,
    requests: int,
    ideal: float,
    goal: float,
    admits: tuple[tuple[float, int], ...],
) -> list[Figure]:
    """Compare with the time in which the server could answer, if it never had a free slot."""
    with serving(Behaviour(latency=latency, admits=admits)) as server:
        run, samples = asyncio.run(_run(server.url, requests, ideal))
        counts = server.counts()
    seconds, limits = zip(*samples, strict=True)
    total = counts.answered + counts.rejected
    return [
        Figure(
            f"fan-out, {name}: ideal time / ours",
            ideal / run.seconds,
            goal,
            detail=f"{ideal:.1f} s / {run.seconds:.2f} s, {run.lost} lost",
            course=Course(seconds, limits, admits),
        ),
        Figure(
            f"fan-out, {name}: share of requests rejected",
            counts.rejected / total,
            0.05,
            at_least=False,
            detail=f"{counts.rejected} of {total}",
        ),
    ]


def constant_limit(limit: int, latency: float) -> list[Figure]:
    """Find a limit that does not change."""
    name = f"{limit} admitted, {latency * 1e3:.0f} ms"
    ideal = ROUNDS * latency
    return find_limit(name, latency, ROUNDS * limit, ideal, 0.93, ((0, limit),))


def halved_limit() -> list[Figure]:
    """Follow a limit that is halved for a while."""
    latency, admits = 0.05, ((0.0, 40), (PHASE, 20), (2 * PHASE, 40))
    requests = int(sum(limit for _, limit in admits) * PHASE / latency)
    name = "40 admitted, then 20, then 40"
    return find_limit(name, latency, requests, 3 * PHASE, 0.85, admits)


async def _list_all(url: str, listings: int) -> tuple[float, int]:
    async with session_at(url) as marketplace:

        async def count(_: int) -> int:
            pager = marketplace.available_add_ons(ADD_ON).extensions.list(page_size=50)
            return len(await pager.to_list())

        start = time.monotonic()
        complete = 0
        async with (
            asyncio.timeout(60),
            marketplace.fan_out(count, range(listings)) as outcomes,
        ):
            async for outcome in outcomes:
                complete += outcome.value == PAGES * 50
        return time.monotonic() - start, complete


def limited_rate() -> list[Figure]:
    """List at a server that admits some requests each second and sends ``Retry-After``."""
    listings, rate = 60, 20
    with serving(Behaviour(latency=0.05, per_second=rate, items=PAGES * 50)) as server:
        taken, complete = asyncio.run(_list_all(server.url, listings))
        rejected = server.counts().rejected
    ideal = listings * PAGES / rate - 1  # the requests of the first second may be sent at once
    return [
        Figure(
            f"{listings} listings of {PAGES} pages, {rate} requests a second: time / ideal",
            taken / ideal if complete == listings else float("inf"),
            1.3,
            at_least=False,
            detail=f"{taken:.2f} s / {ideal:.1f} s, {complete} complete, {rejected} rejected",
        )
    ]


def _share(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603  # one for each process
    _barrier = barrier


async def _fetch_for(url: str, seconds: float) -> int:
    async with session_at(url) as marketplace:
        await asyncio.to_thread(_barrier.wait)
        until = time.monotonic() + seconds

        def numbers() -> Iterator[int]:
            number = 0
            while time.monotonic() < until:
                yield number
                number += 1

        async def fetch_in_time(_: int) -> bool:
            await fetch(marketplace)
            return time.monotonic() <= until

        done = 0
        async with (
            asyncio.timeout(4 * seconds),
            marketplace.fan_out(fetch_in_time, numbers()) as outcomes,
        ):
            async for outcome in outcomes:
                done += bool(outcome.value)
        return done


def _fetch_in_process(url: str, seconds: float) -> int:
    return asyncio.run(_fetch_for(url, seconds))


def processes() -> list[Figure]:
    """Let eight processes that share nothing use one server."""
    limit, latency, seconds = 40, 0.05, 15.0
    context = multiprocessing.get_context("spawn")
    with (
        serving(Behaviour(latency=latency, admits=((0, limit),))) as server,
        ProcessPoolExecutor(PROCESSES, context, _share, (context.Barrier(PROCESSES),)) as pool,
    ):
        done = list(pool.map(_fetch_in_process, [server.url] * PROCESSES, [seconds] * PROCESSES))
        counts = server.counts()
    ideal = limit / latency * seconds
    rejected = counts.rejected / (counts.answered + counts.rejected)
    jain = sum(done) ** 2 / (len(done) * sum(n * n for n in done))
    return [
        Figure(
            "eight processes on one limit of 40: done / ideal",
            sum(done) / ideal,
            0.85,
            detail=f"{sum(done)} / {ideal:.0f}, {rejected:.1%} rejected",
        ),
        Figure(
            "eight processes on one limit of 40: Jain's fairness",
            jain,
            0.9,
            detail=", ".join(map(str, done)),
        ),
    ]


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "limit-5": partial(constant_limit, 5, 0.05),
    "limit-40": partial(constant_limit, 40, 0.05),
    "limit-200": partial(constant_limit, 200, 0.1),
    "limit-halved": halved_limit,
    "limited-rate": limited_rate,
    "eight-processes": processes,
}
