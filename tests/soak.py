"""100,000 calls at 64 in flight against a server of which 5 % of the answers are faults.

``python tests/soak.py [CALLS]``, on Linux, prints what it saw and gives 1 if an answer was lost
or given twice, if anything was left open or grew, or if a warning was raised.
"""

import asyncio
import logging
import multiprocessing
import resource
import sys
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from marketplace_async import Credentials, MarketplaceError, RetryPolicy, open_session
from marketplace_async.sandbox import Sandbox

IN_FLIGHT = 64
FAULTS = 0.05
WARM_UP = 5_000


def serve(pipe: Connection) -> None:
    """Run a sandbox until told to end."""

    async def run() -> None:
        async with Sandbox(failure_rate=FAULTS) as sandbox:
            pipe.send((sandbox.url, sandbox.credentials, list(sandbox.catalog)))
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(run())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def soak(url: str, credentials: Credentials, sids: list[str], calls: int) -> list[str]:
    """Give what was wrong."""
    loop = asyncio.get_running_loop()
    unhandled: list[str] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(str(context["message"])))
    errors: Counter[str] = Counter()
    retries = 0
    wrong = 0
    answered = bytearray(calls)

    def count(_: object) -> None:
        nonlocal retries
        retries += 1

    async def fetch(number: int) -> tuple[int, str]:
        sid = sids[number % len(sids)]
        return number, (await marketplace.available_add_ons(sid).fetch()).sid

    # Waits are short, for there are thousands; everything else is as users have it.
    policy = RetryPolicy(wait_initial=0.02, wait_max=0.5)
    files_before = open_files()
    after_warm_up = (0, 0)
    start = time.monotonic()
    async with open_session(credentials, base_url=url, retry=policy, on_retry=count) as marketplace:
        outcomes = marketplace.fan_out(fetch, range(calls), max_in_flight=IN_FLIGHT)
        done = 0
        async with outcomes:
            async for outcome in outcomes:
                done += 1
                answered[outcome.input] += 1
                if outcome.error is not None:
                    errors[type(outcome.error).__name__] += 1
                    wrong += not isinstance(outcome.error, MarketplaceError)
                elif outcome.unwrap() != (outcome.input, sids[outcome.input % len(sids)]):
                    wrong += 1
                if done == min(WARM_UP, calls // 2):
                    after_warm_up = (open_files(), resident_bytes())
        at_the_end = (open_files(), resident_bytes())
    await asyncio.sleep(0.1)  # for closed sockets to be taken out of the selector
    seconds = time.monotonic() - start
    files_after, tasks = open_files(), len(asyncio.all_tasks())
    growth = (at_the_end[1] - after_warm_up[1]) / 2**20
    print(f"calls: {calls}, {calls / seconds:.0f} a second, {IN_FLIGHT} in flight at the most")
    print(f"retries: {retries}, calls that ended in an error: {dict(errors)}")
    print(f"answers: {sum(answered)}, never: {answered.count(0)}, wrong: {wrong}")
    print(
        f"open files: {files_before} before, {after_warm_up[0]} warm, {at_the_end[0]} at the end,"
    )
    print(f"            {files_after} after closing; tasks left: {tasks - 1}")
    print(f"memory: {after_warm_up[1] / 2**20:.1f} MiB warm, {growth:+.1f} MiB since")
    problems = {
        "an answer was lost or given twice": set(answered) != {1},
        "an answer was wrong": wrong > 0,
        "more calls failed than six attempts explain": sum(errors.values()) > calls * FAULTS**3,
        "files were left open": files_after > files_before,
        "tasks were left": tasks > 1,
        "memory grew": growth > 8,
        f"the event loop heard of {unhandled[:3]}": bool(unhandled),
    }
    return [problem for problem, found in problems.items() if found]


def main() -> int:
    """Give 0 if all was well."""
    warnings.simplefilter("error")
    logging.basicConfig(level=logging.WARNING)
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    server.start()
    try:
        url, credentials, sids = here.recv()
        problems = asyncio.run(soak(url, credentials, sids, calls))
        here.send("end")
        server.join(10)
    finally:
        server.kill()
        server.join()
        server.close()
    for problem in problems:
        print(f"NOT WELL: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
