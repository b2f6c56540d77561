"""The adaptive limiter: its queue, the errors it learns from, and simulated servers."""

import asyncio
import errno
import gc
import logging
import random
import subprocess
import sys
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leftovers import all_blocked, leaves_nothing
from limiter_simulation import Course, Schedule, Server, now, simulate
from virtual_time import VirtualTimeLoop, in_virtual_time

from marketplace_async import AdaptiveLimiter, LimiterStatistics
from marketplace_async.errors import (
    ConnectionFailedError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from marketplace_async.limits import CEILING, Window, is_batch

NO_DESCRIPTORS = ConnectionFailedError("no descriptors", errno.EMFILE)
REJECTIONS = [RateLimitError(429), ServerError(503), RequestTimeoutError("x", 15), NO_DESCRIPTORS]
OTHER_ERRORS = [NotFoundError(404), ServerError(500), ConnectionFailedError("reset")]


def fixed(limit: int) -> AdaptiveLimiter:
    return AdaptiveLimiter(start=limit, floor=limit, ceiling=limit)


async def attempt(
    limiter: AdaptiveLimiter, seconds: float = 1.0, error: BaseException | None = None
) -> None:
    async with limiter:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error


def in_new_loop(main: Any) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=False) as runner:
        runner.run(main)


# What it learns from


@pytest.mark.parametrize("error", [*REJECTIONS, *OTHER_ERRORS, asyncio.CancelledError()], ids=repr)
def test_errors(error: BaseException) -> None:
    """Rejections lower the limit, other errors don't; all of them pass."""
    limiter = AdaptiveLimiter(start=8)
    with pytest.raises(type(error)):
        in_new_loop(attempt(limiter, 0, error))
    assert limiter.statistics() == LimiterStatistics(4 if error in REJECTIONS else 8, 0, 0)


@pytest.mark.parametrize(
    ("count", "error", "least", "most"),
    [(20, None, 20, 40), (4, None, 4, 4), (20, NotFoundError(404), 4, 4)],
)
@in_virtual_time
async def test_growth(count: int, error: Exception | None, least: int, most: int) -> None:
    """The limit grows with successful attempts while others wait, at most to twice the need."""
    limiter = AdaptiveLimiter(start=4)
    for _ in range(10):
        tasks = (attempt(limiter, error=error) for _ in range(count))
        await asyncio.gather(*tasks, return_exceptions=True)
    assert least <= limiter.statistics().limit <= most


@pytest.mark.parametrize(
    ("start", "slots", "expected"),
    [
        (8, 1000, [8, 16, 32, 64, 128, 256, 300]),
        (64, 40, [40, 40, 40, 40]),
        (64, {0: 40, 0.5: 1000}, [40, 40, 40, 41, 42, 44, 50, 65, 97]),
    ],
    ids=["without rejections", "steady", "after a rejection"],
)
def test_limits(start: int, slots: Schedule, expected: list[int]) -> None:
    """The limit doubles, falls to the accepted number, and grows faster and faster."""
    create = partial(AdaptiveLimiter, start=start, ceiling=300)
    (course,) = simulate(Server(slots, 1.0, jitter=0), len(expected), create=create)
    assert course.limits == expected


@pytest.mark.parametrize(("before", "after"), [(100, 90), (40, 34), (5, 3), (2, 1), (1, 1)])
def test_fewer_slots(before: int, after: int) -> None:
    """After a rejection without growth the limit falls by its square root."""
    window = Window(before + 1, 1, 300)
    window.record_rejection(in_flight=before, ended=1)
    assert window.limit == before
    window.record_rejection(in_flight=before - 1, ended=2 + before)
    assert window.limit == after


def test_burst() -> None:
    """A burst of rejections takes half of the limit at most."""
    window = Window(64, 1, 300)
    for ended in range(1, 65):
        window.record_rejection(in_flight=64 - ended, ended=ended)
        assert window.limit == max(32, 64 - ended)
    window.record_rejection(in_flight=0, ended=65)
    assert window.limit == 16


def test_rejection_in_measurement() -> None:
    """A rejection ends the measurement of the shortest duration: the limit stays low."""
    window = Window(10, 1, 300)
    for seconds in [1.0] * 16 + [9.0] * 48:
        window.record_duration(seconds)
    assert window.limit == 1
    window.record_rejection(in_flight=0, ended=1)
    for _ in range(60):
        window.record_duration(1.0)
    assert window.limit == 1


