"""Compare the limiter with other algorithms in the same simulated situations.

``PYTHONPATH=tests/support python tests/benchmarks/limiter_choice.py`` prints a Markdown table;
it takes three minutes. The other algorithms: a fixed limit, AIMD (TCP Reno cuts to a half; Vector's
adaptive request concurrency to nine tenths), CUBIC (RFC 9438), and the gradient of the latency (as
in Netflix's concurrency-limits, with a cut after a rejection).
"""

import asyncio
import math
from collections.abc import Callable
from random import Random
from statistics import fmean

from limiter_simulation import Course, alone, call, in_virtual_time_now, together

from marketplace_async.limits import CEILING, START, AdaptiveLimiter, Limiter, Window

SEEDS = range(3)
ROUNDS = 100


class Aimd(Window):
    """Double until the first rejection, then add one each round; cut once for each burst."""

    def __init__(self, cut_to: float) -> None:
        super().__init__(START, 1, CEILING)
        self.cut_to = cut_to
        self.size = float(START)
        self.size_before = 0.0
        self.cut_at = 0.0
        self.burst_ends = 0

    def record_success(self) -> None:
        self.resize(self.size + (self.growth() if self.size_before else 1))

    def record_rejection(self, in_flight: int, ended: int) -> None:
        if ended > self.burst_ends:
            self.burst_ends = ended + in_flight
            self.cut_at = asyncio.get_running_loop().time()
            self.size_before = self.size
            self.resize(self.size * self.cut_to)

    def record_duration(self, seconds: float) -> None:
        pass

    def resize(self, size: float) -> None:
        self.size = min(max(size, 1.0), CEILING)
        self.limit = int(self.size)

    def growth(self) -> float:
        """Return what a success adds."""
        return 1 / self.size


class Cubic(Aimd):
    """Grow fast to the size before the cut, slowly around it, and faster after it."""

    def growth(self) -> float:
        since = asyncio.get_running_loop().time() - self.cut_at
        back = math.cbrt(self.size_before * (1 - self.cut_to) / 0.4)
        target = 0.4 * (since - back) ** 3 + self.size_before
        return min(max((target - self.size) / self.size, 0.01 / self.size), 0.5)


class Gradient(Aimd):
    """Grow while the latency is near its minimum."""

    fastest = math.inf

    def record_success(self) -> None:
        pass

    def record_duration(self, seconds: float) -> None:
        self.fastest = min(self.fastest, seconds)
        gradient = max(0.5, min(1.0, 1.5 * self.fastest / seconds))
        self.resize(0.8 * self.size + 0.2 * (gradient * self.size + 4))


class Other(AdaptiveLimiter):
    """The queue of `AdaptiveLimiter` with another algorithm."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window


LIMITERS: dict[str, Callable[[], Limiter]] = {
    "`AdaptiveLimiter`": AdaptiveLimiter,
    "fixed at 10": lambda: asyncio.Semaphore(10),
    "fixed at 100": lambda: asyncio.Semaphore(100),
    "AIMD, cut to 0.5": lambda: Other(Aimd(0.5)),
    "AIMD, cut to 0.9": lambda: Other(Aimd(0.9)),
    "CUBIC, cut to 0.7": lambda: Other(Cubic(0.7)),
    "gradient, cut to 0.9": lambda: Other(Gradient(0.9)),
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
        rejected = sum(course.refused for course in courses)
        shares.append(rejected / (rejected + sum(answered)))
        everything += courses
    return (
        f"{fmean(speeds):.2f}, {fmean(shares):.1%}, fairness {fmean(fairness):.2f}"
        f"{lost_of(everything)}"
    )


def queueing(limiter: Callable[[], Limiter]) -> str:
    """Return the result at a server with 40 slots and a queue."""

    async def main() -> tuple[Course, int]:
        slots, in_flight, most = asyncio.Semaphore(40), 0, 0

        async def request() -> None:
            nonlocal in_flight, most
            in_flight += 1
            most = max(in_flight, most)
            async with slots:
                await asyncio.sleep(0.05)
            in_flight -= 1

        return await call(limiter(), request, Random(0), ROUNDS * 40), most

    course, most = in_virtual_time_now(main())
    return f"{ROUNDS * 0.05 / course.seconds:.2f}, {most} in flight"


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
