"""Pages and listings: converting one, streaming a million items, reading ahead."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from figures import Figure
from origin import ADD_ON, Behaviour, page, serving

from marketplace_async import Credentials, Extension, open_session
from marketplace_async.conversion import page_structurer

STREAM = """
import asyncio, resource, sys
from marketplace_async import Credentials, open_session
async def main(url, add_on):
    count = 0
    async with open_session(Credentials("AC", "x"), base_url=url) as marketplace:
        async for _ in marketplace.available_add_ons(add_on).extensions.list(page_size=1000):
            count += 1
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
asyncio.run(main(*sys.argv[1:]))
"""


def _best(function: Callable[[], object], repeat: int = 30) -> float:
    times: list[float] = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def conversion() -> Figure:
    """Bytes of a page of 1000 items to objects, beside the vendor's untyped ones."""
    from twilio.base.version import Version  # noqa: PLC0415  # a peer
    from twilio.http.response import Response  # noqa: PLC0415
    from twilio.rest import Client  # noqa: PLC0415
    from twilio.rest.marketplace.v1.available_add_on.available_add_on_extension import (  # noqa: PLC0415
        AvailableAddOnExtensionPage,
    )

    text = page(0, 1000, 1000)
    structure = page_structurer("extensions", Extension)
    version: Version = Client("AC" + "0" * 32, "x").marketplace.v1
    solution = {"available_add_on_sid": ADD_ON}

    def vendors() -> object:
        return list(AvailableAddOnExtensionPage(version, Response(200, text.decode()), solution))

    assert len(structure(text)[0]) == len(list(vendors())) == 1000  # type: ignore[call-overload]
    pairs = [(_best(lambda: structure(text), 3), _best(vendors, 3)) for _ in range(30)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Figure(
        "a page of 1000 items, bytes to objects: ours / twilio-python",
        statistics.median(a / b for a, b in pairs),
        0.5,
        at_least=False,
        detail=f"{mine * 1e3:.2f} µs / {theirs * 1e3:.2f} µs an item",
    )


def memory() -> Figure:
    """Peak memory of streaming 1,000,000 items against 10,000."""
    peaks: dict[int, int] = {}
    for items in (10_000, 1_000_000):
        with serving(Behaviour(items=items)) as origin:
            command = [sys.executable, "-c", STREAM, origin.url, ADD_ON]
            run = subprocess.run(
                command, check=True, capture_output=True, text=True
            )  # our own code
        count, peaks[items] = map(int, run.stdout.split())
        assert count == items
    return Figure(
        "peak memory, streaming 1,000,000 items / 10,000 items",
        peaks[1_000_000] / peaks[10_000],
        1.1,
        at_least=False,
        detail=f"{peaks[1_000_000] / 1024:.1f} MiB / {peaks[10_000] / 1024:.1f} MiB",
    )


async def _overlap(url: str, pages: int) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    async with open_session(Credentials("AC", "x"), base_url=url) as marketplace:
        extensions = marketplace.available_add_ons(ADD_ON).extensions
        await extensions.list(page_size=100).first()
        start = loop.time()
        async for _ in extensions.list(page_size=100).pages():
            pass
        a_fetch = (loop.time() - start) / pages
        start = loop.time()
        async for _ in extensions.list(page_size=100, prefetch=1).pages():
            await asyncio.sleep(a_fetch)
        return loop.time() - start, a_fetch * (pages + 1)


def prefetch() -> Figure:
    """Time of a listing whose consumer takes as long as a fetch, with one page read ahead."""
    with serving(Behaviour(latency=0.02, items=10_000)) as origin:
        taken, ideal = asyncio.run(_overlap(origin.url, 100))
    return Figure(
        "paging with prefetch=1, time / ideal of full overlap",
        taken / ideal,
        1.15,
        at_least=False,
        detail=f"{taken:.2f} s / {ideal:.2f} s",
    )


def import_time() -> Figure:
    """What importing the library costs beyond importing aiohttp."""
    code = (
        "import aiohttp, time; start = time.perf_counter(); import marketplace_async; "
        "print(time.perf_counter() - start)"
    )
    # pip compiles what it installs; other installers leave it to the first import.
    with_bytecode = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds = [
        json.loads(subprocess.check_output([sys.executable, "-c", code], env=with_bytecode))
        for _ in range(15)
    ]
    return Figure(
        "`import marketplace_async` beyond `import aiohttp`",
        statistics.median(seconds) * 1e3,
        40,
        at_least=False,
        unit="&nbsp;ms",
    )


def measure() -> list[Figure]:
    """Measure pages and listings."""
    return [conversion(), memory(), prefetch(), import_time()]