@pytest.mark.parametrize(
    ("later", "gaps"), [(9, [3, 5, 9, 17, 17, 17]), (12, [3, 5, 9, 19, 3, 5, 9, 17])]
)
def test_holds(later: int, gaps: list[int]) -> None:
    """Each time that the first step is rejected, the limit is held twice as long, to a maximum."""
    server = Server({0: 9, 20: later}, 1.0, jitter=0)
    (course,) = simulate(server, 75, create=partial(AdaptiveLimiter, start=10))
    found = [round(after - before) for before, after in pairwise(course.rejections)]
    assert found == gaps


@given(
    bounds=st.lists(st.integers(1, 300), min_size=3, max_size=3).map(sorted),
    events=st.lists(st.integers(0, 300) | st.floats(0, 20), max_size=300),
)
def test_bounds(bounds: list[int], events: list[float]) -> None:
    """After any rejections and durations the limit is within its bounds."""
    floor, start, ceiling = bounds
    window = Window(start, floor, ceiling)
    for ended, event in enumerate(events, start=1):
        if isinstance(event, int):
            before = window.limit
            window.record_rejection(event, ended)
            assert before >= window.limit >= before // 2
        else:
            window.record_duration(event)
            window.record_success()
        assert floor <= window.limit <= ceiling


# The queue


class Visitors:
    """Tasks that stay inside the limiter until they are told to leave."""

    def __init__(self, limiter: AdaptiveLimiter) -> None:
        self.limiter = limiter
        self.inside: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.exits: list[asyncio.Event] = []

    async def _visit(self, number: int, *, batch: bool) -> None:
        is_batch.set(batch)
        async with self.limiter:
            self.inside.append(number)
            try:
                await self.exits[number].wait()
            finally:
                self.inside.remove(number)

    def arrive(self, *, batch: bool = False) -> None:
        self.exits.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self._visit(len(self.tasks), batch=batch)))

    async def all_leave(self) -> None:
        for leave in self.exits:
            leave.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@leaves_nothing
async def test_order() -> None:
    """Direct calls get a slot before batch calls; within each kind the order is of arrival."""
    visitors = Visitors(fixed(2))
    for batch in (True, True, True, True, False, False):
        visitors.arrive(batch=batch)
    await all_blocked()
    for inside in ([0, 1], [1, 4], [4, 5], [5, 6], [6, 2], [2, 3]):
        assert visitors.inside == inside
        visitors.exits[inside[0]].set()
        if inside == [0, 1]:
            visitors.arrive()  # it must not take the slot that is assigned now
        await all_blocked()
    await visitors.all_leave()


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "before", "assigned"])
@leaves_nothing
async def test_cancelled(moment: str, batch: bool) -> None:  # noqa: FBT001
    """A waiter that is cancelled at any moment passes its slot on."""
    limiter = fixed(1)
    visitors = Visitors(limiter)
    visitors.arrive(batch=batch)
    visitors.arrive(batch=batch)
    async with limiter:
        await all_blocked()
        if moment != "assigned":
            visitors.tasks[0].cancel()
        if moment == "waiting":
            await all_blocked()
        assert limiter.statistics().waiting == (1 if moment == "waiting" else 2)
    visitors.tasks[0].cancel()
    await all_blocked()
    assert visitors.inside == [1]
    assert visitors.tasks[0].cancelled()
    visitors.tasks[1].cancel()
    await all_blocked()
    assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=0, waiting=0)


@leaves_nothing
async def test_twice_in_one_task() -> None:
    """A task may be inside more than once."""
    limiter = AdaptiveLimiter(start=2)
    async with limiter, limiter:
        assert limiter.statistics().in_flight == 2
    assert limiter.statistics().in_flight == 0


@given(limit=st.integers(1, 5), seed=st.integers(0, 2**32), visits=st.integers(1, 40))
def test_random_queue(limit: int, seed: int, visits: int) -> None:
    """In any order of events no slot is lost or assigned twice."""

    async def main() -> None:
        chance = random.Random(seed)
        visitors = Visitors(fixed(limit))
        for number in range(visits):
            visitors.arrive(batch=number % 2 == 0)
            for _ in range(chance.randrange(3)):
                other = chance.randint(0, number)
                if chance.random() < 0.5:
                    visitors.exits[other].set()
                else:
                    visitors.tasks[other].cancel()
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
                assert len(visitors.inside) <= limit
        await all_blocked()
        inside = len(visitors.inside)
        waiting = sum(not task.done() for task in visitors.tasks) - inside
        assert visitors.limiter.statistics() == LimiterStatistics(limit, inside, waiting)
        assert inside == limit or not waiting
        await visitors.all_leave()
        assert visitors.limiter.statistics() == LimiterStatistics(limit, 0, 0)

    in_new_loop(main())


