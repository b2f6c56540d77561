"""What the calls of a session do while the server is down: a few probe, the others wait.

An outage begins after five failed attempts in succession, of any calls, and ends with the first
healthy response. Meanwhile an attempt needs a turn. The intervals between turns double up to
two seconds, so a server that is down gets about one request per second for any number of calls.
After the outage each attempt that ends releases two waiting calls: the load at most doubles with
each round trip.
"""

import asyncio
import copy
import random
from collections import deque
from typing import Final

from marketplace_async.errors import MarketplaceError

__all__ = ["DOWN", "Outage"]

FAILURES: Final = 5
INTERVAL_MAX: Final = 2.0  # seconds
PROBES_MAX: Final = 5  # in flight: a server that hangs ends none of them
RELEASED_PER_ATTEMPT: Final = 2

DOWN: Final = "the server is down: other attempts of this session fail too"


class Outage:
    """The state of the server as seen by the calls of one session, in one event loop.

    ``attempts`` is the number of failed probes after which direct calls give up, ``interval``
    the maximum time before the first probe in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, attempts: int, interval: float) -> None:
        self.is_on: bool = False
        """True during an outage."""
        self._loop = loop
        self._attempts = attempts
        self._interval = interval
        self._failures = 0  # in succession
        self._failed_probes = 0
        self._probes = 0  # in flight
        self._is_assigned = False  # a turn whose probe has not begun
        self._is_due = False  # a turn that cannot be assigned yet
        self._timer: asyncio.TimerHandle | None = None
        # A turn is True for a probe, False for an attempt after the outage.
        self._direct: deque[asyncio.Future[bool]] = deque()
        self._batch: deque[asyncio.Future[bool]] = deque()

    @property
    def is_long(self) -> bool:
        """True if enough probes have failed for direct calls to give up."""
        return self.is_on and self._failed_probes >= self._attempts

    def record_success(self) -> None:
        """Record a response of a server that works."""
        self._failures = 0
        if self.is_on:
            self.is_on = self._is_due = False
            self.close()

    def record_failure(self, error: MarketplaceError, *, was_probe: bool) -> None:
        """Record an attempt that failed as attempts fail in an outage."""
        self._failures += 1
        if self.is_on:
            if was_probe:
                self._failed_probes += 1
                while self.is_long and self._direct:
                    turn = self._direct.popleft()
                    if not turn.done():
                        failure = copy.copy(error)
                        failure.not_retried = DOWN
                        turn.set_exception(failure)
        elif self._failures >= FAILURES:
            self.is_on = True
            self._failed_probes = 0
            self._schedule()

    async def wait_for_turn(self, *, is_batch: bool) -> bool:
        """Wait until an attempt may be made; return True if it is a probe.

        Call `begin_probe` when the probe starts, and `end_probe` also if it never starts.

        :raises MarketplaceError: the error of the last probe, if direct calls give up.
        """
        turn: asyncio.Future[bool] = self._loop.create_future()
        (self._batch if is_batch else self._direct).append(turn)
        if self._is_due:
            self._next_turn()
        try:
            return await turn
        except asyncio.CancelledError:
            # Was a probe assigned at the moment of the cancellation?
            if turn.done() and not turn.cancelled() and not turn.exception() and turn.result():
                self._is_due = self.is_on
                self.end_probe(has_begun=False)
            raise

    def begin_probe(self) -> None:
        """Record the start of a probe: another turn may be assigned."""
        self._is_assigned = False
        self._probes += 1
        if self._is_due:
            self._next_turn()

    def end_probe(self, *, has_begun: bool) -> None:
        """Record the end of a probe, in whichever way it ended."""
        if has_begun:
            self._probes -= 1
        else:
            self._is_assigned = False
        if self._is_due:
            self._next_turn()

    def release(self) -> None:
        """Let some of the waiting calls go on, unless the outage continues."""
        if (self._direct or self._batch) and not self.is_on:
            for _ in range(RELEASED_PER_ATTEMPT):
                self._assign(is_probe=False)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self.close()
        longest = min(INTERVAL_MAX, self._interval * 2.0 ** min(self._failed_probes, 60))
        self._timer = self._loop.call_later((1 + random.random()) / 2 * longest, self._next_turn)

    def _next_turn(self) -> None:
        # One probe at a time waits for the limiter: no other call should wait there in vain.
        has_room = not self._is_assigned and self._probes < PROBES_MAX
        self._is_due = not (has_room and self._assign(is_probe=True))
        if not self._is_due:
            self._is_assigned = True
            self._schedule()

    def _assign(self, *, is_probe: bool) -> bool:
        """Assign a turn to the first waiting call; return False if none waits."""
        for queue in self._direct, self._batch:
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(is_probe)
                    return True
        return False
