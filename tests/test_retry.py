"""The policy of retries and the retry budget, as functions of values."""

import errno
import math
import pickle
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from marketplace_async import RetryEvent, RetryPolicy
from marketplace_async.errors import (
    ApiError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    MissingCredentialsError,
    NotFoundError,
    PageLoopError,
    RateLimitError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
)
from marketplace_async.retry import RetryBudget, is_local, is_outage_sign, is_retryable

LARGEST = math.nextafter(1, 0)
LOST = ConnectionFailedError("reset")
DOWN = ServerError(503)

# Error, retried, sign of an outage, error of this machine.
ERRORS: list[tuple[MarketplaceError, bool, bool, bool]] = [
    *((ApiError(status), False, False, False) for status in (302, 400, 409, 410, 422, 425, 451)),
    (ApiError(408), True, True, False),
    (NotFoundError(404), False, False, False),
    (RateLimitError(429), True, False, False),
    *((ServerError(status), True, True, False) for status in (500, 502, 503, 504)),
    *((ServerError(status), False, True, False) for status in (501, 505, 599)),
    (LOST, True, True, False),
    (ConnectionFailedError("refused", errno.ECONNREFUSED), True, True, False),
    (ConnectionFailedError("descriptors", errno.EMFILE), True, False, True),
    (ConnectionFailedError("files", errno.ENFILE), True, False, True),
    (ConnectionFailedError("buffers", errno.ENOBUFS), True, False, True),
    (ConnectionFailedError("memory", errno.ENOMEM), True, False, True),
    (ConnectionFailedError("ports", errno.EADDRNOTAVAIL), True, False, True),
    (CertificateError("self-signed"), False, True, False),
    (RequestTimeoutError("an attempt", 15), True, True, False),
    (InvalidResponseError("ends early", retryable=True), True, True, False),
    (InvalidResponseError("no SID"), False, False, False),
    (ResponseTooLargeError("too large"), False, False, False),
    (PageLoopError("a loop"), False, False, False),
    (SessionClosedError("closed"), False, False, False),
    (MissingCredentialsError("none"), False, False, False),
]


@pytest.mark.parametrize(("error", "retryable", "outage", "local"), ERRORS, ids=repr)
def test_errors(error: MarketplaceError, *, retryable: bool, outage: bool, local: bool) -> None:
    """Each error is retryable or not, a sign of an outage or not, local or not."""
    assert (is_retryable(error), is_outage_sign(error), is_local(error)) == (
        retryable,
        outage,
        local,
    )
    assert (RetryPolicy().wait(error, 1, lambda: 0) is not None) is retryable


# Policy, attempt, random number, Retry-After, wait.
SMALL = RetryPolicy(attempts=9, wait_initial=0.5, wait_max=10)
WAITS: list[tuple[RetryPolicy, int, float, float | None, float | None]] = [
    *((SMALL, n, LARGEST, None, wait) for n, wait in enumerate((0.5, 1, 2, 4, 8, 10, 10, 10), 1)),
    *((SMALL, n, 0, None, wait) for n, wait in enumerate((0.25, 0.5, 1, 2, 4, 5, 5, 5), 1)),
    (SMALL, 3, 0.5, None, 1.5),
    (SMALL, 9, 0, None, None),
    (SMALL, 10, 0, None, None),
    (SMALL, 1, 0, 3, 3),
    (SMALL, 8, LARGEST, 3, 3.5),
    (SMALL, 1, 0, 30, 30),
    (SMALL, 1, 0, 30.001, None),
    (SMALL, 1, 0, 1e35, None),
    (RetryPolicy(wait_initial=5, wait_max=1), 1, LARGEST, 3, 4),
    (RetryPolicy(wait_initial=5, wait_max=1), 1, LARGEST, None, 1),
    (RetryPolicy(wait_max=1, retry_after_max=60), 1, 0, 50, 50),
    (RetryPolicy(attempts=10**9), 10**6, LARGEST, None, 20),
    (RetryPolicy(attempts=100, wait_initial=1e308, wait_max=1e308), 90, 0, None, 5e307),
    (RetryPolicy.off(), 1, 0, None, None),
    (RetryPolicy.off(), 1, 0, 1, None),
]


@pytest.mark.parametrize(("policy", "attempt", "random", "retry_after", "wait"), WAITS)
def test_wait(
    policy: RetryPolicy, attempt: int, random: float, retry_after: float | None, wait: float | None
) -> None:
    """The wait doubles up to a maximum, with equal jitter; a Retry-After is the minimum."""
    error = ServerError(503, retry_after=retry_after)
    assert policy.wait(error, attempt, lambda: random) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *(("attempts", value, ValueError) for value in (0, -1)),
        *(("attempts", value, TypeError) for value in (2.0, math.inf, None, "2")),
        *(
            (name, value, ValueError)
            for name in ("wait_initial", "wait_max", "retry_after_max")
            for value in (0, -1, math.nan, math.inf)
        ),
        *(("wait_max", value, TypeError) for value in (True, None, "1", 1j)),
    ],
)
def test_invalid_policy(name: str, value: Any, error: type[Exception]) -> None:
    """A setting of a wrong type or value raises an error that names it."""
    with pytest.raises(error, match=f"{name}.* must be "):
        RetryPolicy(**{name: value})
    with pytest.raises(error):
        attrs.evolve(RetryPolicy(), **{name: value})


def test_values() -> None:
    """Policies and events can be pickled, and a policy shows its values."""
    event = RetryEvent("GET", "https://x/v1", 2, 0.5, ServerError(503, "Down"))
    policy, copy = pickle.loads(pickle.dumps((RetryPolicy(attempts=1), event)))  # noqa: S301  # made here
    assert policy == RetryPolicy.off()
    assert (copy.attempt, copy.wait, str(copy.error)) == (2, 0.5, "HTTP 503: Down")
    assert repr(RetryPolicy()) == (
        "RetryPolicy(attempts=6, wait_initial=0.2, wait_max=20.0, retry_after_max=30.0)"
    )


# Failures (attempt, error) and successes (None), tokens left of 500.
BUDGETS: list[tuple[Sequence[tuple[int, MarketplaceError] | None], int]] = [
    ([], 500),
    ([(1, DOWN)] * 1000, 500),
    ([(2, DOWN)], 495),
    ([(2, LOST), (3, DOWN), (10**6, DOWN)], 485),
    ([(2, DOWN)] * 1000, 0),
    ([(2, RateLimitError(429))] * 1000, 500),
    ([(2, ConnectionFailedError("descriptors", errno.EMFILE))] * 1000, 500),
    ([(2, NotFoundError(404))] * 1000, 500),
    ([(2, DOWN)] * 1000 + [None] * 7, 7),
    ([(2, DOWN), *[None] * 1000], 500),
    ([(2, DOWN), *[None] * 5] * 1000, 500),
]


@pytest.mark.parametrize(("history", "tokens"), BUDGETS)
def test_budget(history: Sequence[tuple[int, MarketplaceError] | None], tokens: int) -> None:
    """A failed retry costs 5 of 500 tokens, and a success returns one."""
    budget = RetryBudget()
    for event in history:
        if event is None:
            budget.record_success()
        else:
            attempt, error = event
            budget.record_failure(error, attempt)
    assert budget.tokens == tokens
    assert budget.is_spent is (tokens < 5)
