"""Make many calls to a bad server and check that none is lost.

One response in twenty is an error or cut short. The server is down three times, and for a while it
admits half as many requests at once. The client may open few files. Each call must succeed once,
with its own response; memory and file descriptors must not grow; no warning may be logged. The
exit status is 1 otherwise.

    python tests/soak.py [--calls 100000] [--quick]
"""

import argparse
import asyncio
import gc
import logging
import math
import os
import resource
import sys
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from server import ADD_ON, Behaviour, Server, serving

from marketplace_async import Credentials, MarketplaceSession, Outcome, RetryEvent, open_session

USUAL = Behaviour(latency=0.01, admits=((0, 40),), items=6, numbered=True, faults=0.05)
COURSE = (
    (0.15, Behaviour(closes=True), 5),
    (0.30, Behaviour(latency=0.01, admits=((0, 20),), items=6, numbered=True, faults=0.05), 20),
    (0.60, None, 15),
    (0.80, Behaviour(unavailable=True), 30),
)
"""After which share of the calls the server changes, its behaviour (``None``: its process is
killed), and for how many seconds."""

DESCRIPTORS = 128
"""How many files the client may open. It must leave half of them to others."""
MEMORY_GROWTH = 0.10
"""The maximum growth after the first fifth of the calls."""
SAMPLES = 20

LISTING_EVERY = 50
PAGE_SIZE = 2


class Violations(logging.Handler):
    """Collect what must not happen, warnings in the log included."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []
        logging.getLogger().addHandler(self)
        logging.captureWarnings(capture=True)
        warnings.simplefilter("always")
        sys.unraisablehook = lambda raised: self.add(f"unraisable: {raised.exc_value!r}")

    def emit(self, record: logging.LogRecord) -> None:
        self.add(f"{record.name}: {record.getMessage()}")

    def add(self, violation: str, *, unless: bool = False) -> None:
        if not unless:
            self.found.append(violation)


async def call(marketplace: MarketplaceSession, number: int) -> bool:
    """Fetch an extension, or list all, and return True if the response is the right one."""
    extensions = marketplace.available_add_ons(ADD_ON).extensions
    if number % LISTING_EVERY:
        items, numbers = [await extensions(f"XF{number:032x}").fetch()], range(number, number + 1)
    else:
        items, numbers = await extensions.list(page_size=PAGE_SIZE).to_list(), range(USUAL.items)
    return [item.unique_name for item in items] == [f"voice-incoming-{n}" for n in numbers]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_memory() -> float:
    """Return the resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Soak:
    """The calls, and what is recorded meanwhile."""

    def __init__(self, calls: int, haste: float) -> None:
        self.calls = calls
        self.haste = haste
        self.violations = Violations()
        self.retries: Counter[str] = Counter()
        self.ended = bytearray(calls)
        self.taken = self.lost = 0
        self.memory: list[float] = []
        self.descriptors: list[int] = []

    async def run(self, server: Server) -> None:
        """Make all calls in one fan-out at default settings."""
        session = open_session(Credentials("AC", "x"), base_url=server.url, on_retry=self.count)
        before = open_descriptors()
        async with (
            asyncio.timeout(300 + self.calls / 100),
            asyncio.TaskGroup() as group,
            session as marketplace,
        ):
            course = group.create_task(self.change(server))
            work = marketplace.fan_out(partial(call, marketplace), range(self.calls))
            async with work as outcomes:
                async for outcome in outcomes:
                    self.take(outcome)
            self.violations.add("the server did not recover in time", unless=course.done())
            course.cancel()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        self.violations.add(f"tasks left: {tasks}", unless=not tasks)
        self.violations.add("file descriptors left", unless=open_descriptors() == before)

    async def change(self, server: Server) -> None:
        """Change the server's behaviour during the calls."""
        for share, behaviour, seconds in COURSE:
            while self.taken < share * self.calls:
                await asyncio.sleep(0.01)
            if behaviour:
                await asyncio.to_thread(server.change, behaviour)
            else:
                await asyncio.to_thread(server.kill)
            await asyncio.sleep(seconds / self.haste)
            await asyncio.to_thread(server.change, USUAL)

    def count(self, event: RetryEvent) -> None:
        self.retries[type(event.error).__name__] += 1

    def take(self, outcome: Outcome[int, bool]) -> None:
        number = outcome.input
        self.violations.add(f"call {number} ended twice", unless=not self.ended[number])
        self.ended[number] = 1
        self.taken += 1
        if outcome.error is not None:
            self.lost += 1
            self.violations.add(f"call {number}: {outcome.error!r}")
        elif not outcome.value:
            self.violations.add(f"call {number} got a wrong response")
        if self.taken % (self.calls // SAMPLES) == 0:
            gc.collect()
            self.memory.append(resident_memory())
            self.descriptors.append(open_descriptors())

    def report(self, seconds: float) -> int:
        """Check the samples, print the figures, and return the exit status."""
        lost = self.lost + self.ended.count(0)
        self.violations.add(f"{lost} calls lost", unless=not lost)
        self.violations.add("no call was retried", unless=self.retries.total() > 0)
        # Nothing is sampled if the calls hang at once.
        early = self.memory[: SAMPLES // 5] or [math.nan]
        late = self.memory[SAMPLES // 5 :] or [math.nan]
        growth = max(late) / max(early) - 1
        self.violations.add("memory grew", unless=growth <= MEMORY_GROWTH)
        most = max(self.descriptors, default=0)
        self.violations.add("too many descriptors", unless=most <= DESCRIPTORS // 2)
        print(
            f"{self.calls} calls in {seconds:.1f} s, {lost} lost",
            f"retries: {self.retries.total()}",
            *(f"    {count:6} after {error}" for error, count in sorted(self.retries.items())),
            f"file descriptors: at most {most}",
            f"memory: at most {max(early):.1f} MB early, {max(late):.1f} MB late ({growth:+.1%})",
            f"violations: {len(self.violations.found)}",
            *self.violations.found[:20],
            sep="\n",
        )
        return 1 if self.violations.found else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="5,000 calls and short outages")
    arguments = parser.parse_args()
    soak = Soak(5_000, 10) if arguments.quick else Soak(arguments.calls, 1)
    start = time.monotonic()
    with serving(USUAL) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        try:
            asyncio.run(soak.run(server))
        except TimeoutError:
            soak.violations.add("the calls did not end in time")
    return soak.report(time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
