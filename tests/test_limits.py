import asyncio
import copy
import random
from collections.abc import Iterable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leftovers import all_blocked, leaves_nothing
from limiter_simulation import Course, Server, alone, call, in_virtual_time_now, together
from virtual_time import VirtualTimeLoop, in_virtual_time

from marketplace_async import AdaptiveLimiter
from marketplace_async.errors import (
    ApiError,
    AuthenticationError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from marketplace_async.limits import LimiterStatistics, Window, is_refusal

REFUSALS = [RateLimitError(429), ServerError(503), RequestTimeoutError("an attempt", 15.0)]
NOT_REFUSALS = [
    NotFoundError(404),
    AuthenticationError(401),
    ServerError(500),
    ServerError(502),
    ServerError(504),
    ApiError(408),
    ConnectionFailedError("reset"),
    InvalidResponseError("not JSON"),
    ValueError("the caller's own"),
    TimeoutError(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
]


def name_of(value: object) -> str:
    return repr(value)


@pytest.mark.parametrize("error", REFUSALS, ids=name_of)
def test_429_503_and_time_outs_are_refusals(error: Exception) -> None:
    assert is_refusal(error)


@pytest.mark.parametrize("error", NOT_REFUSALS, ids=name_of)
def test_no_other_error_is_a_refusal(error: BaseException) -> None:
    assert not is_refusal(error)


# The arithmetic


class Played:
    """A window, and a server that holds as many as it is told to."""

    def __init__(self, start: int, floor: int = 1, ceiling: int = 1000) -> None:
        self.window = Window(start, floor, ceiling)
        self.ended = 0

    @property
    def limit(self) -> int:
        return self.window.limit

    def answers(self, count: int) -> None:
        for _ in range(count):
            self.ended += 1
            self.window.answered()

    def round(self) -> int:
        """All that are in flight are answered."""
        self.answers(self.limit)
        return self.limit

    def rounds_until_it_grows(self) -> int:
        before, rounds = self.limit, 0
        while self.round() == before:
            rounds += 1
        return rounds

    def burst(self, refused: int) -> int:
        """So many are refused while the limit is in flight."""
        in_flight = self.limit
        for _ in range(refused):
            in_flight -= 1
            self.ended += 1
            self.window.refused(in_flight, self.ended)
        self.ended += in_flight  # the others of that time end too
        return self.limit


def test_the_limit_doubles_with_each_round_until_the_first_refusal() -> None:
    window = Played(start=8)
    assert [window.round() for _ in range(5)] == [16, 32, 64, 128, 256]


def test_a_burst_of_refusals_leaves_what_the_server_was_seen_to_hold() -> None:
    window = Played(start=64)
    assert window.burst(refused=24) == 40


def test_a_burst_takes_half_of_the_limit_at_the_most() -> None:
    assert Played(start=64).burst(refused=64) == 32
    assert Played(start=5).burst(refused=5) == 3


def test_a_refusal_after_a_burst_begins_another() -> None:
    window = Played(start=64)
    assert [window.burst(window.limit) for _ in range(7)] == [32, 16, 8, 4, 2, 1, 1]


def test_attempts_that_were_under_way_at_the_first_refusal_belong_to_its_burst() -> None:
    window = Window(64, 1, 1000)
    window.refused(in_flight=63, ended=1)
    for ended in range(2, 65):
        window.refused(in_flight=0, ended=ended)
        assert window.limit == 32
    window.refused(in_flight=0, ended=65)
    assert window.limit == 16


def test_after_a_refusal_the_limit_rests_for_two_rounds_then_grows_by_one_and_ever_faster() -> None:
    window = Played(start=64)
    window.burst(refused=24)
    assert [window.round() for _ in range(8)] == [40, 40, 41, 42, 44, 50, 65, 97]


def test_what_was_gained_towards_one_more_is_lost_with_a_refusal() -> None:
    window = Played(start=11)
    window.burst(refused=1)
    window.answers(2 * 10 + 9)
    assert window.burst(refused=1) == 7
    window.answers(2 * 7 + 6)
    assert window.limit == 7
    window.answers(1)
    assert window.limit == 8


def test_each_time_that_one_more_is_refused_the_limit_rests_twice_as_long_up_to_16_rounds() -> None:
    window = Played(start=10)
    window.burst(refused=2)
    rests: list[int] = []
    for _ in range(5):
        rests.append(window.rounds_until_it_grows())
        assert window.limit == 9
        assert window.burst(refused=1) == 8
    assert rests == [2, 4, 8, 16, 16]


def test_once_there_was_room_to_grow_the_rest_is_short_again() -> None:
    window = Played(start=10)
    window.burst(refused=2)
    for _ in range(3):
        window.rounds_until_it_grows()
        window.burst(refused=1)
    window.rounds_until_it_grows()
    assert window.round() == 10  # the one more was not refused this time
    assert window.burst(refused=1) == 9
    assert window.rounds_until_it_grows() == 2


@pytest.mark.parametrize(("limit", "left"), [(100, 90), (40, 34), (10, 7), (5, 3), (2, 1), (1, 1)])
def test_refused_without_having_grown_it_yields_its_square_root(limit: int, left: int) -> None:
    window = Played(start=limit + 1)
    assert window.burst(refused=1) == limit
    assert window.burst(refused=1) == left


def test_after_yielding_it_tries_for_more_soon() -> None:
    window = Played(start=11)
    for _ in range(3):
        window.burst(refused=1)
        window.rounds_until_it_grows()
    window.burst(refused=1)
    window.burst(refused=1)
    assert window.rounds_until_it_grows() == 2


@given(
    bounds=st.lists(st.integers(1, 300), min_size=3, max_size=3).map(sorted),
    events=st.lists(st.none() | st.integers(0, 300), max_size=300),
)
def test_whatever_happens_the_limit_stays_within_its_bounds_and_moves_the_right_way(
    bounds: list[int], events: list[int | None]
) -> None:
    floor, start, ceiling = bounds
    window = Window(start, floor, ceiling)
    for ended, in_flight in enumerate(events, start=1):
        before = window.limit
        if in_flight is None:
            window.answered()
            assert before <= window.limit <= before + 1
        else:
            window.refused(in_flight, ended)
            assert before >= window.limit >= before // 2
        assert floor <= window.limit <= ceiling


# The queue


async def attempt(limiter: AdaptiveLimiter, seconds: float, error: Exception | None = None) -> None:
    async with limiter:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error


async def attempts(limiter: AdaptiveLimiter, errors: Iterable[Exception | None]) -> None:
    """Make one attempt for each, all at the same time, of a second each."""
    tasks = (attempt(limiter, 1.0, error) for error in errors)
    await asyncio.gather(*tasks, return_exceptions=True)


def fixed(limit: int) -> AdaptiveLimiter:
    return AdaptiveLimiter(start=limit, floor=limit, ceiling=limit)


def now() -> float:
    return asyncio.get_running_loop().time()


class Visitors:
    """Tasks that stay inside the limiter until they are told to leave."""

    def __init__(self, limiter: AdaptiveLimiter) -> None:
        self.limiter = limiter
        self.inside: list[int] = []
        self.most_inside = 0
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.doors: dict[int, asyncio.Event] = {}

    async def _visit(self, number: int) -> None:
        async with self.limiter:
            self.inside.append(number)
            self.most_inside = max(self.most_inside, len(self.inside))
            try:
                await self.doors[number].wait()
            finally:
                self.inside.remove(number)

    def arrive(self, *numbers: int) -> None:
        for number in numbers:
            self.doors[number] = asyncio.Event()
            self.tasks[number] = asyncio.create_task(self._visit(number))

    def leave(self, *numbers: int) -> None:
        for number in numbers:
            self.doors[number].set()

    def cancel(self, *numbers: int) -> None:
        for number in numbers:
            self.tasks[number].cancel()

    async def all_leave(self) -> None:
        self.leave(*self.doors)
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@leaves_nothing
async def test_places_are_given_in_the_order_of_arrival() -> None:
    visitors = Visitors(fixed(2))
    visitors.arrive(*range(6))
    await all_blocked()
    assert visitors.inside == [0, 1]
    for gone, expected in ((1, [0, 2]), (0, [2, 3]), (3, [2, 4]), (2, [4, 5])):
        visitors.leave(gone)
        await all_blocked()
        assert visitors.inside == expected
    await visitors.all_leave()


@leaves_nothing
async def test_who_arrives_when_a_place_has_just_been_given_goes_behind_the_queue() -> None:
    visitors = Visitors(fixed(1))
    visitors.arrive(0, 1, 2)
    await all_blocked()
    visitors.leave(0)
    visitors.arrive(3)
    for expected in (1, 2, 3):
        await all_blocked()
        assert visitors.inside == [expected]
        visitors.leave(expected)
    await visitors.all_leave()


@leaves_nothing
async def test_a_waiter_cancelled_before_its_turn_costs_nobody_a_place() -> None:
    visitors = Visitors(fixed(1))
    visitors.arrive(0, 1, 2)
    await all_blocked()
    visitors.cancel(1)
    await all_blocked()
    assert visitors.limiter.statistics().waiting == 1
    visitors.leave(0)
    await all_blocked()
    assert visitors.inside == [2]
    await visitors.all_leave()


@leaves_nothing
async def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_the_place_on() -> None:
    limiter = fixed(1)
    visitors = Visitors(limiter)
    visitors.arrive(1, 2)
    async with limiter:
        await all_blocked()
    # The place is given to 1, which has not run since.
    visitors.cancel(1)
    await all_blocked()
    assert visitors.inside == [2]
    assert visitors.tasks[1].cancelled()
    await visitors.all_leave()


@leaves_nothing
async def test_a_waiter_cancelled_just_before_its_turn_is_passed_over() -> None:
    limiter = fixed(1)
    visitors = Visitors(limiter)
    visitors.arrive(1, 2)
    async with limiter:
        await all_blocked()
        visitors.cancel(1)
        # It has not run since and is still the first in the queue.
        assert limiter.statistics().waiting == 2
    await all_blocked()
    assert visitors.inside == [2]
    assert visitors.tasks[1].cancelled()
    await visitors.all_leave()


@leaves_nothing
async def test_the_last_waiter_cancelled_in_the_moment_of_its_turn_leaves_the_place_free() -> None:
    limiter = fixed(1)
    visitors = Visitors(limiter)
    visitors.arrive(1)
    async with limiter:
        await all_blocked()
    visitors.cancel(1)
    await all_blocked()
    assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=0, waiting=0)


@leaves_nothing
async def test_a_time_out_while_waiting_ends_the_wait_alone() -> None:
    limiter = fixed(1)
    async with limiter:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await attempt(limiter, 1.0)
        assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=1, waiting=0)


