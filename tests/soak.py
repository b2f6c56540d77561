"""Many calls through faults of every kind, to see whether anything is lost, doubled or left.

A server in a process of its own spoils one answer in twenty. Each call must give the right
answer, once; file descriptors and memory must stay flat; nothing may be warned of. The figures
are printed, and the exit status is 1 if something was violated.

    python tests/soak.py [--calls 100000] [--in-flight 64] [--faults 0.05] [--seed 1]
"""

import argparse
import asyncio
import contextlib
import gc
import gzip
import json
import logging
import os
import random
import signal
import socket
import struct
import sys
import time
import warnings
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parent / "support"))

from wire import (
    ADD_ON,
    CANONICAL,
    CREDENTIALS,
    answer,
    chunked,
    error,
    extension,
    head,
    page,
)

from marketplace_async import (
    MarketplaceSession,
    Outcome,
    RetryEvent,
    RetryPolicy,
    Timeout,
    open_session,
)

SAMPLES = 20
PAGES_OF_A_LISTING = 3
MEMORY_GROWTH = 0.10
"""The most by which the resident memory may grow after the first fifth of the calls."""


# The server


class Server(asyncio.Protocol):
    """Answers each request, and spoils a share of the answers."""

    spoiled: ClassVar[Counter[str]] = Counter()
    requests: ClassVar = 0
    share: ClassVar = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            request, _, self.received = self.received.partition(b"\r\n\r\n")
            self.answer(request.split(b" ", 2)[1].decode())

    def answer(self, target: str) -> None:
        Server.requests += 1
        body = json.dumps(asked_for(target)).encode()
        whole = random.choice((answer, zipped, in_chunks))(body)
        if random.random() >= self.share:
            self.transport.write(whole)
            return
        fault = random.choice(FAULTS)
        Server.spoiled[fault.__name__] += 1
        fault(self, whole)

    # What becomes of a spoiled answer

    def refused(self, whole: bytes) -> None:
        self.transport.write(error(random.choice((408, 429, 500, 502, 503, 504))))

    def not_json(self, whole: bytes) -> None:
        self.transport.write(answer(b"<html>Whatever</html>"))

    def not_http(self, whole: bytes) -> None:
        self.transport.write(b"Whatever\r\n\r\n")

    def truncated(self, whole: bytes) -> None:
        self.transport.write(answer(whole[-40:]))

    def closed(self, whole: bytes) -> None:
        self.transport.close()

    def reset(self, whole: bytes) -> None:
        sock: socket.socket = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def cut(self, whole: bytes) -> None:
        self.transport.write(whole[: random.randrange(len(whole))])
        self.transport.close()

    def cut_and_reset(self, whole: bytes) -> None:
        self.transport.write(whole[: random.randrange(len(whole))])
        asyncio.get_running_loop().call_later(0.005, self.reset, b"")

    def closed_behind(self, whole: bytes) -> None:
        self.transport.write(whole)
        self.transport.close()

    def never_ended(self, whole: bytes) -> None:
        self.transport.write(whole[: random.randrange(len(whole))])

    def in_drops(self, whole: bytes) -> None:
        for moment in range(4):
            piece = whole[moment * len(whole) // 4 : (moment + 1) * len(whole) // 4]
            asyncio.get_running_loop().call_later(0.01 * moment, self.transport.write, piece)

    def with_another(self, whole: bytes) -> None:
        self.transport.write(whole + answer(extension(random.randrange(1, 1_000_000))))


FAULTS: tuple[Callable[[Server, bytes], None], ...] = (
    Server.refused,
    Server.not_json,
    Server.not_http,
    Server.truncated,
    Server.closed,
    Server.reset,
    Server.cut,
    Server.cut_and_reset,
    Server.closed_behind,
    Server.never_ended,
    Server.in_drops,
    Server.with_another,
)


def zipped(body: bytes) -> bytes:
    return answer(gzip.compress(body, compresslevel=1), Content_Encoding="gzip")


def in_chunks(body: bytes) -> bytes:
    half = len(body) // 2
    return head(Transfer_Encoding="chunked") + chunked(body[:half], body[half:], b"")


def asked_for(target: str) -> dict[str, Any]:
    """The Extension of the number in the target, or a page of those of a listing's number."""
    path, _, query = target.partition("?")
    if not query:
        return numbered(int(path.rpartition("XF")[2], 16))
    listing, _, index = query.partition("-")[2].partition("-")
    items = [numbered(int(listing) * 10 + int(index))]
    last = int(index) + 1 == PAGES_OF_A_LISTING
    return page([], None if last else page_url(int(listing), int(index) + 1)) | {
        "extensions": items
    }


def numbered(number: int) -> dict[str, Any]:
    return extension(number, friendly_name=f"Number {number}")


def page_url(listing: int, index: int) -> str:
    token = f"PageToken=t-{listing}-{index}"
    return f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}/Extensions?{token}"


async def serve(share: float) -> None:
    """Print the port, serve until the standard input ends, and print what was done."""
    Server.share = share
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    print(json.dumps({"requests": Server.requests, "spoiled": dict(Server.spoiled)}), flush=True)


