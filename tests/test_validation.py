import math
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import pytest

from marketplace_async.validation import (
    check_whole_number,
    is_64_bit_whole_number,
    is_seconds,
    is_whole_number_from_1,
)


@attrs.frozen
class Settings:
    count: Any = attrs.field(default=1, validator=is_whole_number_from_1)
    wait: Any = attrs.field(default=1, validator=is_seconds)
    page: Any = attrs.field(default=1, validator=is_64_bit_whole_number)


NOT_WHOLE = [None, True, False, "1", b"1", 1.0, 1.5, math.nan, math.inf, Decimal(1), [1], 1j]


@pytest.mark.parametrize("value", [1, 2, 1000])
def test_a_whole_number_within_bounds_passes(value: int) -> None:
    check_whole_number("page_size", value, 1, 1000)


@pytest.mark.parametrize("value", [0, 1, 10**30])
def test_a_whole_number_without_an_upper_bound_may_be_of_any_size(value: int) -> None:
    check_whole_number("limit", value, 0)


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_what_is_no_whole_number_is_a_type_error_that_shows_it(value: object) -> None:
    with pytest.raises(TypeError) as caught:
        check_whole_number("limit", value, 0)
    assert str(caught.value) == f"limit must be a whole number, not {value!r}"


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "text"),
    [
        (0, 1, 1000, "page_size must be 1 to 1000, not 0"),
        (1001, 1, 1000, "page_size must be 1 to 1000, not 1001"),
        (-1, 0, None, "page_size must be at least 0, not -1"),
    ],
)
def test_a_number_out_of_bounds_is_a_value_error_that_says_the_bounds(
    value: int, at_least: int, at_most: int | None, text: str
) -> None:
    with pytest.raises(ValueError, match="page_size") as caught:
        check_whole_number("page_size", value, at_least, at_most)
    assert str(caught.value) == text


@pytest.mark.parametrize("value", [1, 6, 10**9])
def test_a_count_from_1_passes(value: int) -> None:
    assert Settings(count=value).count == value


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_a_count_that_is_no_whole_number_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=r"^count must be a whole number"):
        Settings(count=value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_1_is_a_value_error(value: int) -> None:
    with pytest.raises(ValueError, match=r"^count must be at least 1"):
        Settings(count=value)


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1])
def test_what_another_program_counted_passes(value: int) -> None:
    assert Settings(page=value).page == value


@pytest.mark.parametrize("value", [-1, 2**63, 10**4000])
def test_what_is_no_count_of_64_bits_is_a_value_error(value: int) -> None:
    with pytest.raises(ValueError, match=r"^page must be 0 to 9223372036854775807"):
        Settings(page=value)


@pytest.mark.parametrize("value", [1, 0.001, 5e-324, 86_400, sys.float_info.max])
def test_a_length_of_time_passes(value: float) -> None:
    assert Settings(wait=value).wait == value


@pytest.mark.parametrize(
    "value", [None, True, "1", "nan", b"1", Decimal(1), Fraction(1, 2), [1.0], 1j], ids=repr
)
def test_what_is_no_number_of_seconds_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=r"^wait must be a number of seconds"):
        Settings(wait=value)


@pytest.mark.parametrize(
    "value", [0, 0.0, -0.0, -1, -math.inf, math.inf, math.nan, 10**400], ids=lambda v: repr(v)[:9]
)
def test_a_length_of_time_that_is_not_finite_and_above_0_is_a_value_error(value: float) -> None:
    with pytest.raises(ValueError, match=r"^wait must be finite and above 0 seconds"):
        Settings(wait=value)
