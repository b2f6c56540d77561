"""Checks of arguments, each usable alone or, where named so, as an attrs validator."""

import sys
from typing import Any, Final

import attrs

__all__ = ["check_whole_number", "is_64_bit_whole_number", "is_seconds", "is_whole_number_from_1"]

LONGEST: Final = sys.float_info.max


def check_whole_number(name: str, value: object, at_least: int, at_most: int | None = None) -> None:
    """Check that ``value`` is an ``int`` within bounds.

    :raises TypeError: it is no ``int`` (a ``bool`` is none).
    :raises ValueError: it is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < at_least or (at_most is not None and value > at_most):
        bounds = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")


def is_whole_number_from_1(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Check a count, as an attrs validator."""
    check_whole_number(attribute.name, value, at_least=1)


def is_64_bit_whole_number(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Check, as an attrs validator, what another program counted: from 0 to 2⁶³ - 1."""
    check_whole_number(attribute.name, value, at_least=0, at_most=2**63 - 1)


def is_seconds(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Check, as an attrs validator, a length of time: finite, above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
    if not 0 < value <= LONGEST:
        raise ValueError(f"{attribute.name} must be finite and above 0 seconds, not {value!r}")