@contextlib.asynccontextmanager
async def server_beside(
    arguments: argparse.Namespace,
) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """The URL of a server in another process, and what it did once that is over."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--serve",
        f"--faults={arguments.faults}",
        f"--seed={arguments.seed}",
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdout is not None
    done: dict[str, Any] = {}
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}", done
        told, _ = await process.communicate()
        done |= json.loads(told)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# The client


class Violations(logging.Handler):
    """Everything that should not be: collected from logs, hooks and checks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []
        logging.getLogger().addHandler(self)
        logging.captureWarnings(capture=True)
        warnings.simplefilter("always")
        sys.unraisablehook = lambda raised: self.add(f"unraisable: {raised.exc_value!r}")

    def emit(self, record: logging.LogRecord) -> None:
        self.add(f"{record.name}: {record.getMessage()}")

    def add(self, violation: str) -> None:
        self.found.append(violation)

    def unless(self, holds: bool, violation: str) -> None:  # noqa: FBT001  # a condition
        if not holds:
            self.add(violation)


async def fetch_right(session: MarketplaceSession, number: int) -> str:
    """Make the call of that number, and say what was wrong with the answer."""
    extensions = session.available_add_ons(ADD_ON).extensions
    if number % 50:
        item = await extensions(f"XF{number + 1:032x}").fetch()
        right = item.friendly_name == f"Number {number + 1}"
        return "" if right else f"call {number} got {item}"
    pager = extensions.list(resume_from=page_url(number, 0), prefetch=number // 50 % 2)
    names = [item.friendly_name async for item in pager]
    right = names == [f"Number {number * 10 + index}" for index in range(PAGES_OF_A_LISTING)]
    return "" if right else f"listing {number} got {names}"


def resident_memory() -> int:
    """In bytes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def file_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Soak:
    """The calls, and what is noted meanwhile."""

    def __init__(self, calls: int, in_flight: int) -> None:
        self.calls = calls
        self.in_flight = in_flight
        self.violations = Violations()
        self.retries: Counter[str] = Counter()
        self.answered = bytearray(calls)
        self.taken = 0
        self.memory: list[int] = []
        self.descriptors: list[int] = []
        self.seconds = 0.0

    async def run(self, url: str) -> None:
        before, began = file_descriptors(), time.monotonic()
        async with open_session(
            CREDENTIALS,
            base_url=url,
            retry=RetryPolicy(attempts=10, wait_initial=0.005, wait_max=0.05),
            timeout=Timeout(total=120, attempt=0.5),
            limiter=asyncio.Semaphore(self.in_flight),
            on_retry=self.count,
        ) as session:
            work = session.fan_out(
                partial(fetch_right, session), range(self.calls), max_in_flight=self.in_flight
            )
            async with work as outcomes:
                async for outcome in outcomes:
                    self.take(outcome)
        self.seconds = time.monotonic() - began
        others = asyncio.all_tasks() - {asyncio.current_task()}
        self.violations.unless(not others, f"tasks left: {others}")
        self.violations.unless(file_descriptors() == before, "file descriptors left")
        self.violations.unless(all(self.answered), f"{self.answered.count(0)} calls lost")

    def count(self, event: RetryEvent) -> None:
        self.retries[type(event.error).__name__] += 1

    def take(self, outcome: Outcome[int, str]) -> None:
        number = outcome.input
        self.violations.unless(not self.answered[number], f"call {number} was answered twice")
        self.answered[number] = 1
        self.taken += 1
        problem = f"call {number}: {outcome.error}" if outcome.error else outcome.value
        self.violations.unless(not problem, str(problem))
        if self.taken % (self.calls // SAMPLES) == 0:
            gc.collect()
            self.memory.append(resident_memory())
            self.descriptors.append(file_descriptors())

    def report(self, done: dict[str, Any]) -> None:
        """Judge the samples, and print the figures."""
        early, late = max(self.memory[: SAMPLES // 5]), max(self.memory[SAMPLES // 5 :])
        growth = late / early - 1
        self.violations.unless(growth <= MEMORY_GROWTH, f"memory grew by {growth:.0%}")
        least, most = min(self.descriptors), max(self.descriptors)
        self.violations.unless(most - least <= self.in_flight, "file descriptors grew")
        requests, spoiled = done["requests"], sum(done["spoiled"].values())
        self.violations.unless(spoiled > 0, "no answer was spoiled")
        print(
            f"{self.calls} calls, {self.in_flight} in flight, in {self.seconds:.1f} s",
            f"{requests} requests, {spoiled} of them spoiled ({spoiled / requests:.1%})",
            *(f"    {count:6} {fault}" for fault, count in sorted(done["spoiled"].items())),
            f"{self.retries.total()} retries",
            *(f"    {count:6} after {error}" for error, count in sorted(self.retries.items())),
            f"lost: {self.answered.count(0)}",
            f"file descriptors: {least} to {most}",
            f"memory: {early / 1e6:.1f} MB early, {late / 1e6:.1f} MB late ({growth:+.1%})",
            f"violations: {len(self.violations.found)}",
            *self.violations.found[:20],
            sep="\n",
        )


async def soak(arguments: argparse.Namespace) -> int:
    """Make the calls, print the figures, and give the exit status."""
    soak = Soak(arguments.calls, arguments.in_flight)
    async with server_beside(arguments) as (url, done):
        await soak.run(url)
    soak.report(done)
    return 1 if soak.violations.found else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    if arguments.serve:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(serve(arguments.faults))
        return 0
    return asyncio.run(soak(arguments))


if __name__ == "__main__":
    sys.exit(main())
