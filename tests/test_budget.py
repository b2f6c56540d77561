import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import in_virtual_time

from marketplace_async.budget import RetryBudget, is_outage
from marketplace_async.errors import (
    ApiError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
)
from marketplace_async.retry import is_retryable

DOWN = ServerError(503)
NOT_FOUND = NotFoundError(404)
TOO_MANY = RateLimitError(429, retry_after=1)


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def budget() -> RetryBudget:
    return RetryBudget(Clock())


def failing_retries_left(budget: RetryBudget) -> int:
    """How many retries may fail until the quota is spent; they are used up by asking."""
    count = 0
    while not budget.is_spent:
        budget.failed(DOWN, attempt=2)
        count += 1
    return count


# The quota.


def test_a_hundred_retries_may_fail(budget: RetryBudget) -> None:
    assert failing_retries_left(budget) == 100


def test_first_attempts_cost_nothing(budget: RetryBudget) -> None:
    for _ in range(10_000):
        budget.failed(DOWN, attempt=1)
    assert failing_retries_left(budget) == 100


@pytest.mark.parametrize("attempt", [2, 3, 6, 10**6])
def test_all_later_attempts_cost_the_same(budget: RetryBudget, attempt: int) -> None:
    for _ in range(99):
        budget.failed(DOWN, attempt)
    assert not budget.is_spent
    budget.failed(DOWN, attempt)
    assert budget.is_spent


def test_five_healthy_answers_pay_for_a_retry(budget: RetryBudget) -> None:
    failing_retries_left(budget)
    for _ in range(4):
        budget.succeeded()
        assert budget.is_spent
    budget.succeeded()
    assert not budget.is_spent
    assert failing_retries_left(budget) == 1


def test_healthy_answers_fill_the_quota_up_and_no_further(budget: RetryBudget) -> None:
    failing_retries_left(budget)
    for _ in range(10_000):
        budget.succeeded()
    assert failing_retries_left(budget) == 100


def test_the_quota_does_not_fall_below_nothing(budget: RetryBudget) -> None:
    failing_retries_left(budget)
    for _ in range(1_000):
        budget.failed(DOWN, attempt=2)
    for _ in range(5):
        budget.succeeded()
    assert not budget.is_spent


def test_being_asked_to_slow_down_costs_nothing_and_pays_nothing(budget: RetryBudget) -> None:
    for _ in range(1_000):
        budget.failed(TOO_MANY, attempt=2)
    assert failing_retries_left(budget) == 100
    for _ in range(1_000):
        budget.failed(TOO_MANY, attempt=2)
    assert budget.is_spent


@pytest.mark.parametrize(
    "error",
    [
        NOT_FOUND,
        ApiError(400),
        ApiError(302),
        PermissionDeniedError(403),
        ResponseTooLargeError("x"),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "status", "")),
)
def test_an_answer_that_shows_the_server_in_good_health_pays_whatever_it_says(
    budget: RetryBudget, error: MarketplaceError
) -> None:
    failing_retries_left(budget)
    for _ in range(5):
        budget.failed(error, attempt=1)
    assert not budget.is_spent


def test_a_mixed_load_is_charged_by_its_balance(budget: RetryBudget) -> None:
    """One retry in six requests fails: five successes pay for each."""
    for _ in range(10_000):
        budget.failed(DOWN, attempt=2)
        for _ in range(5):
            budget.succeeded()
    assert not budget.is_spent


ANSWERS = [
    *(ApiError(status) for status in range(300, 500) if status not in (404, 429)),
    NOT_FOUND,
    TOO_MANY,
    *(ServerError(status) for status in range(500, 600)),
]
NO_ANSWERS = [
    ConnectionFailedError("refused"),
    CertificateError("self-signed"),
    RequestTimeoutError("an attempt", 15.0),
    InvalidResponseError("not JSON", incomplete=True),
    InvalidResponseError("a wrong shape"),
    ResponseTooLargeError("too large"),
    SessionClosedError("closed"),
]


def test_every_retry_is_charged_but_those_that_were_asked_to_slow_down() -> None:
    retried = {error for error in [*ANSWERS, *NO_ANSWERS] if is_retryable(error)}
    outages = {error for error in [*ANSWERS, *NO_ANSWERS] if is_outage(error)}
    assert retried - outages == {TOO_MANY}


def test_an_outage_is_what_the_server_or_the_way_to_it_is_in_trouble_for() -> None:
    assert {error.status for error in ANSWERS if is_outage(error)} == {408, *range(500, 600)}
    assert [type(error).__name__ for error in NO_ANSWERS if is_outage(error)] == [
        "ConnectionFailedError",
        "CertificateError",
        "RequestTimeoutError",
        "InvalidResponseError",
    ]


# The gate.