def test_a_waiter_that_is_dropped_unfinished_leaves_the_queue() -> None:
    limiter = fixed(1)

    async def wait_and_be_dropped() -> None:
        async with limiter:
            waiter = limiter.__aenter__()
            waiter.send(None)  # as the loop would: it waits for its place now
            assert limiter.statistics().waiting == 1
            waiter.close()
            assert limiter.statistics().waiting == 0

    in_virtual_time_now(wait_and_be_dropped())


@given(limit=st.integers(1, 5), seed=st.integers(0, 2**32), visits=st.integers(1, 40))
def test_in_any_order_of_events_no_place_is_given_twice_or_lost(
    limit: int, seed: int, visits: int
) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        visitors = Visitors(fixed(limit))
        for number in range(visits):
            visitors.arrive(number)
            for _ in range(chance.randrange(3)):
                chance.choice([visitors.leave, visitors.cancel])(chance.randint(0, number))
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)  # so that things happen within one tick, and across
        assert visitors.most_inside <= limit
        await all_blocked()
        waiting = sum(not task.done() for task in visitors.tasks.values()) - len(visitors.inside)
        assert visitors.limiter.statistics() == LimiterStatistics(
            limit, len(visitors.inside), waiting
        )
        assert not waiting or len(visitors.inside) == limit
        await visitors.all_leave()
        assert visitors.most_inside <= limit
        assert visitors.limiter.statistics() == LimiterStatistics(limit, 0, 0)

    in_virtual_time_now(main())


