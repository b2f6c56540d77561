"""`require_sid`: which values are a SID, and of which resource."""

import enum
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.errors import InvalidSidError
from marketplace_async.models import Extension
from marketplace_async.sids import require_sid

DIGITS = "0123456789abcdefABCDEF" + "0" * 10

each_prefix = pytest.mark.parametrize("prefix", ["XB", "XF"])


@each_prefix
def test_valid(prefix: str) -> None:
    """A SID is returned as it is."""
    assert require_sid(prefix, prefix + DIGITS) == prefix + DIGITS


@pytest.mark.parametrize(
    "value",
    [
        "",
        "XF" + DIGITS,
        "xb" + DIGITS,
        "XB" + DIGITS[1:],
        "XB" + DIGITS + "0",
        "XB" + DIGITS + "\n",
        "XB" + DIGITS[1:] + "\N{FULLWIDTH DIGIT ONE}",
        "XB" + DIGITS[3:] + "../",
        ("XB" + DIGITS).encode(),
        ["XB" + DIGITS],
        None,
    ],
    ids=repr,
)
def test_invalid(value: object) -> None:
    """Any other value raises InvalidSidError."""
    with pytest.raises(InvalidSidError):
        require_sid("XB", value)


def test_message() -> None:
    """The error names the value, the resource and the pattern."""
    with pytest.raises(InvalidSidError) as caught:
        require_sid("XF", "XB../../Accounts\n")
    assert str(caught.value) == (
        r"'XB../../Accounts\n' is not the SID of an Extension, which matches ^XF[0-9a-fA-F]{32}$"
    )


def test_model() -> None:
    """A model, or anything else with a SID, is accepted if the SID is of the right kind."""
    sid = "XF" + DIGITS
    assert require_sid("XF", Extension(sid, "XB" + DIGITS)) == sid
    with pytest.raises(InvalidSidError, match=f"'{sid}' is not the SID of an Available Add-on"):
        require_sid("XB", Extension(sid, "XB" + DIGITS))


def test_enum_member() -> None:
    """If the value is a string enum's member, its plain value is returned."""

    class AddOn(str, enum.Enum):  # noqa: UP042  # unlike this one, a StrEnum formats as its value
        VOICEBASE = "XB" + DIGITS

    sid = require_sid("XB", AddOn.VOICEBASE)
    assert type(sid) is str
    assert f"{sid}" == "XB" + DIGITS


@each_prefix
def test_pattern_as_described(prefix: str, api_description: Any) -> None:
    """The pattern is that of Twilio's API description."""
    with pytest.raises(InvalidSidError) as caught:
        require_sid(prefix, "")
    described = re.findall(rf'"(\^{prefix}[^"]*)"', json.dumps(api_description))
    assert set(described) == {f"^{caught.value.pattern}$"}


@given(st.from_regex(r"XB[0-9a-gA-G]{30,33}\n?") | st.text())
def test_any_text(text: str) -> None:
    """A text is accepted if and only if it matches the pattern."""
    if re.fullmatch("XB[0-9a-fA-F]{32}", text):
        assert require_sid("XB", text) == text
    else:
        with pytest.raises(InvalidSidError):
            require_sid("XB", text)
