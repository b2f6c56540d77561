"""What the calls of a session know of the server together: how hard they may go on retrying.

Three rules, each known from the field's clients and measured here under load:

* **A quota for retries that fail.** Each costs 5 of 500 tokens, each answer that the server
  gives in good health brings one back. When the quota is spent, calls fail with the error
  they got. So a server that is down gets one request for each call and 100 more in all (and
  those that are in flight together when the last token goes), however many calls there are.
* **Few retry at a time during an outage.** From a failure to the next healthy answer, five
  calls at most wait and retry; the others stand by without using up their attempts. One
  success lets all go on, each after its own jittered wait. This is what lets hundreds of calls
  outlive an outage of seconds within that quota.
* **One pause for all.** A ``Retry-After`` that one call waits for holds the others back too.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from marketplace_async.errors import (
    ApiError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)

__all__ = ["RetryBudget", "is_outage"]

TOKENS: Final = 500
COST_OF_A_FAILED_RETRY: Final = 5
RETRYING_AT_ONCE: Final = 5


def is_outage(error: MarketplaceError) -> bool:
    """Say whether an error is a sign of a server, or of a way to it, that is in trouble."""
    match error:
        case ServerError() | ConnectionFailedError() | RequestTimeoutError():
            return True
        case ApiError(status=408):
            return True
        case InvalidResponseError():
            return error.incomplete
        case _:
            return False


class RetryBudget:
    """The shared memory of a session's calls; ``clock`` gives the present time in seconds.

    A call that retries after a sign of an outage asks for its `turn` first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = TOKENS
        self._outage = False
        self._retrying = 0
        self._standing_by: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0

    def succeeded(self) -> None:
        """Take note of an answer that shows the server in good health."""
        if self._tokens < TOKENS:
            self._tokens += 1
        if self._outage:
            self._outage = False
            self._let_go(len(self._standing_by))

    def failed(self, error: MarketplaceError, attempt: int) -> None:
        """Take note of an attempt, counted from 1, that ended in an error."""
        if isinstance(error, RateLimitError):
            return  # says nothing of the server's health, and was never processed
        if not is_outage(error):
            self.succeeded()
            return
        self._outage = True
        if attempt > 1:
            self._tokens = max(0, self._tokens - COST_OF_A_FAILED_RETRY)
            if self.is_spent:
                self._let_go(len(self._standing_by))

    @property
    def is_spent(self) -> bool:
        """Whether the quota has no room for another retry."""
        return self._tokens < COST_OF_A_FAILED_RETRY

    def pause(self, seconds: float) -> None:
        """Hold all calls back for that long from now."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    @property
    def is_paused(self) -> bool:
        """Whether calls are held back at present."""
        return self._paused_until > 0 and self.pause_left > 0

    @property
    def pause_left(self) -> float:
        """How many seconds of a pause are left, 0 or less if there is none."""
        return self._paused_until - self._clock()

    async def turn(self) -> None:
        """Stand by until this call may retry, or until the quota is spent.

        The turn lasts for the wait and the attempt, and is given back with `end_turn`.
        """
        while self._outage and self._retrying >= RETRYING_AT_ONCE and not self.is_spent:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._standing_by.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._let_go(1)  # the turn was given; somebody else takes it
                raise
        self._retrying += 1

    def end_turn(self) -> None:
        """Give back what `turn` gave."""
        self._retrying -= 1
        self._let_go(1)

    def _let_go(self, count: int) -> None:
        while count and self._standing_by:
            turn = self._standing_by.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1
