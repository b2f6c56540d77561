"""When a failed attempt is followed by another, and after how long: functions of values."""

from collections.abc import Callable
from typing import Final

import attrs

from marketplace_async.errors import (
    ApiError,
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    RequestTimeoutError,
)
from marketplace_async.validation import is_seconds, is_whole_number_from_1

__all__ = ["RetryEvent", "RetryPolicy", "is_retryable"]

# 429 was never processed (https://www.twilio.com/docs/api/errors/20429); the rest may have
# been, which is harmless: all this library sends is GET.
RETRYABLE_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})


def is_retryable(error: MarketplaceError) -> bool:
    """Say whether the same request may well succeed if it is made again."""
    match error:
        case ApiError():
            return error.status in RETRYABLE_STATUSES
        case CertificateError():
            return False
        case InvalidResponseError():
            return error.incomplete
        case _:
            return isinstance(error, (ConnectionFailedError, RequestTimeoutError))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often a call tries, and how long it waits in between.

    The wait before attempt *n* + 1 is drawn evenly from 0 to ``wait_initial`` · 2ⁿ⁻¹, at most
    ``wait_max`` seconds ("full jitter"), so that callers who failed together do not come back
    together. Where the server says how long to wait, that is the least.

    How long a call may take in all is `Timeout.total`.
    """

    attempts: int = attrs.field(default=6, validator=is_whole_number_from_1)
    """How many attempts a call makes at the most."""

    wait_initial: float = attrs.field(default=0.2, validator=is_seconds)
    """The longest wait before the second attempt, in seconds; it doubles with each."""

    wait_max: float = attrs.field(default=20.0, validator=is_seconds)
    """The longest wait that this policy chooses by itself, in seconds."""

    retry_after_max: float = attrs.field(default=30.0, validator=is_seconds)
    """The longest ``Retry-After`` that is waited for, in seconds; a longer one ends the call."""

    @classmethod
    def off(cls) -> "RetryPolicy":
        """Give the policy of a single attempt."""
        return cls(attempts=1)

    def wait(
        self, error: MarketplaceError, attempt: int, random: Callable[[], float]
    ) -> float | None:
        """Give the seconds to wait after ``attempt`` (from 1) failed, ``None`` to give up.

        ``random`` gives a number from 0 up to 1.
        """
        if attempt >= self.attempts or not is_retryable(error):
            return None
        # Beyond 2**60 only the bound counts; larger floats overflow.
        ceiling = min(self.wait_max, self.wait_initial * 2.0 ** min(attempt - 1, 60))
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is None:
            return random() * ceiling
        if asked > self.retry_after_max:
            return None
        return asked + random() * min(ceiling, self.wait_initial)


@attrs.frozen
class RetryEvent:
    """What ``on_retry`` is called with before each wait."""

    method: str
    """The HTTP method, ``GET``."""

    url: str
    """The URL of the request."""

    attempt: int
    """Which attempt failed, from 1."""

    wait: float
    """How many seconds are waited before the next."""

    error: MarketplaceError
    """Why it failed."""
