"""CPU of a fetch at 50 in flight: this library and what one would use instead of it."""

import asyncio
import os
import statistics
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
from client import session_at
from report import Figure
from server import ADD_ON, EXTENSION, ITEMS_PATH, Behaviour, serving
from yarl import URL

IN_FLIGHT = 50
BATCH = 500
ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "120"))
USERNAME, PASSWORD = "AC" + "0" * 32, "not-a-secret"
GOALS = {"plain_aiohttp": 1.10, "tuned_aiohttp": 0.95, "twilio_python": 1.4}

Fetch = Callable[[], Awaitable[object]]


async def plain_aiohttp(url: str, stack: AsyncExitStack) -> Fetch:
    """Return a fetch with aiohttp as an ordinary user writes it."""
    headers = {"Authorization": aiohttp.encode_basic_auth(USERNAME, PASSWORD)}
    http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
    at_once = asyncio.Semaphore(IN_FLIGHT)

    async def fetch() -> Any:
        async with at_once, http.get(f"{url}{ITEMS_PATH}/{EXTENSION}") as response:
            response.raise_for_status()
            return await response.json()

    return fetch


async def tuned_aiohttp(url: str, stack: AsyncExitStack) -> Fetch:
    """Return the cheapest fetch with aiohttp: no types, no retries, no limit."""
    http = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": aiohttp.encode_basic_auth(USERNAME, PASSWORD)},
            timeout=aiohttp.ClientTimeout(total=15),
        )
    )
    target = URL(f"{url}{ITEMS_PATH}/{EXTENSION}", encoded=True)
    decode = msgspec.json.Decoder(dict).decode

    async def fetch() -> Any:
        async with http.get(target, allow_redirects=False) as response:
            return decode(await response.read())

    return fetch


async def twilio_python(url: str, stack: AsyncExitStack) -> Fetch:
    """Return a fetch with the asyncio client of twilio-python."""
    from twilio.http.async_http_client import AsyncTwilioHttpClient  # noqa: PLC0415  # a peer
    from twilio.rest import Client  # noqa: PLC0415

    class Redirected(AsyncTwilioHttpClient):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            method, target, *others = args
            target = target.replace("https://marketplace.twilio.com", url)
            return super().request(method, target, *others, **kwargs)

    transport = await stack.enter_async_context(Redirected())
    client = Client(USERNAME, PASSWORD, http_client=transport)

    async def fetch() -> Any:
        handle = client.marketplace.v1.available_add_ons(ADD_ON).extensions(EXTENSION)
        return await handle.fetch_async()

    return fetch


async def ours(url: str, stack: AsyncExitStack) -> Fetch:
    """Return a fetch with this library at default settings."""
    marketplace = await stack.enter_async_context(session_at(url))
    return marketplace.available_add_ons(ADD_ON).extensions(EXTENSION).fetch


async def _cpu_of_a_fetch(fetch: Fetch) -> float:
    numbers = iter(range(BATCH))

    async def worker() -> None:
        for _ in numbers:
            await fetch()

    start = time.process_time()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return (time.process_time() - start) / BATCH


async def _alternately(url: str) -> dict[str, list[float]]:
    peers = (plain_aiohttp, tuned_aiohttp, twilio_python, ours)
    async with AsyncExitStack() as stack:
        fetches = {peer.__name__: await peer(url, stack) for peer in peers}
        for fetch in fetches.values():
            await _cpu_of_a_fetch(fetch)
        seconds: dict[str, list[float]] = {name: [] for name in fetches}
        for _ in range(ROUNDS):
            for name, fetch in fetches.items():
                seconds[name].append(await _cpu_of_a_fetch(fetch))
    return seconds


def cpu() -> list[Figure]:
    """Compare batch by batch in turn, because the speed of a machine may change."""
    with warnings.catch_warnings(), serving(Behaviour()) as server:
        warnings.simplefilter("ignore")  # twilio-python uses what aiohttp deprecates
        seconds = asyncio.run(_alternately(server.url))
    figures: list[Figure] = []
    for name, goal in GOALS.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios)
        title = f"CPU of a fetch, {name.replace('_', ' ')} / ours"
        detail = f"half of the batches: {low:.2f} to {high:.2f}"
        figures.append(Figure(title, middle, goal, detail=detail))
    return figures


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {"cpu": cpu}