@pytest.mark.parametrize("seed", range(5))
def test_with_refusals_and_cancellations_at_random_never_more_begin_than_the_limit(
    seed: int,
) -> None:
    limiter = AdaptiveLimiter(start=6, ceiling=30)
    chance = random.Random(seed)
    errors = [None, None, None, None, RateLimitError(429), NotFoundError(404)]
    begun = 0
    limits: set[int] = set()

    async def visit() -> None:
        nonlocal begun
        async with limiter:
            begun += 1
            try:
                statistics = limiter.statistics()
                limits.add(statistics.limit)
                assert statistics.in_flight >= begun  # those given a place may not have begun
                await asyncio.sleep(chance.choice([0, 0.5, 1]))
            finally:
                begun -= 1
            if error := chance.choice(errors):
                raise error

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            tasks.append(asyncio.create_task(visit()))
            if chance.random() < 0.2:
                chance.choice(tasks).cancel()
            if chance.random() < 0.5:
                before = limiter.statistics()
                await asyncio.sleep(chance.choice([0, 0.05]))
                after = limiter.statistics()
                assert after.in_flight <= max(before.in_flight, before.limit, after.limit)
        await asyncio.wait(tasks)
        wrong = [task for task in tasks if not task.cancelled() and task.exception()]
        assert not [task for task in wrong if not isinstance(task.exception(), ApiError)]
        assert limiter.statistics() == LimiterStatistics(limiter.statistics().limit, 0, 0)

    in_virtual_time_now(main())
    assert len(limits) > 3  # it did move


