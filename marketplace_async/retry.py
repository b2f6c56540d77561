"""When a failed attempt is repeated: the policy of one call, and the budget of a session."""

import errno
from collections.abc import Callable
from typing import Final

import attrs
from attrs.validators import ge, instance_of

from marketplace_async.errors import (
    ApiError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    RequestTimeoutError,
    ServerError,
)
from marketplace_async.settings import seconds

__all__ = ["RetryBudget", "RetryEvent", "RetryPolicy", "is_local", "is_outage_sign", "is_retryable"]

# A 429 was never processed (https://www.twilio.com/docs/api/errors/20429). The others may have
# been, which is harmless for GET.
RETRYABLE_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})

# This machine has no descriptor, buffer, memory or port left: too many connections at once.
LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)

TOKENS: Final = 500
TOKENS_PER_FAILED_RETRY: Final = 5


def is_retryable(error: MarketplaceError) -> bool:
    """Return True if the same request may succeed when it is repeated."""
    if isinstance(error, ApiError):
        return error.status in RETRYABLE_STATUSES
    if isinstance(error, InvalidResponseError):
        return error.retryable
    return not isinstance(error, CertificateError) and isinstance(
        error, (ConnectionFailedError, RequestTimeoutError)
    )


def is_local(error: BaseException) -> bool:
    """Return True if the error is about this machine's resources, not about the server."""
    return isinstance(error, ConnectionFailedError) and error.errno in LOCAL_ERRORS


def is_outage_sign(error: MarketplaceError) -> bool:
    """Return True if the error suggests that the server, or the way to it, does not work."""
    if isinstance(error, ApiError):
        return isinstance(error, ServerError) or error.status == 408
    if isinstance(error, InvalidResponseError):
        return error.retryable
    return isinstance(error, (ConnectionFailedError, RequestTimeoutError)) and not is_local(error)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How many attempts a call makes, and how long it waits between them.

    The wait before attempt *n* + 1 is between the half and the whole of ``wait_initial`` · 2ⁿ⁻¹
    seconds, at most ``wait_max`` ("equal jitter"): calls that failed together do not come back
    together, and six attempts span at least 3.1 seconds. A ``Retry-After`` is the minimum, and
    `Timeout.total` limits the duration of the whole call.

    Calls inside a fan-out use up an attempt only for errors of their own: not for a 429, and
    not while the server is down.
    """

    attempts: int = attrs.field(default=6, validator=[instance_of(int), ge(1)])
    """The maximum number of attempts of a call."""
    wait_initial: float = attrs.field(default=0.2, validator=seconds)
    """The maximum wait before the second attempt, in seconds; it doubles with each attempt."""
    wait_max: float = attrs.field(default=20.0, validator=seconds)
    """The maximum wait between two attempts without ``Retry-After``, in seconds."""
    retry_after_max: float = attrs.field(default=30.0, validator=seconds)
    """The maximum ``Retry-After`` that a call waits for, in seconds; a longer one ends it."""

    @classmethod
    def off(cls) -> "RetryPolicy":
        """Return the policy of a single attempt."""
        return cls(attempts=1)

    def wait(
        self, error: MarketplaceError, attempt: int, random: Callable[[], float]
    ) -> float | None:
        """Return the seconds to wait after ``attempt`` (from 1) failed, None to give up.

        ``random`` returns a number from 0 up to 1.
        """
        if attempt >= self.attempts or not is_retryable(error):
            return None
        # Above 2**60 only wait_max counts; larger floats overflow.
        ceiling = min(self.wait_max, self.wait_initial * 2.0 ** min(attempt - 1, 60))
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        if retry_after is None:
            return (1 + random()) / 2 * ceiling
        if retry_after > self.retry_after_max:
            return None
        return retry_after + random() * min(ceiling, self.wait_initial)


class RetryBudget:
    """The number of retries that a session may waste.

    Each failed retry of a direct call costs 5 of 500 tokens; each success returns one. While
    the budget is spent, direct calls end after one attempt. So a server that fails most
    requests is not sent many times as many.
    """

    def __init__(self) -> None:
        self.tokens: int = TOKENS

    @property
    def is_spent(self) -> bool:
        """True if no token is left for another retry."""
        return self.tokens < TOKENS_PER_FAILED_RETRY

    def record_success(self) -> None:
        """Record a healthy response."""
        if self.tokens < TOKENS:
            self.tokens += 1

    def record_failure(self, error: MarketplaceError, attempt: int) -> None:
        """Record a failed attempt, from 1. The first one, 429s and local errors are free."""
        if attempt > 1 and is_outage_sign(error):
            self.tokens = max(0, self.tokens - TOKENS_PER_FAILED_RETRY)


@attrs.frozen
class RetryEvent:
    """The argument of ``on_retry``, which is called before each wait."""

    method: str
    """The HTTP method."""
    url: str
    """The URL of the request."""
    attempt: int
    """The number of the attempt that failed, from 1."""
    wait: float
    """The seconds until the next attempt, at least."""
    error: MarketplaceError
    """The error of the attempt."""