class Crowd:
    """Callers that each ask for a turn; turns are given back by the test."""

    def __init__(self) -> None:
        self.budget = RetryBudget(asyncio.get_running_loop().time)
        self.callers: list[asyncio.Task[None]] = []
        self.order: list[int] = []
        self.ended = 0

    def join(self, count: int = 1) -> None:
        for number in range(len(self.callers), len(self.callers) + count):
            self.callers.append(asyncio.create_task(self._ask(number)))

    async def _ask(self, number: int) -> None:
        await self.budget.turn()
        self.order.append(number)

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            self.budget.end_turn()
            self.ended += 1

    @property
    def retrying(self) -> int:
        return len(self.order) - self.ended

    def cancel(self, *numbers: int) -> None:
        for number in numbers:
            self.callers[number].cancel()


async def all_blocked() -> None:
    """In virtual time, a second passes only when nobody has anything to do."""
    await asyncio.sleep(1)


async def crowd_in_an_outage(count: int) -> Crowd:
    crowd = Crowd()
    crowd.budget.failed(DOWN, attempt=1)
    crowd.join(count)
    await all_blocked()
    return crowd


async def leave(crowd: Crowd) -> None:
    """All turns end, one by one, and with them everybody who stands by gets one."""
    while crowd.retrying:
        crowd.end()
        await all_blocked()
    assert all(caller.done() for caller in crowd.callers)


@in_virtual_time
async def test_without_an_outage_everybody_may_retry_at_once() -> None:
    crowd = Crowd()
    crowd.join(100)
    await all_blocked()
    assert len(crowd.order) == 100


@in_virtual_time
async def test_being_asked_to_slow_down_is_no_outage() -> None:
    crowd = Crowd()
    crowd.budget.failed(TOO_MANY, attempt=1)
    crowd.join(100)
    await all_blocked()
    assert len(crowd.order) == 100


@in_virtual_time
async def test_in_an_outage_five_retry_and_the_others_stand_by() -> None:
    crowd = await crowd_in_an_outage(100)
    assert crowd.order == [0, 1, 2, 3, 4]
    await leave(crowd)
    assert crowd.order == list(range(100))


@in_virtual_time
async def test_turns_are_given_on_in_the_order_in_which_callers_came() -> None:
    crowd = await crowd_in_an_outage(12)
    for given_on in range(1, 4):
        crowd.end()
        await all_blocked()
        assert crowd.order == list(range(5 + given_on))
    crowd.end(4)
    await all_blocked()
    assert crowd.order == list(range(12))


def succeed(budget: RetryBudget) -> None:
    budget.succeeded()


def be_told_of_health(budget: RetryBudget) -> None:
    budget.failed(NOT_FOUND, attempt=1)


@pytest.mark.parametrize("event", [succeed, be_told_of_health])
@in_virtual_time
async def test_a_sign_of_health_lets_everybody_go(
    event: Callable[[RetryBudget], None],
) -> None:
    crowd = await crowd_in_an_outage(100)
    event(crowd.budget)
    await all_blocked()
    assert crowd.order == list(range(100))
    crowd.join(10)
    await all_blocked()
    assert crowd.order == list(range(110))


@in_virtual_time
async def test_a_spent_quota_lets_everybody_go_who_will_find_it_spent() -> None:
    crowd = await crowd_in_an_outage(100)
    for _ in range(99):
        crowd.budget.failed(DOWN, attempt=2)
    await all_blocked()
    assert len(crowd.order) == 5
    crowd.budget.failed(DOWN, attempt=2)
    await all_blocked()
    assert crowd.order == list(range(100))
    assert crowd.budget.is_spent


@in_virtual_time
async def test_a_refusal_for_too_many_requests_lets_nobody_go() -> None:
    crowd = await crowd_in_an_outage(10)
    crowd.budget.failed(TOO_MANY, attempt=2)
    await all_blocked()
    assert len(crowd.order) == 5
    await leave(crowd)


@in_virtual_time
async def test_more_failures_of_the_same_outage_let_nobody_go() -> None:
    crowd = await crowd_in_an_outage(10)
    for attempt in range(1, 50):
        crowd.budget.failed(DOWN, attempt)
    await all_blocked()
    assert len(crowd.order) == 5
    await leave(crowd)


@in_virtual_time
async def test_in_the_next_outage_those_who_still_retry_count() -> None:
    crowd = await crowd_in_an_outage(10)
    crowd.budget.succeeded()
    await all_blocked()
    crowd.budget.failed(DOWN, attempt=1)
    crowd.join(2)
    for _ in range(5):  # of the ten that were let go
        crowd.end()
        await all_blocked()
        assert len(crowd.order) == 10
    crowd.end()
    await all_blocked()
    assert len(crowd.order) == 11
    await leave(crowd)