# What it learns from


@in_virtual_time
async def test_it_does_not_grow_while_nobody_waits() -> None:
    limiter = AdaptiveLimiter(start=4)
    for _ in range(10):
        await attempts(limiter, [None] * 4)
    assert limiter.statistics().limit == 4


@in_virtual_time
async def test_it_grows_while_somebody_waits_and_no_further_than_that() -> None:
    limiter = AdaptiveLimiter(start=4)
    for _ in range(10):
        await attempts(limiter, [None] * 20)
    assert 10 <= limiter.statistics().limit <= 20


@pytest.mark.parametrize("error", REFUSALS, ids=name_of)
@in_virtual_time
async def test_a_refusal_that_passes_through_lowers_the_limit_and_is_raised(
    error: Exception,
) -> None:
    limiter = AdaptiveLimiter(start=8)
    with pytest.raises(type(error)):
        await attempt(limiter, 1.0, error)
    assert limiter.statistics().limit == 4


@pytest.mark.parametrize(
    "error", [error for error in NOT_REFUSALS if isinstance(error, Exception)], ids=name_of
)
@in_virtual_time
async def test_another_error_passes_through_and_teaches_nothing(error: Exception) -> None:
    limiter = AdaptiveLimiter(start=8)
    await attempts(limiter, [error] * 50)
    assert limiter.statistics() == LimiterStatistics(limit=8, in_flight=0, waiting=0)


