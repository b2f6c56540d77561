import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.errors import (
    ApiError,
    AuthenticationError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    InvalidSidError,
    MarketplaceError,
    MissingCredentialsError,
    NotFoundError,
    PageLoopError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
    UntrustedPageUrlError,
)
from marketplace_async.retry import RetryEvent, RetryPolicy, is_retryable

LARGEST = math.nextafter(1, 0)
"""The largest number that `random.random` gives."""

REFUSED = ConnectionFailedError("refused")

ANSWERS: list[type[ApiError]] = [
    ApiError,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
]


def least() -> float:
    return 0.0


def most() -> float:
    return LARGEST


def waits(policy: RetryPolicy, error: MarketplaceError, random: Callable[[], float]) -> list[float]:
    """The waits of a call all of whose attempts fail like this."""

    def one_by_one() -> Iterator[float]:
        attempt = 1
        while (wait := policy.wait(error, attempt, random)) is not None:
            yield wait
            attempt += 1

    return list(one_by_one())


# What is retried.


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_of_all_answers_those_are_retried_that_may_well_be_others_next_time(
    kind: type[ApiError],
) -> None:
    retried = {status for status in range(100, 600) if is_retryable(kind(status))}
    assert retried == {408, 429, 500, 502, 503, 504}


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (REFUSED, True),
        (RequestTimeoutError("an attempt", 15.0), True),
        (InvalidResponseError("the body is not JSON", (), incomplete=True), True),
        (InvalidResponseError("the body has an unexpected shape"), False),
        (CertificateError("self-signed"), False),
        (ResponseTooLargeError("too large"), False),
        (UntrustedPageUrlError("leads away"), False),
        (PageLoopError("again"), False),
        (SessionClosedError("closed"), False),
        (MissingCredentialsError("none"), False),
        (InvalidSidError("x", "an Extension", "XF"), False),
        (MarketplaceError("anything"), False),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, Exception) else "",
)
def test_of_what_is_no_answer_that_is_retried_which_may_pass(
    error: MarketplaceError, *, retried: bool
) -> None:
    assert is_retryable(error) is retried
    assert (RetryPolicy().wait(error, 1, most) is not None) is retried


# How long is waited.


def test_the_longest_wait_doubles_up_to_a_bound() -> None:
    policy = RetryPolicy(attempts=9, wait_initial=0.5, wait_max=10)
    assert waits(policy, REFUSED, most) == pytest.approx([0.5, 1, 2, 4, 8, 10, 10, 10])


def test_the_shortest_wait_is_none_at_all() -> None:
    assert waits(RetryPolicy(attempts=4), REFUSED, least) == [0, 0, 0]


@pytest.mark.parametrize(("drawn", "wait"), [(0.25, 1), (0.5, 2), (0.75, 3)])
def test_a_wait_is_drawn_evenly_from_none_to_the_longest(drawn: float, wait: float) -> None:
    assert RetryPolicy(wait_initial=1).wait(REFUSED, 3, lambda: drawn) == wait


def test_each_wait_is_drawn_anew() -> None:
    drawn = iter([0.1, 0.9, 0.5])
    policy = RetryPolicy(attempts=4, wait_initial=1)
    assert waits(policy, REFUSED, lambda: next(drawn)) == pytest.approx([0.1, 1.8, 2.0])


def test_the_default_policy_makes_six_attempts() -> None:
    assert waits(RetryPolicy(), REFUSED, most) == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_the_bound_holds_for_the_first_wait_too() -> None:
    policy = RetryPolicy(attempts=3, wait_initial=5, wait_max=1)
    assert waits(policy, REFUSED, most) == pytest.approx([1, 1])


@pytest.mark.parametrize("attempt", [61, 62, 1_000, 1_025, 10**6])
def test_no_attempt_is_too_late_to_calculate_its_wait(attempt: int) -> None:
    policy = RetryPolicy(attempts=10**9)
    assert policy.wait(REFUSED, attempt, most) == pytest.approx(20)


def test_no_setting_is_too_large_to_calculate_with() -> None:
    large = RetryPolicy(attempts=100, wait_initial=1e308, wait_max=1e308, retry_after_max=1e308)
    assert large.wait(REFUSED, 90, most) == 1e308 * LARGEST
    small = RetryPolicy(attempts=100, wait_initial=5e-324, wait_max=5e-324)
    assert small.wait(REFUSED, 90, most) in (0, 5e-324)


@pytest.mark.parametrize("attempts", [1, 2, 6])
def test_after_the_last_attempt_the_call_gives_up(attempts: int) -> None:
    policy = RetryPolicy(attempts=attempts)
    assert len(waits(policy, REFUSED, most)) == attempts - 1
    assert policy.wait(REFUSED, attempts + 1, most) is None


