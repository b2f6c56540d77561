"""Many calls through a limiter to a server that refuses, simulated in virtual time.

A limiter is judged by how near it keeps the server to its limit and how few requests are
refused on the way. Only the server and the network are simulated; the limiter and the waits
between attempts are the library's own. Seconds cost next to nothing and each seed gives one
course of events.
"""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

import attrs
from virtual_time import VirtualTimeLoop

from marketplace_async.errors import MarketplaceError, RateLimitError
from marketplace_async.retry import RetryPolicy
from marketplace_async.transport import Limiter

__all__ = ["Course", "Server", "alone", "call", "in_virtual_time_now", "together"]

T = TypeVar("T")

WAITING_CALLS = 500  # as many as a fan-out has under way unless told otherwise
TRIP = 0.0005  # seconds to the server, and back, on average


def in_virtual_time_now(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own; without debugging, for speed."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=False) as runner:
        return runner.run(main)


class Server:
    """Answers so many requests at a time, each after the same time give or take 5 %.

    Those beyond are refused at once. ``admits`` gives how many that is at a time in seconds.
    """

    def __init__(self, admits: Callable[[float], int], latency: float, random: Random) -> None:
        self._admits = admits
        self._latency = latency
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0

    async def request(self) -> None:
        """Give an answer, or raise a `RateLimitError`."""
        await self._trip()
        if self._in_flight >= self._admits(self._loop.time()):
            await self._trip()
            raise RateLimitError(429)
        self._in_flight += 1
        await asyncio.sleep(self._latency * self._random.uniform(0.95, 1.05))
        self._in_flight -= 1
        await self._trip()

    async def _trip(self) -> None:
        await asyncio.sleep(TRIP * self._random.expovariate(1))


@attrs.define
class Course:
    """What became of a client's calls."""

    answered: int = 0
    refused: int = 0
    """Attempts that were refused."""
    lost: int = 0
    """Calls that were refused at each of their attempts."""
    seconds: float = 0.0

    @property
    def refused_share(self) -> float:
        return self.refused / (self.refused + self.answered)


async def call(
    limiter: Limiter, request: Callable[[], Coroutine[Any, Any, None]], random: Random,
    calls: int = 10**9, until: float = float("inf"),
) -> Course:  # fmt: skip
    """Make calls, each with the attempts and waits of the default policy, many at a time.

    Nothing is counted that happens after ``until``, and no call begun.
    """
    loop = asyncio.get_running_loop()
    policy = RetryPolicy()
    course = Course()
    numbers = iter(range(calls))

    def in_time() -> bool:
        return loop.time() < until

    async def attempt() -> MarketplaceError | None:
        try:
            async with limiter:
                await request()
        except MarketplaceError as error:
            course.refused += in_time()
            return error
        course.answered += in_time()
        return None

    async def worker() -> None:
        for _ in numbers:
            if not in_time():
                return
            attempts = 1
            while error := await attempt():
                wait = policy.wait(error, attempts, random.random)
                if wait is None:
                    course.lost += in_time()
                    break
                attempts += 1
                await asyncio.sleep(wait)

    await asyncio.gather(*(worker() for _ in range(WAITING_CALLS)))
    course.seconds = loop.time()
    return course


def alone(
    limiter: Callable[[], Limiter], admits: Callable[[float], int], latency: float, calls: int,
    seed: int = 0,
) -> Course:  # fmt: skip
    """Let one client make so many calls."""

    async def main() -> Course:
        random = Random(seed)
        return await call(limiter(), Server(admits, latency, random).request, random, calls)

    return in_virtual_time_now(main())


def together(
    limiter: Callable[[], Limiter], clients: int, admits: int, latency: float, seconds: float,
    seed: int = 0,
) -> list[Course]:  # fmt: skip
    """Let several clients, each with a limiter of its own, share a server for so long."""

    async def main() -> list[Course]:
        random = Random(seed)
        server = Server(lambda _: admits, latency, random)
        return await asyncio.gather(
            *(call(limiter(), server.request, random, until=seconds) for _ in range(clients))
        )

    return in_virtual_time_now(main())