@leaves_nothing
async def test_a_cancelled_attempt_teaches_nothing_and_gives_its_place_back() -> None:
    visitors = Visitors(AdaptiveLimiter(start=2))
    visitors.arrive(*range(6))
    await all_blocked()
    visitors.cancel(0, 1)
    await all_blocked()
    assert visitors.inside == [2, 3]
    assert visitors.limiter.statistics() == LimiterStatistics(limit=2, in_flight=2, waiting=2)
    await visitors.all_leave()


@in_virtual_time
async def test_a_burst_of_refusals_is_learned_from_once() -> None:
    limiter = AdaptiveLimiter(start=64)
    await attempts(limiter, [RateLimitError(429)] * 64)
    assert limiter.statistics().limit == 32


@in_virtual_time
async def test_refusals_that_come_before_the_answers_show_what_the_server_holds() -> None:
    limiter = AdaptiveLimiter(start=64)
    refused = (attempt(limiter, 0.1 + n / 1000, RateLimitError(429)) for n in range(24))
    answered = (attempt(limiter, 1.0) for _ in range(40))
    await asyncio.gather(*refused, *answered, return_exceptions=True)
    assert limiter.statistics().limit == 40


# The pause


@leaves_nothing
async def test_a_refused_place_that_would_go_to_the_next_goes_there_a_tenth_of_a_second_later() -> (
    None
):
    limiter = AdaptiveLimiter(start=1)
    begun: list[float] = []

    async def refused() -> None:
        async with limiter:
            begun.append(now())
            await asyncio.sleep(0)  # the others arrive
            raise RateLimitError(429)

    await asyncio.gather(*(refused() for _ in range(4)), return_exceptions=True)
    assert [round(seconds, 9) for seconds in begun] == [0, 0.1, 0.2, 0.3]
    assert round(now(), 9) == 0.3  # nobody waited for the place of the last


@leaves_nothing
async def test_a_refused_place_that_the_limit_takes_away_is_not_kept() -> None:
    limiter = AdaptiveLimiter(start=4)
    refused = asyncio.create_task(attempt(limiter, 0.0, RateLimitError(429)))
    others = [asyncio.create_task(attempt(limiter, 1.0)) for _ in range(6)]
    with pytest.raises(RateLimitError):
        await refused
    assert now() == 0
    assert limiter.statistics() == LimiterStatistics(limit=3, in_flight=3, waiting=3)
    await asyncio.gather(*others)


@pytest.mark.parametrize(
    "error", [ServerError(503), RequestTimeoutError("an attempt", 15.0)], ids=name_of
)
@leaves_nothing
async def test_after_a_503_or_a_time_out_no_place_is_kept(error: Exception) -> None:
    limiter = AdaptiveLimiter(start=1)
    tasks = (attempt(limiter, 0.0, error) for _ in range(4))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert now() == 0


@leaves_nothing
async def test_a_cancellation_while_a_place_is_kept_gives_it_to_the_next_at_once() -> None:
    limiter = AdaptiveLimiter(start=1)
    refused = asyncio.create_task(attempt(limiter, 0.0, RateLimitError(429)))
    following = asyncio.create_task(attempt(limiter, 0.0))
    await asyncio.sleep(0.05)
    assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=1, waiting=1)
    refused.cancel()
    await following
    assert round(now(), 9) == 0.05
    with pytest.raises(asyncio.CancelledError):
        await refused


# Statistics, settings, loops


