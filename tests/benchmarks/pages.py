"""Pages and listings: conversion, sparse responses, memory, prefetching, import time."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from client import session_at
from report import Figure
from server import ADD_ON, ADD_ONS_PATH, EXTENSION, Behaviour, extension, page, serving

from marketplace_async import AvailableAddOn, Extension, MarketplaceError, RetryPolicy
from marketplace_async.conversion import read_page

STREAM = r"""
import asyncio, re, sys
from pathlib import Path
from marketplace_async import Credentials, open_session
async def main(url, add_on):
    count = 0
    async with open_session(Credentials("AC", "x"), base_url=url) as marketplace:
        async for _ in marketplace.available_add_ons(add_on).extensions.list(page_size=1000):
            count += 1
    print(count, re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
asyncio.run(main(*sys.argv[1:]))
"""


def add_on(number: int, **fields: Any) -> dict[str, Any]:
    """Return an Add-on as in https://www.twilio.com/docs/marketplace/api/available-add-ons."""
    sid = f"XB{number:032x}"
    url = f"https://marketplace.twilio.com{ADD_ONS_PATH}/{sid}"
    return {
        "sid": sid,
        "friendly_name": "High Accuracy Transcription",
        "description": "Turns recorded speech into text.",
        "pricing_type": "per minute",
        "configuration_schema": {
            "type": "object",
            "properties": {"bad_words": {"type": "boolean"}},
            "required": ["bad_words"],
        },
        "url": url,
        "links": {"extensions": f"{url}/Extensions"},
    } | fields


def _median(function: Callable[[], object], repeat: int) -> float:
    times: list[float] = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def _twilio_python(model: type[Any], text: bytes) -> Callable[[], list[Any]]:
    """Return the conversion of a page by twilio-python."""
    from twilio.base.version import Version  # noqa: PLC0415  # a peer
    from twilio.http.response import Response  # noqa: PLC0415
    from twilio.rest import Client  # noqa: PLC0415
    from twilio.rest.marketplace.v1.available_add_on import AvailableAddOnPage  # noqa: PLC0415
    from twilio.rest.marketplace.v1.available_add_on.available_add_on_extension import (  # noqa: PLC0415
        AvailableAddOnExtensionPage,
    )

    version: Version = Client("AC" + "0" * 32, "x").marketplace.v1
    parent = {"available_add_on_sid": ADD_ON}

    def convert() -> list[Any]:
        response = Response(200, text.decode())
        if model is Extension:
            return list(AvailableAddOnExtensionPage(version, response, parent))
        return list(AvailableAddOnPage(version, response))

    return convert


def conversion(
    model: type[AvailableAddOn | Extension],
    item: Callable[..., dict[str, Any]],
    null: str | None = None,
) -> list[Figure]:
    """Convert a page of 1000 items to models; in every tenth one, the field ``null`` is null."""
    nulls = {null: None} if null else {}
    items = [item(n, **({} if n % 10 else nulls)) for n in range(1000)]
    key = "extensions" if model is Extension else "available_add_ons"
    text = page(json.dumps(items).encode(), 0, 1000, last=True, key=key)
    ours, theirs = partial(read_page, model, text), _twilio_python(model, text)
    assert len(theirs()) == 1000
    pairs = [(_median(ours, 3), _median(theirs, 3)) for _ in range(30)]
    our_time, their_time = (statistics.median(side) for side in zip(*pairs, strict=True))
    return [
        Figure(
            f"a page of 1000 {model.__name__}{' with nulls' if null else ''}, "
            "bytes to models: ours / twilio-python",
            statistics.median(a / b for a, b in pairs),
            0.4,
            at_least=False,
            detail=f"{our_time * 1e3:.2f} ms / {their_time * 1e3:.2f} ms",
        )
    ]


async def _errors(url: str, handles: int) -> Counter[str]:
    async with session_at(url, retry=RetryPolicy.off()) as marketplace:
        errors: Counter[str] = Counter()
        for number in range(handles):
            handle = marketplace.available_add_ons(f"XB{number:032x}")
            calls: list[Awaitable[object]] = [
                handle.fetch(),
                handle.extensions(EXTENSION).fetch(),
                handle.extensions.list().to_list(),
            ]
            for call in calls:
                try:
                    await call
                except MarketplaceError as error:
                    errors[type(error).__name__] += 1
        return errors


def sparse() -> list[Figure]:
    """Fetch and list healthy responses with little in them."""
    names = "friendly_name description pricing_type configuration_schema url links"
    add_ons: list[dict[str, Any]] = [
        dict.fromkeys(names.split()),
        {},
        {"links": {"extensions": None}},
        {"configuration_schema": [{"type": "string"}, None]},
        {"configuration_schema": True},
    ]
    names = "available_add_on_sid friendly_name product_name unique_name url"
    extensions: list[dict[str, Any]] = [dict.fromkeys(names.split()), {}]
    names = "page page_size first_page_url previous_page_url url key next_page_url"
    next_page = f"{ADD_ONS_PATH}/XB{4:032x}/Extensions?Page=1&PageToken=t"
    metas: list[dict[str, Any]] = [
        dict.fromkeys(names.split()),
        {},
        {"next_page_url": None},
        {"next_page_url": ""},
        {"next_page_url": f"https://marketplace.twilio.com{next_page}"},
    ]
    bodies: dict[str, Any] = {next_page: {"extensions": [], "meta": {}}}
    for number, meta in enumerate(metas):
        path = f"{ADD_ONS_PATH}/XB{number:032x}"
        item = {"sid": EXTENSION} | extensions[number % 2]
        bodies[path] = {"sid": path.rpartition("/")[2]} | add_ons[number]
        bodies[f"{path}/Extensions/{EXTENSION}"] = item
        bodies[f"{path}/Extensions"] = {"extensions": [item], "meta": meta}
    behaviour = Behaviour(bodies={path: json.dumps(body).encode() for path, body in bodies.items()})
    with serving(behaviour) as server:
        errors = asyncio.run(_errors(server.url, len(metas)))
    detail = ", ".join(f"{count} {error}" for error, count in errors.items())
    title = f"{3 * len(metas)} healthy responses with few fields: errors"
    return [Figure(title, errors.total(), 0, at_least=False, detail=detail)]


def memory() -> list[Figure]:
    """Compare the peak memory of streaming 1,000,000 items and 10,000.

    It is not read from getrusage, which counts the memory of the parent process too.
    """
    peaks: dict[int, int] = {}
    for items in (10_000, 1_000_000):
        with serving(Behaviour(items=items)) as server:
            command = [sys.executable, "-c", STREAM, server.url, ADD_ON]
            output = subprocess.check_output(command, text=True, timeout=300)
        count, peaks[items] = map(int, output.split())
        assert count == items
    return [
        Figure(
            "peak memory, streaming 1,000,000 items / 10,000 items",
            peaks[1_000_000] / peaks[10_000],
            1.1,
            at_least=False,
            detail=f"{peaks[1_000_000] / 1024:.1f} MiB / {peaks[10_000] / 1024:.1f} MiB",
        )
    ]


async def _overlap(url: str, pages: int) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    async with session_at(url) as marketplace, asyncio.timeout(60):
        extensions = marketplace.available_add_ons(ADD_ON).extensions
        await extensions.list(page_size=100).first()
        start = loop.time()
        async for _ in extensions.list(page_size=100).pages():
            pass
        a_fetch = (loop.time() - start) / pages
        start = loop.time()
        async for _ in extensions.list(page_size=100, prefetch=True).pages():
            await asyncio.sleep(a_fetch)
        return loop.time() - start, a_fetch * (pages + 1)


def prefetch() -> list[Figure]:
    """Time a listing whose consumer takes as long as a request."""
    with serving(Behaviour(latency=0.02, items=10_000)) as server:
        taken, ideal = asyncio.run(_overlap(server.url, 100))
    return [
        Figure(
            "paging with prefetch, time / ideal of full overlap",
            taken / ideal,
            1.15,
            at_least=False,
            detail=f"{taken:.2f} s / {ideal:.2f} s",
        )
    ]


def import_time() -> list[Figure]:
    """Time the import of the library after that of aiohttp."""
    code = (
        "import aiohttp, time; start = time.perf_counter(); import marketplace_async; "
        "print(time.perf_counter() - start)"
    )
    # pip compiles what it installs; other installers leave it to the first import.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", code], env=environ)) for _ in range(15)
    ]
    return [
        Figure(
            "`import marketplace_async` after `import aiohttp`",
            statistics.median(seconds) * 1e3,
            40,
            at_least=False,
            unit="&nbsp;ms",
        )
    ]


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "page-extensions": partial(conversion, Extension, extension),
    "page-extensions-null": partial(conversion, Extension, extension, "product_name"),
    "page-add-ons": partial(conversion, AvailableAddOn, add_on),
    "page-add-ons-null": partial(conversion, AvailableAddOn, add_on, "pricing_type"),
    "sparse": sparse,
    "memory": memory,
    "prefetch": prefetch,
    "import": import_time,
}