def test_retries_can_be_turned_off() -> None:
    assert RetryPolicy.off() == RetryPolicy(attempts=1)
    for error in (REFUSED, RateLimitError(429, retry_after=1), ServerError(503)):
        assert RetryPolicy.off().wait(error, 1, least) is None


def asks(seconds: float, status: int = 429) -> ApiError:
    return ApiError(status, retry_after=seconds)


def test_what_the_server_asks_for_is_the_least_and_little_is_added_to_it() -> None:
    policy = RetryPolicy(attempts=10, wait_initial=0.5)
    assert waits(policy, asks(3), least) == [3] * 9
    assert waits(policy, asks(3), most) == pytest.approx([3.5] * 9)


def test_what_is_added_to_what_the_server_asks_for_is_no_more_than_the_policys_own_wait() -> None:
    policy = RetryPolicy(wait_initial=5, wait_max=1)
    assert policy.wait(asks(3), 1, most) == pytest.approx(4)


@pytest.mark.parametrize(
    ("seconds", "waited"),
    [(0.001, 0.001), (29.9, 29.9), (30, 30), (30.001, None), (3600, None), (1e35, None)],
)
def test_the_server_is_waited_for_as_long_as_the_policy_allows(
    seconds: float, waited: float | None
) -> None:
    for status in (429, 503):
        assert RetryPolicy().wait(asks(seconds, status), 1, least) == waited


def test_what_the_server_asks_for_may_be_longer_than_the_policys_own_waits() -> None:
    policy = RetryPolicy(wait_max=1, retry_after_max=60)
    assert policy.wait(asks(50), 1, least) == 50


def test_an_answer_that_is_not_retried_is_not_whatever_the_server_asks_for() -> None:
    assert RetryPolicy().wait(asks(1, 400), 1, least) is None


seconds = st.floats(0, 1e308, exclude_min=True)


@given(
    st.builds(
        RetryPolicy,
        attempts=st.integers(1, 10**6),
        wait_initial=seconds,
        wait_max=seconds,
        retry_after_max=st.floats(0, 1e300, exclude_min=True),
    ),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.none() | seconds,
)
def test_whatever_the_settings_a_wait_is_within_its_bounds(
    policy: RetryPolicy, attempt: int, drawn: float, asked: float | None
) -> None:
    wait = policy.wait(ServerError(503, retry_after=asked), attempt, lambda: drawn)
    if attempt >= policy.attempts or (asked or 0) > policy.retry_after_max:
        assert wait is None
    else:
        assert wait is not None
        assert (asked or 0) <= wait <= (asked or 0) + policy.wait_max


# The settings.


@pytest.mark.parametrize("name", ["wait_initial", "wait_max", "retry_after_max"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (10**400, ValueError),
        (True, TypeError),
        (None, TypeError),
        ("1", TypeError),
        (1j, TypeError),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_wait_is_a_finite_number_of_seconds_above_0(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=rf"^{name} must be "):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (True, TypeError),
        (2.0, TypeError),
        (math.inf, TypeError),
        (None, TypeError),
        ("2", TypeError),
    ],
)
def test_attempts_are_a_whole_number_from_1(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^attempts must be "):
        RetryPolicy(attempts=value)


def test_settings_are_given_by_name_alone() -> None:
    positional: Any = RetryPolicy
    with pytest.raises(TypeError):
        positional(3)


def test_a_policy_can_be_pickled_and_shows_its_values() -> None:
    policy = RetryPolicy(attempts=3)
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301  # made right here
    assert repr(policy) == (
        "RetryPolicy(attempts=3, wait_initial=0.2, wait_max=20.0, retry_after_max=30.0)"
    )
    assert len({policy, RetryPolicy(attempts=3), RetryPolicy()}) == 2


def test_a_policy_cannot_be_changed_but_evolved_and_is_checked_again() -> None:
    policy: Any = RetryPolicy()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.attempts = 2
    assert attrs.evolve(RetryPolicy(), attempts=2) == RetryPolicy(attempts=2)
    with pytest.raises(ValueError, match=r"^attempts must be "):
        attrs.evolve(RetryPolicy(), attempts=0)


def test_an_event_says_what_failed_and_how_long_is_waited_and_can_be_pickled() -> None:
    event = RetryEvent("GET", "https://x/v1", 2, 0.5, ServerError(503, "Down"))
    again = pickle.loads(pickle.dumps(event))  # noqa: S301  # made right here
    assert (again.method, again.url, again.attempt, again.wait) == ("GET", "https://x/v1", 2, 0.5)
    assert str(again.error) == "HTTP 503: Down"
