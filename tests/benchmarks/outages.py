"""A server that is down for a while: nothing is lost, and it is left in peace."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial

from client import Run, fetch, fetch_all, session_at
from report import Figure
from server import Behaviour, Server, serving

from marketplace_async import MarketplaceError, MarketplaceSession

SECONDS = 12
DOWN = {"503": Behaviour(unavailable=True), "closed": Behaviour(closes=True)}


async def _survive(server: Server, requests: int, outage: float) -> Run:
    async with session_at(server.url) as marketplace, asyncio.TaskGroup() as group:
        run = group.create_task(fetch_all(marketplace, requests, at_most=outage + 60))
        await asyncio.sleep(2)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(outage)
        await asyncio.to_thread(server.start)
    return run.result()


def killed(outage: float) -> list[Figure]:
    """Kill the server in the middle of a fan-out and start it again at the same port."""
    requests = 6000
    with serving(Behaviour(latency=0.04, admits=((0, 40),))) as server:
        run = asyncio.run(_survive(server, requests, outage))
    return [run.figure(f"{requests} fetches, server killed for {outage:g} s")]


async def _call(marketplace: MarketplaceSession, kind: str, calls: int) -> None:
    async def again_and_again() -> None:
        while True:
            with contextlib.suppress(MarketplaceError):
                await fetch(marketplace)
            await asyncio.sleep(0)

    match kind:
        case "batch":
            await fetch_all(marketplace, calls, at_most=SECONDS, max_in_flight=calls)
        case "direct":
            fetches = (fetch(marketplace) for _ in range(calls))
            await asyncio.gather(*fetches, return_exceptions=True)
        case _:
            await asyncio.gather(*(again_and_again() for _ in range(calls)))


async def _arrivals(server: Server, kind: str, calls: int) -> list[float]:
    """Return the seconds after which the requests arrived."""
    async with session_at(server.url) as marketplace:
        start = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await _call(marketplace, kind, calls)
        arrivals = (await asyncio.to_thread(server.counts)).arrivals
        return [moment - start for moment in arrivals if moment - start < SECONDS]


def load(kind: str, calls: int) -> list[Figure]:
    """Count the requests that a server gets while it is down."""
    worst = 0.0
    details: list[str] = []
    for how, behaviour in DOWN.items():
        with serving(behaviour) as server:
            arrivals = asyncio.run(_arrivals(server, kind, calls))
        first = sum(moment < 1 for moment in arrivals)
        late = sum(moment >= 5 for moment in arrivals) / (SECONDS - 5)
        worst = max(worst, late)
        details.append(f"{how}: {first} in the first second, {len(arrivals) / SECONDS:.1f} / s")
    title = f"server down, {calls} {kind} calls: requests per second after 5 s"
    return [Figure(title, worst, 5, at_least=False, detail="; ".join(details))]


async def _seconds_to_fail(server: Server) -> float:
    async with session_at(server.url) as marketplace:
        fan_out = asyncio.create_task(fetch_all(marketplace, 10_000, at_most=60))
        await asyncio.sleep(4)  # the fan-out finds the outage
        start = time.monotonic()
        with contextlib.suppress(MarketplaceError, TimeoutError):
            async with asyncio.timeout(11):
                await fetch(marketplace)
        seconds = time.monotonic() - start
        fan_out.cancel()
        await asyncio.wait([fan_out])
        return seconds


def fails_soon() -> list[Figure]:
    """Make a direct call while a fan-out waits for the end of an outage."""
    seconds: dict[str, float] = {}
    for how, behaviour in DOWN.items():
        with serving(behaviour) as server:
            seconds[how] = asyncio.run(_seconds_to_fail(server))
    with serving(Behaviour()) as server:
        server.kill()
        seconds["refused"] = asyncio.run(_seconds_to_fail(server))
    title = "a direct call in a long outage, beside a fan-out: time until it fails"
    detail = ", ".join(f"{how}: {each:.1f} s" for how, each in seconds.items())
    return [Figure(title, max(seconds.values()), 10, at_least=False, unit="&nbsp;s", detail=detail)]


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    **{f"killed-{seconds}": partial(killed, seconds) for seconds in (1, 6, 15, 25)},
    **{
        f"down-{kind}-{calls}": partial(load, kind, calls)
        for kind in ("direct", "batch")
        for calls in (1, 100, 10_000)
    },
    "down-repeated": partial(load, "repeated direct", 100),
    "down-fails-soon": fails_soon,
}
