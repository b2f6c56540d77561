"""Faults of a sandbox: those asked for in advance, and a share of random ones."""

import random
from collections.abc import Mapping
from enum import Enum
from typing import Final

import attrs

from marketplace_async.sandbox.answers import Answer, error_answer

__all__ = ["Cut", "Fault", "FaultInjector", "ScriptedFaults"]


class Cut(Enum):
    """Where a connection is cut."""

    BEFORE_ANSWER = "before the answer"
    IN_BODY = "in the middle of the body"


@attrs.frozen
class Fault:
    """What goes wrong with one request."""

    answer: Answer | None = None
    """Sent in place of the right answer."""

    delay: float = 0.0
    """How long the request waits before anything else is done, in seconds."""

    cut: Cut | None = None
    """Where its connection is cut."""


@attrs.define(eq=False)
class _Step:
    fault: Fault
    times: int
    path: str | None


class ScriptedFaults:
    """The faults that a sandbox is asked for, kept in one queue.

    A request takes the first that is meant for it. They come before everything else, the
    check of the credentials included.
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int = 1,
        code: int | None = None,
        message: str | None = None,
        retry_after: float | str | None = None,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        """Answer the next request with an error, or with whatever ``status`` and ``body`` say.

        :param status: the status to answer with.
        :param times: to how many requests.
        :param code: Twilio's error code; the usual one of the status unless given.
        :param message: the error's message; the usual one of the status unless given.
        :param retry_after: the value of the header ``Retry-After``.
        :param body: sent as it is, in place of Twilio's error.
        :param headers: further headers, or other values for those always sent.
        :param path: only to requests whose path contains this, such as a SID.
        :raises ValueError: ``times`` is below 1, or ``status`` is not between 200 and 599.
        """
        if not 200 <= status <= 599:
            raise ValueError(f"status should be between 200 and 599, not {status}")
        sent = dict(headers or {})
        if retry_after is not None:
            sent["Retry-After"] = str(retry_after)
        answer = error_answer(status, message, code, sent)
        if body is not None:
            answer = attrs.evolve(answer, body=body.encode() if isinstance(body, str) else body)
        self._plan(Fault(answer), times, path)

    def delay_next(self, seconds: float, *, times: int = 1, path: str | None = None) -> None:
        """Let the next request wait before it is answered.

        :raises ValueError: ``times`` is below 1.
        """
        self._plan(Fault(delay=seconds), times, path)

    def drop_next(self, *, times: int = 1, path: str | None = None) -> None:
        """Close the connection of the next request without an answer.

        aiohttp's client asks a second time by itself before its user hears of it.

        :raises ValueError: ``times`` is below 1.
        """
        self._plan(Fault(cut=Cut.BEFORE_ANSWER), times, path)

    def truncate_next(self, *, times: int = 1, path: str | None = None) -> None:
        """Close the connection of the next request half-way through the body of the answer.

        :raises ValueError: ``times`` is below 1.
        """
        self._plan(Fault(cut=Cut.IN_BODY), times, path)

    def _plan(self, fault: Fault, times: int, path: str | None) -> None:
        if times < 1:
            raise ValueError(f"times should be at least 1, not {times}")
        self._steps.append(_Step(fault, times, path))

    def _take(self, path: str) -> Fault | None:
        for step in self._steps:
            if step.path is None or step.path in path:
                step.times -= 1
                if not step.times:
                    self._steps.remove(step)
                return step.fault
        return None


def _gateway_page(status: int, title: str) -> Answer:
    # What stands before an API does not speak its language.
    page = f"<html><head><title>{status} {title}</title></head><body>{title}</body></html>"
    return Answer(page.encode(), status, {"Content-Type": "text/html"})


_RANDOM_FAULTS: Final = (
    Fault(error_answer(429)),
    Fault(error_answer(500)),
    Fault(_gateway_page(502, "Bad Gateway")),
    Fault(error_answer(503)),
    Fault(_gateway_page(504, "Gateway Timeout")),
    Fault(cut=Cut.BEFORE_ANSWER),
    Fault(cut=Cut.IN_BODY),
)


class FaultInjector:
    """Lets a share of the requests fail, each kind of fault as often as any other.

    With the same seed the same requests fail in the same way, counted in the order of their
    arrival.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # reproducible, not secret

    def draw(self, rate: float) -> Fault | None:
        """Give the fault of the next request, ``None`` if it is spared; ``rate`` is 0 to 1."""
        if self._random.random() < rate:
            return self._random.choice(_RANDOM_FAULTS)
        return None