# The pause after a 429


@pytest.mark.parametrize("error", REJECTIONS, ids=repr)
@leaves_nothing
async def test_pause(error: Exception) -> None:
    """After a 429 the next attempt gets the slot a tenth of a second later."""
    limiter = AdaptiveLimiter(start=1)
    ends: list[float] = []

    async def rejected() -> None:
        with pytest.raises(type(error)):
            await attempt(limiter, 0, error)
        ends.append(round(now(), 6))

    await asyncio.gather(rejected(), rejected(), rejected())
    # No attempt waits for the slot of the last one.
    assert ends == ([0.1, 0.2, 0.2] if isinstance(error, RateLimitError) else [0, 0, 0])


@leaves_nothing
async def test_no_pause() -> None:
    """If the limit falls, so that no attempt waits for the slot, the rejected one ends at once."""
    limiter = AdaptiveLimiter(start=4)
    rejected = asyncio.create_task(attempt(limiter, 0, RateLimitError(429)))
    others = [asyncio.create_task(attempt(limiter)) for _ in range(6)]
    with pytest.raises(RateLimitError):
        await rejected
    assert now() == 0
    assert limiter.statistics() == LimiterStatistics(limit=3, in_flight=3, waiting=3)
    await asyncio.gather(*others)


@leaves_nothing
async def test_cancelled_pause() -> None:
    """A cancellation during the pause passes the slot on at once."""
    limiter = AdaptiveLimiter(start=1)
    rejected = asyncio.create_task(attempt(limiter, 0, RateLimitError(429)))
    next_one = asyncio.create_task(attempt(limiter, 0))
    await asyncio.sleep(0.05)
    assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=1, waiting=1)
    rejected.cancel()
    await next_one
    assert now() == 0.05
    with pytest.raises(asyncio.CancelledError):
        await rejected


# Event loops


async def test_two_loops() -> None:
    """While another event loop that has used the limiter runs, entering raises."""
    limiter = AdaptiveLimiter()
    async with limiter:
        with pytest.raises(RuntimeError, match="in use in another event loop"):
            await asyncio.to_thread(in_new_loop, attempt(limiter))
    with pytest.raises(RuntimeError, match="in use in another event loop"):
        await asyncio.to_thread(in_new_loop, attempt(limiter))
    assert limiter.statistics() == LimiterStatistics(8, 0, 0)