@leaves_nothing
async def test_statistics_are_a_frozen_snapshot() -> None:
    limiter = AdaptiveLimiter(start=2)
    visitors = Visitors(limiter)
    visitors.arrive(0, 1, 2)
    await all_blocked()
    statistics = limiter.statistics()
    await visitors.all_leave()
    assert statistics == LimiterStatistics(limit=2, in_flight=2, waiting=1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        statistics.limit = 3  # type: ignore[misc]  # what must fail
    assert limiter.statistics().in_flight == 0


@leaves_nothing
async def test_its_repr_tells_its_state_and_its_bounds() -> None:
    limiter = AdaptiveLimiter(start=3, floor=2, ceiling=50)
    async with limiter:
        assert repr(limiter) == "<AdaptiveLimiter: limit 3 (2 to 50), 1 in flight, 0 waiting>"


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({}, 8),
        ({"floor": 20}, 20),
        ({"ceiling": 3}, 3),
        ({"start": 5}, 5),
        ({"start": 7, "floor": 7, "ceiling": 7}, 7),
    ],
)
def test_it_starts_at_8_or_where_it_is_told_or_the_bounds_allow(
    settings: dict[str, int], start: int
) -> None:
    assert AdaptiveLimiter(**settings).statistics() == LimiterStatistics(start, 0, 0)


