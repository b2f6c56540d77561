"""Fanning out through a server that admits so many requests at once and does not say how many."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import attrs
from figures import Figure
from origin import ADD_ON, EXTENSION, Behaviour, Origin, serving

from marketplace_async import AdaptiveLimiter, Credentials, open_session

ROUNDS = 100
PROCESSES = 8
PAGES = 3


@attrs.frozen
class Run:
    """The course of a run, for the plot."""

    title: str
    seconds: tuple[float, ...]
    limits: tuple[int, ...]
    admitted: tuple[tuple[float, int], ...]


async def _fetch_all(
    url: str, requests: int, limiter: AdaptiveLimiter
) -> tuple[float, int, list[tuple[float, int]]]:
    course: list[tuple[float, int]] = []
    loop = asyncio.get_running_loop()
    async with open_session(Credentials("AC", "x"), base_url=url, limiter=limiter) as marketplace:
        handle = marketplace.available_add_ons(ADD_ON).extensions(EXTENSION)

        async def fetch(_: int) -> str:
            return (await handle.fetch()).sid

        start = loop.time()
        lost = 0
        async with marketplace.fan_out(fetch, range(requests)) as outcomes:
            async for outcome in outcomes:
                lost += outcome.error is not None
                now = loop.time() - start
                if not course or now - course[-1][0] > 0.02:
                    course.append((now, limiter.statistics().limit))
        return loop.time() - start, lost, course


def _one(
    title: str,
    admits: tuple[tuple[float, int], ...],
    latency: float,
    requests: int,
    ideal: float,
    goal: float,
) -> tuple[list[Figure], Run]:
    with serving(Behaviour(latency=latency, admits=admits)) as origin:
        taken, lost, course = asyncio.run(_fetch_all(origin.url, requests, AdaptiveLimiter()))
        answered, refused = origin.counts()
    assert answered == requests - lost
    share = refused / (answered + refused)
    figures = [
        Figure(
            f"{title}: ideal time / ours",
            ideal / taken,
            goal,
            detail=f"{ideal:.1f} s / {taken:.2f} s, {lost} lost",
        ),
        Figure(
            f"{title}: share of requests refused",
            share,
            0.05,
            at_least=False,
            detail=f"{refused} of {answered + refused}",
        ),
    ]
    seconds, limits = zip(*course, strict=True)
    return figures, Run(title, seconds, limits, admits)


def _process(url: str, seconds: float, pipe: Connection) -> None:
    async def run() -> int:
        done = 0
        async with open_session(Credentials("AC", "x"), base_url=url) as marketplace:
            handle = marketplace.available_add_ons(ADD_ON).extensions(EXTENSION)
            pipe.send("ready")
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
            until = time.monotonic() + seconds

            async def fetch(_: int) -> None:
                nonlocal done
                await handle.fetch()
                done += time.monotonic() <= until

            def numbers() -> Iterator[int]:
                number = 0
                while time.monotonic() < until:
                    yield number
                    number += 1

            async with marketplace.fan_out(fetch, numbers()) as outcomes:
                async for _ in outcomes:
                    pass
        return done

    pipe.send(asyncio.run(run()))


def _together(origin: Origin, seconds: float) -> list[int]:
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes: list[SpawnProcess] = []
    for _ in range(PROCESSES):
        here, there = context.Pipe()
        process = context.Process(target=_process, args=(origin.url, seconds, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    done = [int(pipe.recv()) for pipe in pipes]
    for process in processes:
        process.join()
    return done


def processes() -> list[Figure]:
    """Let eight processes share one server, with nothing shared between them."""
    limit, latency, seconds = 40, 0.05, 15.0
    with serving(Behaviour(latency=latency, admits=((0, limit),))) as origin:
        done = _together(origin, seconds)
        answered, refused = origin.counts()
    ideal = limit / latency * seconds
    jain = sum(done) ** 2 / (len(done) * sum(n * n for n in done))
    return [
        Figure(
            "eight processes on one limit of 40: done / ideal",
            sum(done) / ideal,
            0.85,
            detail=f"{sum(done)} / {ideal:.0f}, {refused / (answered + refused):.1%} refused",
        ),
        Figure(
            "eight processes on one limit of 40: Jain's fairness",
            jain,
            0.9,
            detail=", ".join(map(str, done)),
        ),
    ]


async def _list_all(url: str, listings: int) -> tuple[float, int]:
    async with open_session(Credentials("AC", "x"), base_url=url) as marketplace:

        async def count(_: int) -> int:
            pager = marketplace.available_add_ons(ADD_ON).extensions.list(page_size=50)
            return len(await pager.to_list())

        start = time.monotonic()
        complete = 0
        async with marketplace.fan_out(count, range(listings)) as outcomes:
            async for outcome in outcomes:
                complete += outcome.value == PAGES * 50
        return time.monotonic() - start, complete


def at_a_rate() -> Figure:
    """List from a server that takes so many requests a second and says how long to wait."""
    listings, rate = 60, 20
    with serving(Behaviour(latency=0.05, per_second=rate, items=PAGES * 50)) as origin:
        taken, complete = asyncio.run(_list_all(origin.url, listings))
        _, refused = origin.counts()
    ideal = listings * PAGES / rate - 1  # the first second's may be sent at once
    return Figure(
        f"{listings} listings of {PAGES} pages, {rate} requests a second: time / ideal",
        taken / ideal,
        1.3,
        at_least=False,
        detail=f"{taken:.2f} s / {ideal:.1f} s, {complete} complete, {refused} refused",
    )


def measure() -> tuple[list[Figure], list[Run]]:
    """Measure every case; the runs are for the plot."""
    figures: list[Figure] = []
    runs: list[Run] = []
    for limit, latency in ((5, 0.05), (40, 0.05), (200, 0.1)):
        found, run = _one(
            f"fan-out, {limit} admitted, {latency * 1e3:.0f} ms", ((0, limit),), latency,
            ROUNDS * limit, ROUNDS * latency, 0.90,
        )  # fmt: skip
        figures += found
        runs.append(run)
    phase, latency = 4.0, 0.05
    admits = ((0.0, 40), (phase, 20), (2 * phase, 40))
    requests = int((40 + 20 + 40) * phase / latency)
    found, run = _one(
        "fan-out, 40 admitted, then 20, then 40", admits, latency, requests, 3 * phase, 0.85
    )
    figures += found
    runs.append(run)
    return [*figures, at_a_rate(), *processes()], runs
