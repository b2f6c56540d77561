"""Faults of a sandbox: scripted ones, and random ones."""

import random
from typing import Final

import attrs
from attrs.validators import ge

from marketplace_async.sandbox.api import Response, error_response

__all__ = ["Fault", "random_fault", "take_fault"]


@attrs.define(eq=False)
class Fault:
    """What goes wrong with the next requests."""

    response: Response | None = None
    """The response to send instead of the right one."""

    delay: float = 0.0
    """Seconds to wait first."""

    drop: bool = False
    """Close the connection without a response."""

    truncate: bool = False
    """Close the connection after half of the body."""

    times: int = attrs.field(default=1, validator=ge(1))
    """The number of requests to which this happens."""

    path: str | None = None
    """It happens only to requests whose path contains this."""


def take_fault(faults: list[Fault], path: str) -> Fault | None:
    """Return the first fault for a request to this path and count it, None if there is none."""
    for fault in faults:
        if fault.path is None or fault.path in path:
            if fault.times == 1:
                faults.remove(fault)
            else:
                fault.times -= 1
            return fault
    return None


def _gateway_error(status: int, title: str) -> Fault:
    # Errors of a gateway are HTML, not the API's JSON.
    page = f"<html><head><title>{status} {title}</title></head><body>{title}</body></html>"
    return Fault(Response(page.encode(), status, {"Content-Type": "text/html"}))


_RANDOM_FAULTS: Final = (
    Fault(error_response(429)),
    Fault(error_response(500)),
    _gateway_error(502, "Bad Gateway"),
    Fault(error_response(503)),
    _gateway_error(504, "Gateway Timeout"),
    Fault(drop=True),
    Fault(truncate=True),
)


def random_fault(rng: random.Random, rate: float) -> Fault | None:
    """Return one of seven equally likely faults with probability ``rate``, else None."""
    return rng.choice(_RANDOM_FAULTS) if rng.random() < rate else None