@pytest.mark.parametrize(
    ("settings", "wrong", "error"),
    [
        ({"floor": 0}, "floor", ValueError),
        ({"start": 0}, "start", ValueError),
        ({"ceiling": 0}, "ceiling", ValueError),
        ({"floor": 10, "ceiling": 9}, "ceiling", ValueError),
        ({"floor": 10, "start": 9}, "start", ValueError),
        ({"start": 10, "ceiling": 9}, "start", ValueError),
        ({"start": 2.0}, "start", TypeError),
        ({"start": True}, "start", TypeError),
        ({"floor": "1"}, "floor", TypeError),
        ({"ceiling": None}, "ceiling", TypeError),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(
    settings: dict[str, Any], wrong: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{wrong} must be "):
        AdaptiveLimiter(**settings)


def test_it_is_made_without_a_loop_and_serves_one_loop_after_another() -> None:
    limiter = AdaptiveLimiter(start=2)
    limits: list[int] = []
    for _ in range(3):
        in_virtual_time_now(attempts(limiter, [None] * 8))
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)
        limits.append(statistics.limit)
    assert limits == sorted(set(limits))  # what one loop taught it, the next builds on


def test_a_loop_that_ends_with_waiters_leaves_the_limiter_whole() -> None:
    limiter = fixed(1)

    async def leave_tasks_behind() -> None:
        tasks = [asyncio.create_task(attempt(limiter, 60.0)) for _ in range(5)]
        await all_blocked()
        assert limiter.statistics().waiting == len(tasks) - 1

    in_virtual_time_now(leave_tasks_behind())
    assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=0, waiting=0)


def test_waiting_in_two_loops_at_a_time_is_refused() -> None:
    limiter = fixed(1)
    first = VirtualTimeLoop()
    tasks = [first.create_task(attempt(limiter, 1.0)) for _ in range(2)]
    first.run_until_complete(asyncio.sleep(0.5))
    with pytest.raises(RuntimeError, match="another event loop"):
        in_virtual_time_now(attempt(limiter, 1.0))
    first.run_until_complete(asyncio.gather(*tasks))
    first.close()
    assert limiter.statistics() == LimiterStatistics(limit=1, in_flight=0, waiting=0)


@in_virtual_time
async def test_a_task_may_be_inside_more_than_once() -> None:
    limiter = AdaptiveLimiter(start=2)
    async with limiter, limiter:
        assert limiter.statistics().in_flight == 2
    assert limiter.statistics().in_flight == 0


# Against servers, simulated


@pytest.mark.parametrize(
    ("admits", "latency", "rounds"), [(5, 0.05, 100), (40, 0.05, 100), (200, 0.1, 50)]
)
def test_it_keeps_near_the_limit_of_a_server_that_does_not_tell_it(
    admits: int, latency: float, rounds: int
) -> None:
    course = alone(AdaptiveLimiter, lambda _: admits, latency, calls=rounds * admits)
    assert rounds * latency / course.seconds >= 0.9
    assert course.refused_share <= 0.03
    assert course.lost == 0


def test_it_follows_a_server_whose_limit_halves_and_doubles() -> None:
    def admits(now: float) -> int:
        return 20 if 2 <= now < 4 else 40

    course = alone(AdaptiveLimiter, admits, 0.05, calls=4000)
    assert 6 / course.seconds >= 0.85
    assert course.refused_share <= 0.03
    assert course.lost == 0


def fairness(courses: list[Course]) -> float:
    """Jain's index: 1 if all got the same, 1 / n if one of n got everything."""
    answered = [course.answered for course in courses]
    return sum(answered) ** 2 / (len(answered) * sum(n * n for n in answered))


def test_eight_clients_who_know_nothing_of_each_other_share_a_server_evenly() -> None:
    courses = together(AdaptiveLimiter, 8, admits=40, latency=0.05, seconds=6.0)
    assert sum(course.answered for course in courses) >= 0.9 * 40 / 0.05 * 6
    assert fairness(courses) >= 0.9
    assert sum(course.lost for course in courses) == 0


def test_clients_for_whom_there_is_less_than_a_place_each_lose_no_call() -> None:
    courses = together(AdaptiveLimiter, 8, admits=5, latency=0.05, seconds=4.0)
    assert sum(course.answered for course in courses) >= 0.9 * 5 / 0.05 * 4
    assert sum(course.lost for course in courses) == 0


def outage(
    limiter: AdaptiveLimiter, error: MarketplaceError
) -> tuple[Course, list[int], list[int]]:
    """Calls to a server that fails from second 2 to 5; the limits in that time and from 6 on."""
    down: list[int] = []
    up: list[int] = []

    async def main() -> Course:
        chance = random.Random(0)
        server = Server(lambda _: 40, 0.05, chance)

        async def request() -> None:
            if 2 <= now() < 5:
                await asyncio.sleep(0.001)
                down.append(limiter.statistics().limit)
                raise copy.copy(error)
            if now() > 6:
                up.append(limiter.statistics().limit)
            await server.request()

        return await call(limiter, request, chance, calls=6000)

    return in_virtual_time_now(main()), down, up


@pytest.mark.parametrize("error", REFUSALS, ids=name_of)
def test_a_dead_server_is_sent_one_at_a_time_and_all_it_can_take_soon_after_its_return(
    error: MarketplaceError,
) -> None:
    _, down, up = outage(AdaptiveLimiter(), error)
    assert down[-1] == 1
    assert min(up) >= 30


def test_while_everything_is_refused_with_429_calls_queue_and_none_is_lost() -> None:
    course, down, _ = outage(AdaptiveLimiter(), RateLimitError(429))
    assert course.lost == 0
    assert len(down) < 150


def test_a_server_of_20_requests_a_second_is_used_fully_with_few_in_flight() -> None:
    limiter = AdaptiveLimiter()
    tokens, counted_at = 20.0, 0.0

    async def request() -> None:
        nonlocal tokens, counted_at
        tokens = min(20.0, tokens + (now() - counted_at) * 20)
        counted_at = now()
        if tokens < 1:
            await asyncio.sleep(0.001)
            raise RateLimitError(429)
        tokens -= 1
        await asyncio.sleep(0.05)

    course = in_virtual_time_now(call(limiter, request, random.Random(0), calls=220))
    assert course.seconds <= 1.1 * (220 - 20) / 20
    assert course.lost == 0
    assert course.refused_share <= 0.3
    assert limiter.statistics().limit <= 3


def test_a_server_that_queues_what_it_cannot_answer_is_sent_as_much_as_the_ceiling_allows() -> None:
    limiter = AdaptiveLimiter(ceiling=64)
    in_flight: list[int] = []

    async def main() -> Course:
        turns = asyncio.Semaphore(10)

        async def request() -> None:
            in_flight.append(limiter.statistics().in_flight)
            async with turns:
                await asyncio.sleep(0.05)

        return await call(limiter, request, random.Random(0), calls=2000)

    course = in_virtual_time_now(main())
    assert max(in_flight) == 64
    assert 10 <= course.seconds <= 10.5