def test_closed_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Attempts of another event loop make entering raise until that loop is closed."""
    caplog.set_level(logging.CRITICAL, "asyncio")  # it reports the tasks
    limiter = fixed(2)
    first = VirtualTimeLoop()
    tasks = [first.create_task(attempt(limiter)) for _ in range(5)]
    first.run_until_complete(asyncio.sleep(0.5))
    with pytest.raises(RuntimeError, match="in use in another event loop"):
        in_new_loop(attempt(limiter))
    assert limiter.statistics() == LimiterStatistics(2, 2, 3)
    first.close()
    for _ in range(3):
        in_new_loop(attempt(limiter))
    assert limiter.statistics() == LimiterStatistics(2, 0, 0)
    del first, tasks
    gc.collect()  # ends the attempts of the closed loop
    assert limiter.statistics() == LimiterStatistics(2, 0, 0)


# Settings and statistics


@leaves_nothing
async def test_statistics() -> None:
    """The statistics are those of one moment; the repr has the bounds too."""
    limiter = AdaptiveLimiter(start=2, ceiling=50)
    visitors = Visitors(limiter)
    for batch in (True, False, True, False):
        visitors.arrive(batch=batch)
    await all_blocked()
    statistics = limiter.statistics()
    assert repr(limiter) == "<AdaptiveLimiter: limit 2 (1 to 50), 2 in flight, 2 waiting>"
    await visitors.all_leave()
    assert statistics == LimiterStatistics(limit=2, in_flight=2, waiting=2)


@pytest.mark.parametrize(("bounds", "start"), [({}, 8), ({"floor": 999}, 999), ({"ceiling": 3}, 3)])
def test_start(bounds: dict[str, int], start: int) -> None:
    """The first limit is 8, or the nearest number within the bounds."""
    assert AdaptiveLimiter(**bounds).statistics().limit == start


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"floor": 0}, ValueError, "floor=0"),
        ({"floor": 10, "ceiling": 9}, ValueError, "floor=10, start=10, ceiling=9"),
        ({"start": 10, "ceiling": 9}, ValueError, "start=10"),
        ({"start": 2.0}, TypeError, "start must be int, not float"),
        ({"floor": True}, TypeError, "floor must be int, not bool"),
        ({"ceiling": "9"}, TypeError, "ceiling must be int, not str"),
    ],
    ids=repr,
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """Arguments of the wrong type or order raise an error that names them."""
    with pytest.raises(error, match=text):
        AdaptiveLimiter(**settings)


@pytest.mark.parametrize(("files", "ceiling"), [(64, 16), (20, 1), (1024, CEILING)])
def test_default_ceiling(files: int, ceiling: int) -> None:
    """The default ceiling leaves half of the file descriptors to other uses."""
    pytest.importorskip("resource")
    program = (
        "import resource; from marketplace_async import AdaptiveLimiter;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}));"
        "print(AdaptiveLimiter())"
    )
    printed = subprocess.check_output([sys.executable, "-c", program])
    assert f"(1 to {ceiling})".encode() in printed


# Simulated servers


def efficiency(courses: list[Course], slots: float, seconds: float, latency: float = 0.05) -> float:
    return sum(len(course.durations) for course in courses) * latency / slots / seconds


def rejected(courses: list[Course]) -> float:
    count = sum(len(course.rejections) for course in courses)
    return count / (count + sum(len(course.durations) for course in courses))


@pytest.mark.parametrize(
    ("slots", "mean", "latency"),
    [(5, 5, 0.05), (40, 40, 0.05), (200, 200, 0.1), ({0: 40, 4: 20, 8: 40}, 100 / 3, 0.05)],
    ids=["5", "40", "200", "changing"],
)
def test_rejecting_server(slots: Schedule, mean: float, latency: float) -> None:
    """The number of slots of a server that rejects is found and followed."""
    courses = simulate(Server(slots, latency), 12)
    assert efficiency(courses, mean, 12, latency) >= 0.93
    assert rejected(courses) <= 0.02


@pytest.mark.parametrize(("slots", "most", "fair"), [(40, 0.08, 0.9), (5, 0.45, 0.65)])
def test_shared_server(slots: int, most: float, fair: float) -> None:
    """Eight clients that know nothing of each other share a server and lose no call."""
    courses = simulate(Server(slots), 6, clients=8)
    assert efficiency(courses, slots, 6) >= 0.93
    assert rejected(courses) <= most
    assert sum(course.lost for course in courses) == 0
    counts = [len(course.durations) for course in courses]
    # Jain's index: 1 if all have the same, 1 / 8 if one client has everything.
    assert sum(counts) ** 2 / 8 / sum(count**2 for count in counts) >= fair


@pytest.mark.parametrize(
    ("slots", "latency", "seconds"), [(5, 0.2, 60), (40, 0.5, 90), (40, 0.05, 10)]
)
@pytest.mark.parametrize(("jitter", "least", "most"), [(0.05, 0.95, 14), (0.4, 0.93, 18)])
def test_queueing_server(
    slots: int, latency: float, seconds: float, jitter: float, least: float, most: float
) -> None:
    """At a server that queues, all slots are used and the queue stays short."""
    courses = simulate(Server(slots, latency, queues=True, jitter=jitter), seconds)
    assert efficiency(courses, slots, seconds, latency) >= least
    durations = sorted(courses[0].durations)
    assert durations[len(durations) // 2] <= 4 * latency
    assert durations[-1] <= most * latency


def test_shrinking_queue() -> None:
    """If a server that queues has fewer slots, its queue is short again soon."""
    (course,) = simulate(Server({0: 40, 20: 10}, 0.2, queues=True), 50)
    assert min(course.limits[8:20]) >= 20
    assert max(course.limits[35:]) <= 25


@pytest.mark.parametrize(("jitter", "stall"), [(0.4, 0), (1.0, 0), (0.05, 0.5)])
def test_no_queue(jitter: float, stall: float) -> None:
    """Jitter and stalls at a server without a queue do not lower the limit."""
    (course,) = simulate(Server(10**6, jitter=jitter, stall=stall), 8)
    assert course.limits[2:] == [CEILING] * 6


def test_slower_server() -> None:
    """If a server becomes five times slower for good, the limit is the same again soon."""
    (course,) = simulate(Server(40, {0: 0.05, 5: 0.25}), 15)
    assert min(course.limits[9:]) >= 34