@in_virtual_time
async def test_a_success_and_a_failure_in_one_tick_leave_five_retrying() -> None:
    crowd = await crowd_in_an_outage(20)
    crowd.budget.succeeded()
    crowd.budget.failed(DOWN, attempt=1)
    await all_blocked()
    assert crowd.order == [0, 1, 2, 3, 4]
    await leave(crowd)
    assert sorted(crowd.order) == list(range(20))


@in_virtual_time
async def test_callers_cancelled_while_they_stand_by_cost_nobody_a_turn() -> None:
    crowd = await crowd_in_an_outage(12)
    crowd.cancel(5, 6, 8)
    await all_blocked()
    for _ in range(3):
        crowd.end()
        await all_blocked()
    assert crowd.order == [0, 1, 2, 3, 4, 7, 9, 10]
    await leave(crowd)


@in_virtual_time
async def test_a_caller_cancelled_after_its_turn_came_and_before_it_ran_gives_it_on() -> None:
    crowd = await crowd_in_an_outage(8)
    crowd.end()
    crowd.cancel(5)
    await all_blocked()
    assert crowd.order == [0, 1, 2, 3, 4, 6]
    crowd.end(2)
    crowd.cancel(7)
    await all_blocked()
    assert crowd.callers[5].cancelled()
    assert crowd.callers[7].cancelled()
    crowd.join()
    await all_blocked()
    assert crowd.order == [0, 1, 2, 3, 4, 6, 8]


@in_virtual_time
async def test_a_caller_cancelled_in_the_tick_before_its_turn_comes_is_passed_over() -> None:
    crowd = await crowd_in_an_outage(8)
    crowd.cancel(5)
    crowd.end()
    await all_blocked()
    assert crowd.order == [0, 1, 2, 3, 4, 6]
    await leave(crowd)


@in_virtual_time
async def test_a_newcomer_in_the_tick_in_which_a_turn_is_given_on_makes_no_sixth() -> None:
    crowd = await crowd_in_an_outage(6)
    crowd.join()
    crowd.end()
    await all_blocked()
    assert len(crowd.order) == 6
    await leave(crowd)
    assert sorted(crowd.order) == list(range(7))


steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "cancel", "end", "fail", "fail again", "succeed", "tick"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


async def take(step: str, number: int, crowd: Crowd) -> None:
    match step:
        case "join":
            crowd.join(number % 7)
        case "cancel" if crowd.callers:
            crowd.cancel(number % len(crowd.callers))
        case "end" if crowd.retrying:
            crowd.end()
        case "fail":
            crowd.budget.failed(DOWN, attempt=1)
        case "fail again":
            crowd.budget.failed(DOWN, attempt=2)
        case "succeed":
            crowd.budget.succeeded()
        case _:
            await all_blocked()


@given(steps)
@in_virtual_time
async def test_whatever_happens_no_turn_is_lost_and_none_is_given_beyond_five(
    steps: list[tuple[str, int]],
) -> None:
    crowd = Crowd()
    outage = False
    for step, number in steps:
        turns = len(crowd.order)
        await take(step, number, crowd)
        outage = step.startswith("fail") or (outage and step != "succeed")
        assert not outage or len(crowd.order) == turns or crowd.retrying <= 5
    await all_blocked()
    assert outage or all(caller.done() for caller in crowd.callers)
    await leave(crowd)

    crowd.budget.failed(DOWN, attempt=1)
    crowd.join(10)
    await all_blocked()
    assert crowd.retrying == 5
    await leave(crowd)


# The pause.


def test_there_is_no_pause_until_one_is_asked_for() -> None:
    for start in (0.0, 1_000.0):
        budget = RetryBudget(Clock(start))
        assert not budget.is_paused
        assert budget.pause_left <= 0


@pytest.mark.parametrize(
    ("later", "is_paused", "left"),
    [(0, True, 10), (9.5, True, 0.5), (10, False, 0), (15, False, -5)],
)
def test_a_pause_lasts_as_long_as_was_asked(later: float, left: float, *, is_paused: bool) -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    budget.pause(10)
    clock.now += later
    assert budget.is_paused is is_paused
    assert budget.pause_left == left


@pytest.mark.parametrize(("second", "left"), [(1, 6), (6, 6), (20, 20)])
def test_of_two_pauses_the_one_that_ends_later_counts(second: float, left: float) -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    budget.pause(10)
    clock.now += 4
    budget.pause(second)
    assert budget.pause_left == left


def test_a_pause_may_follow_another() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    budget.pause(1)
    clock.now += 100
    budget.pause(3)
    assert budget.is_paused
    assert budget.pause_left == 3


def test_health_and_failures_do_not_end_a_pause() -> None:
    budget = RetryBudget(Clock())
    budget.pause(1)
    budget.succeeded()
    budget.failed(DOWN, attempt=2)
    assert budget.pause_left == 1
