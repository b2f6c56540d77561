import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.errors import InvalidSidError
from marketplace_async.sids import available_add_on_sid, extension_sid

Check = Callable[[object], str]

ADD_ON = "XB" + "0123456789abcdefABCDEF" + "0" * 10
EXTENSION = "XF" + "0123456789abcdefABCDEF" + "0" * 10

KINDS: list[tuple[Check, str]] = [(available_add_on_sid, ADD_ON), (extension_sid, EXTENSION)]

each_kind = pytest.mark.parametrize(("check", "sid"), KINDS, ids=["XB", "XF"])


@each_kind
def test_a_sid_is_given_back_as_it_is(check: Check, sid: str) -> None:
    assert check(sid) == sid


def spoiled(sid: str) -> dict[str, object]:
    return {
        "nothing": "",
        "one too short": sid[:-1],
        "one too long": sid + "0",
        "twice": sid * 2,
        "enormous": sid + "0" * 1_000_000,
        "without its first letter": sid[1:],
        "lower case": sid.lower(),
        "of another resource": "AC" + sid[2:],
        "a letter that is no digit": sid[:-1] + "g",
        "a line end after it": sid + "\n",
        "a line end for its last digit": sid[:-1] + "\n",
        "a line end before it": "\n" + sid,
        "CR LF": sid[:-2] + "\r\n",
        "NUL for its last digit": sid[:-1] + "\0",
        "NUL after it": sid + "\0",
        "a space before it": " " + sid,
        "a space for its last digit": sid[:-1] + " ",
        "an Arabic digit": sid[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
        "a full-width digit": sid[:-1] + "\N{FULLWIDTH DIGIT ONE}",
        "a superscript digit": sid[:-1] + "\N{SUPERSCRIPT TWO}",
        "a Cyrillic letter": sid[:-1] + "\N{CYRILLIC SMALL LETTER A}",
        "a Cyrillic X": "\N{CYRILLIC CAPITAL LETTER HA}" + sid[1:],
        "half of a surrogate pair": sid[:-1] + "\ud800",
        "the folder above": sid[:-3] + "../",
        "a path after it": sid + "/../../2010-04-01/Accounts",
        "a path before it": "../" + sid,
        "a slash": sid[:-1] + "/",
        "a query": sid[:-1] + "?",
        "a fragment": sid[:-1] + "#",
        "an escaped dot": sid[:-3] + "%2e",
        "an escaped NUL": sid[:-3] + "%00",
        "an escaped X": "%58" + sid[1:],
        "None": None,
        "a number": 0,
        "a boolean": True,
        "bytes": sid.encode(),
        "a bytearray": bytearray(sid.encode()),
        "a list": [sid],
        "a tuple": (sid,),
        "an object": object(),
        "a long number": 10**5000,
    }


@pytest.mark.parametrize(
    ("check", "given"),
    [
        pytest.param(check, given, id=f"{sid[:2]}-{name}")
        for check, sid in KINDS
        for name, given in spoiled(sid).items()
    ],
)
def test_anything_else_is_refused(check: Check, given: object) -> None:
    with pytest.raises(InvalidSidError):
        check(given)


def test_the_sid_of_one_resource_is_not_that_of_the_other() -> None:
    with pytest.raises(InvalidSidError, match="not the SID of an Extension"):
        extension_sid(ADD_ON)
    with pytest.raises(InvalidSidError, match="not the SID of an Available Add-on"):
        available_add_on_sid(EXTENSION)


def test_a_refusal_says_what_was_given_and_what_is_expected() -> None:
    with pytest.raises(InvalidSidError) as caught:
        available_add_on_sid("XB../../Accounts\n")
    assert str(caught.value) == (
        r"'XB../../Accounts\n' is not the SID of an Available Add-on, "
        "which matches ^XB[0-9a-fA-F]{32}$"
    )
    assert caught.value.given == "XB../../Accounts\n"


class Disguised(str):
    """A SID to those who look at its characters, and a path to those who format it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "../../Accounts"

    def __format__(self, format_spec: str) -> str:
        return "../../Accounts"


@each_kind
def test_what_is_given_back_is_a_plain_string_that_cannot_show_itself_as_another(
    check: Check, sid: str
) -> None:
    checked = check(Disguised(sid))
    assert type(checked) is str
    assert f"{checked}" == sid


def patterns(description: Any, prefix: str) -> set[str]:
    """Of all path parameters whose SIDs begin like this."""
    items = [
        item
        for path, item in description["paths"].items()
        if path.startswith("/v1/AvailableAddOns")
    ]
    found: set[str] = {
        parameter["schema"].get("pattern", "")
        for item in items
        for parameter in item["get"]["parameters"]
    }
    return {pattern for pattern in found if pattern.startswith(f"^{prefix}")}


@each_kind
def test_the_pattern_is_the_one_that_twilio_describes(
    check: Check, sid: str, api_description: Any
) -> None:
    with pytest.raises(InvalidSidError) as caught:
        check("")
    assert patterns(api_description, sid[:2]) == {f"^{caught.value.pattern}$"}


any_text = st.text(st.characters(codec=None))


@st.composite
def nearly(draw: st.DrawFn, sid: str) -> str:
    """A SID but for a few characters, or one after all."""
    start, overwritten = draw(st.integers(0, len(sid))), draw(st.integers(0, 4))
    piece = draw(st.text("0aAfFgG/%.\n\0\N{FULLWIDTH DIGIT ONE}", max_size=4) | any_text)
    return sid[:start] + piece + sid[start + overwritten :]


@each_kind
@given(data=st.data())
def test_a_string_is_accepted_if_and_only_if_the_pattern_accepts_it(
    check: Check, sid: str, data: st.DataObject
) -> None:
    pattern = re.compile(rf"{sid[:2]}[0-9a-fA-F]{{32}}", re.ASCII)
    text = data.draw(nearly(sid) | st.from_regex(pattern, fullmatch=True) | any_text)
    if pattern.fullmatch(text):
        assert check(text) == text
    else:
        with pytest.raises(InvalidSidError):
            check(text)
