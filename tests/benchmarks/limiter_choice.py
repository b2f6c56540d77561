"""Why the limiter is as it is: other ways to find a limit, in the same simulated situations.

``PYTHONPATH=tests/support python tests/benchmarks/limiter_choice.py`` prints a Markdown table;
it takes three minutes. The rivals are the field's: a fixed number, AIMD (TCP Reno halves; Vector's
adaptive request concurrency takes a tenth), CUBIC (RFC 9438), and the gradient of the latency
(as Netflix's concurrency-limits, which grows by it alone, cut here when refused as well).
"""

import asyncio
import math
from collections.abc import Callable
from random import Random
from statistics import fmean
from types import TracebackType
from typing import Any

from limiter_simulation import Course, alone, call, in_virtual_time_now, together

from marketplace_async.limits import CEILING, START, AdaptiveLimiter, Window
from marketplace_async.transport import Limiter

SEEDS = range(3)
ROUNDS = 100


class Rival(Window):
    """Another arithmetic for the same queue: doubles until it is refused, cuts once a burst."""

    def __init__(self, cut_to: float) -> None:
        super().__init__(START, 1, CEILING)
        self.cut_to = cut_to
        self.size = float(START)
        self.size_before = 0.0
        self.cut_at = 0.0
        self.cut_lasts = 0

    def answered(self) -> None:
        self.resize(self.size + (self.growth() if self.size_before else 1))

    def refused(self, in_flight: int, ended: int) -> None:
        if ended > self.cut_lasts:
            self.cut_lasts = ended + in_flight
            self.cut_at = asyncio.get_running_loop().time()
            self.size_before = self.size
            self.resize(self.size * self.cut_to)

    def resize(self, size: float) -> None:
        self.size = min(max(size, 1.0), CEILING)
        self.limit = int(self.size)

    def growth(self) -> float:
        """Give what an answer adds: one more for each round."""
        return 1 / self.size


class Cubic(Rival):
    """Quickly back to where it was refused, slowly past that, then ever faster."""

    def growth(self) -> float:
        since = asyncio.get_running_loop().time() - self.cut_at
        back = math.cbrt(self.size_before * (1 - self.cut_to) / 0.4)
        target = 0.4 * (since - back) ** 3 + self.size_before
        return min(max((target - self.size) / self.size, 0.01 / self.size), 0.5)


class Gradient(Rival):
    """Grows as long as the latency is near the least that was seen."""

    least = math.inf

    def growth(self) -> float:
        return 0.0

    def observe(self, latency: float) -> None:
        self.least = min(self.least, latency)
        gradient = max(0.5, min(1.0, 1.5 * self.least / latency))
        self.resize(0.8 * self.size + 0.2 * (gradient * self.size + 4))


class RivalLimiter(AdaptiveLimiter):
    def __init__(self, window: Rival) -> None:
        super().__init__()
        self._window = window


class GradientLimiter(RivalLimiter):
    def __init__(self) -> None:
        self.gradient = Gradient(cut_to=0.9)
        self.began: dict[Any, float] = {}
        super().__init__(self.gradient)

    async def __aenter__(self) -> None:
        await super().__aenter__()
        self.began[asyncio.current_task()] = asyncio.get_running_loop().time()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        latency = asyncio.get_running_loop().time() - self.began.pop(asyncio.current_task())
        if exc is None and self._waiting:
            self.gradient.observe(latency)
        await super().__aexit__(exc_type, exc, traceback)


LIMITERS: dict[str, Callable[[], Limiter]] = {
    "`AdaptiveLimiter`": AdaptiveLimiter,
    "fixed at 10": lambda: asyncio.Semaphore(10),
    "fixed at 100": lambda: asyncio.Semaphore(100),
    "AIMD, cut to 0.5": lambda: RivalLimiter(Rival(0.5)),
    "AIMD, cut to 0.9": lambda: RivalLimiter(Rival(0.9)),
    "CUBIC, cut to 0.7": lambda: RivalLimiter(Cubic(0.7)),
    "gradient, cut to 0.9": GradientLimiter,
}


def steady(limiter: Callable[[], Limiter], admits: int, latency: float) -> str:
    calls = ROUNDS * admits
    courses = [alone(limiter, lambda _: admits, latency, calls, seed) for seed in SEEDS]
    return summary(courses, ROUNDS * latency)


def changing(limiter: Callable[[], Limiter]) -> str:
    def admits(now: float) -> int:
        return 20 if 4 <= now < 8 else 40

    return summary([alone(limiter, admits, 0.05, 8000, seed) for seed in SEEDS], 12.0)


def summary(courses: list[Course], ideal: float) -> str:
    speed = fmean(ideal / course.seconds for course in courses)
    share = fmean(course.refused_share for course in courses)
    return f"{speed:.2f}, {share:.1%}{lost_of(courses)}"


def lost_of(courses: list[Course]) -> str:
    lost = sum(course.lost for course in courses)
    return f", {lost} lost" if lost else ""


def shared(limiter: Callable[[], Limiter], admits: int) -> str:
    seconds, latency = 6.0, 0.05
    speeds: list[float] = []
    fairness: list[float] = []
    shares: list[float] = []
    everything: list[Course] = []
    for seed in SEEDS:
        courses = together(limiter, 8, admits, latency, seconds, seed)
        answered = [course.answered for course in courses]
        speeds.append(sum(answered) * latency / admits / seconds)
        fairness.append(sum(answered) ** 2 / (8 * sum(n * n for n in answered)))
        refused = sum(course.refused for course in courses)
        shares.append(refused / (refused + sum(answered)))
        everything += courses
    return f"{fmean(speeds):.2f}, {fmean(shares):.1%}, fairness {fmean(fairness):.2f}" + lost_of(
        everything
    )


def queueing(limiter: Callable[[], Limiter]) -> str:
    """A server that answers 40 at a time and lets all others wait."""

    async def main() -> tuple[Course, int]:
        turns, queue, longest = asyncio.Semaphore(40), 0, 0

        async def request() -> None:
            nonlocal queue, longest
            queue += 1
            longest = max(queue, longest)
            async with turns:
                await asyncio.sleep(0.05)
            queue -= 1

        return await call(limiter(), request, Random(0), ROUNDS * 40), longest

    course, longest = in_virtual_time_now(main())
    return f"{ROUNDS * 0.05 / course.seconds:.2f}, {longest} in flight"


def main() -> None:
    situations: dict[str, Callable[[Callable[[], Limiter]], str]] = {
        "5 of 50 ms": lambda limiter: steady(limiter, 5, 0.05),
        "40 of 50 ms": lambda limiter: steady(limiter, 40, 0.05),
        "200 of 100 ms": lambda limiter: steady(limiter, 200, 0.1),
        "40, then 20, then 40": changing,
        "8 clients share 40": lambda limiter: shared(limiter, 40),
        "8 clients share 5": lambda limiter: shared(limiter, 5),
        "40, queues the rest": queueing,
    }
    print("| |", *(f"{name} |" for name in LIMITERS))
    print("| --- |", *("--- |" for _ in LIMITERS))
    for name, situation in situations.items():
        print(f"| {name} |", *(f"{situation(limiter)} |" for limiter in LIMITERS.values()))


if __name__ == "__main__":
    main()
