"""Calls through real limiters to a simulated server, in virtual time."""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random

import attrs
from virtual_time import VirtualTimeLoop

from marketplace_async import AdaptiveLimiter, RateLimitError, RetryPolicy

Schedule = float | dict[float, float]
"""A number, or the numbers that hold from certain times on."""

WORKERS = 300  # more than the ceiling of the limiter, so that some always wait
TRIP = 0.0005  # the mean number of seconds to the server, and back


def now() -> float:
    return asyncio.get_running_loop().time()


def at_present(schedule: Schedule) -> float:
    if isinstance(schedule, dict):
        return max(item for item in schedule.items() if item[0] <= now())[1]
    return schedule


@attrs.define
class Server:
    """Works on ``slots`` requests at once, and rejects further ones or queues them.

    ``jitter`` is the coefficient of variation of the latency; with 0 nothing is random. Every
    two seconds the responses stall for ``stall`` seconds.
    """

    slots: Schedule
    latency: Schedule = 0.05
    queues: bool = False
    jitter: float = 0.05
    stall: float = 0.0
    random: Random = attrs.field(factory=lambda: Random(0), init=False)
    busy: int = attrs.field(default=0, init=False)
    queue: deque[asyncio.Event] = attrs.field(factory=deque[asyncio.Event], init=False)

    async def request(self) -> None:
        await self._trip()
        if self.busy < at_present(self.slots):
            self.busy += 1
        elif self.queues:
            self.queue.append(turn := asyncio.Event())
            await turn.wait()
        else:
            await self._trip()
            raise RateLimitError(429)
        seconds = at_present(self.latency)
        if self.jitter:
            shape = self.jitter**-2
            seconds = self.random.gammavariate(shape, seconds / shape)
        await asyncio.sleep(seconds + max(0.0, self.stall - now() % 2))
        if self.queue and self.busy <= at_present(self.slots):
            self.queue.popleft().set()
        else:
            self.busy -= 1
        await self._trip()

    async def _trip(self) -> None:
        await asyncio.sleep(TRIP * self.random.expovariate(1) if self.jitter else 0)


@attrs.define
class Course:
    """What happened to the calls of one client."""

    limits: list[int] = attrs.field(factory=list[int])  # after 0.5, 1.5, 2.5 ... seconds
    durations: list[float] = attrs.field(factory=list[float])  # of successful attempts
    rejections: list[float] = attrs.field(factory=list[float])  # the times
    lost: int = 0  # the number of calls that used up their attempts


def simulate(
    server: Server, seconds: float, clients: int = 1,
    create: Callable[[], AdaptiveLimiter] = AdaptiveLimiter,
) -> list[Course]:  # fmt: skip
    """Return what happens to clients that have a limiter each and always more calls to make."""
    courses = [Course() for _ in range(clients)]

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for course in courses:
            limiter = create()
            tasks.append(asyncio.create_task(_watch(limiter, course)))
            tasks += (asyncio.create_task(_work(limiter, server, course)) for _ in range(WORKERS))
        await asyncio.sleep(seconds)
        assert all(task.cancel() for task in tasks)
        await asyncio.wait(tasks)

    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=False) as runner:
        runner.run(main())
    return courses


async def _watch(limiter: AdaptiveLimiter, course: Course) -> None:
    while True:
        await asyncio.sleep(0.5)
        course.limits.append(limiter.statistics().limit)
        await asyncio.sleep(0.5)


async def _work(limiter: AdaptiveLimiter, server: Server, course: Course) -> None:
    """Make calls one after the other, with the waits and attempts of the default policy."""
    policy = RetryPolicy()
    attempts = 0
    while True:
        attempts += 1
        try:
            async with limiter:
                started = now()
                await server.request()
                course.durations.append(now() - started)
                attempts = 0
        except RateLimitError as error:
            course.rejections.append(now())
            wait = policy.wait(error, attempts, server.random.random)
            if wait is None:
                course.lost += 1
                attempts = 0
            await asyncio.sleep(wait or 0)
