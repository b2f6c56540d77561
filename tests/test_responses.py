import json
import pickle
import re
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from marketplace_async import errors
from marketplace_async.errors import (
    ApiError,
    AuthenticationError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from marketplace_async.responses import CODINGS, decoded, error_of, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)

NOT_FOUND = {
    "code": 20404,
    "message": "The requested resource was not found",
    "more_info": "https://www.twilio.com/docs/errors/20404",
    "status": 404,
}


def api_error(status: int, body: Any = b"", **headers: str) -> ApiError:
    """The error of an answer; headers are named with underscores, a body may be JSON to be."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = error_of(status, CIMultiDict(named), raw, NOW)
    assert isinstance(error, ApiError)
    return error


# Content codings


WINDOWS = {"gzip": [31], "deflate": [15, -15]}
codings = st.sampled_from([(name, wbits) for name, each in WINDOWS.items() for wbits in each])


def encoded(body: bytes, wbits: int) -> bytes:
    compress = zlib.compressobj(wbits=wbits)
    return compress.compress(body) + compress.flush()


def test_the_codings_that_are_asked_for_are_those_that_are_undone() -> None:
    assert [*CODINGS] == [*WINDOWS]
    for name in ("", "identity", "Identity"):
        assert decoded(b"body", name, 2) == b"body"


@given(codings, st.binary(), st.integers(0, 20))
def test_a_body_is_decoded_up_to_a_byte_more_than_enough(
    coding: tuple[str, int], body: bytes, enough: int
) -> None:
    name, wbits = coding
    assert decoded(encoded(body, wbits), f" {name.upper()}", enough) == body[: enough + 1]


@given(codings, st.binary(), st.data())
def test_a_body_is_decoded_whole_or_not_at_all(
    coding: tuple[str, int], body: bytes, data: st.DataObject
) -> None:
    name, wbits = coding
    whole = encoded(body, wbits)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for broken in (part, whole + b"more"):
        with pytest.raises(InvalidResponseError, match=f"not {name}|{name} body") as caught:
            decoded(broken, name, len(body) + 100)
        assert caught.value.incomplete


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip,", "x"])
def test_no_other_coding_is_undone(coding: str) -> None:
    with pytest.raises(
        InvalidResponseError, match=f"the body is encoded as {coding}, not"
    ) as caught:
        decoded(b"body", coding, 100)
    assert not caught.value.incomplete


# What an answer means.


def meaning(status: int) -> type[ApiError]:
    return {
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: NotFoundError,
        429: RateLimitError,
    }.get(status, ServerError if 500 <= status <= 599 else ApiError)


@pytest.mark.parametrize("status", [*range(300, 600), 600, 999])
def test_the_status_alone_says_which_error_it_is(status: int) -> None:
    for body in (b"", NOT_FOUND, b"<html>"):
        error = api_error(status, body)
        assert type(error) is meaning(status)
        assert error.status == status


def test_the_statuses_drawn_beside_the_error_tree_are_those_that_lead_there() -> None:
    drawn = dict(re.findall(r"(\w+Error) +(\d{3})\b", errors.__doc__ or ""))
    assert drawn == {
        "AuthenticationError": "401",
        "PermissionDeniedError": "403",
        "NotFoundError": "404",
        "RateLimitError": "429",
        "ServerError": "500",
    }
    for name, status in drawn.items():
        assert type(api_error(int(status))).__name__ == name


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_a_success_without_the_body_that_was_asked_for_is_no_valid_answer(status: int) -> None:
    error = error_of(status, {}, b'{"sid": "x"}', NOW)
    assert isinstance(error, InvalidResponseError)
    assert f"HTTP {status}" in str(error)
    assert not error.incomplete


# What it says.

PARAMS = {"name": "PageSize", "nested": {"a": [1, None]}}

BODIES: dict[str, tuple[Any, tuple[str, int | None, str | None, Any]]] = {
    "Twilio's own": (
        NOT_FOUND,
        (
            "The requested resource was not found",
            20404,
            "https://www.twilio.com/docs/errors/20404",
            None,
        ),
    ),
    "the newer one": (
        {**NOT_FOUND, "message": "No", "more_info": None, "params": PARAMS, "userError": True},
        ("No", 20404, None, PARAMS),
    ),
    "a code alone": ({"code": 20404}, ("", 20404, None, None)),
    "a message alone": ({"message": "No"}, ("No", None, None, None)),
    "nulls": (
        {"code": None, "message": "No", "more_info": None, "params": None},
        ("No", None, None, None),
    ),
    "wrong types": (
        {"code": "20404", "message": "No", "more_info": ["x"], "params": [1]},
        ("No", None, None, None),
    ),
    "a boolean for the code": ({"code": True, "message": "No"}, ("No", None, None, None)),
    "a float for the code": ({"code": 20404.0, "message": "No"}, ("No", None, None, None)),
    "nothing that is known": (
        {"error": "upstream connect error"},
        ('{"error": "upstream connect error"}', None, None, None),
    ),
    "wrong types alone": ({"message": 5}, ('{"message": 5}', None, None, None)),
    "an empty object": ({}, ("{}", None, None, None)),
    "an array": (["No"], ('["No"]', None, None, None)),
    "null": (b"null", ("null", None, None, None)),
    "a number": (b"5", ("5", None, None, None)),
    "HTML": (
        b"<html>\r\n<h1>502 Bad Gateway</h1>\n",
        ("<html>\r\n<h1>502 Bad Gateway</h1>", None, None, None),
    ),
    "text": (b" upstream down\n", ("upstream down", None, None, None)),
    "empty": (b"", ("", None, None, None)),
    "blank": (b" \r\n\t", ("", None, None, None)),
    "cut short": (b'{"code": 20404, "mess', ('{"code": 20404, "mess', None, None, None)),
    "not UTF-8": (b"caf\xe9", ("caf\ufffd", None, None, None)),
    "not UTF-8 in JSON": (b'{"message": "\xff"}', ('{"message": "\ufffd"}', None, None, None)),
}


@pytest.mark.parametrize(("body", "found"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 410, 422, 429, 500, 502, 503])
def test_what_can_be_read_of_a_body_is_read_whoever_wrote_it(
    status: int, body: Any, found: tuple[Any, ...]
) -> None:
    error = api_error(status, body)
    assert (error.message, error.code, error.more_info, error.params) == found
    assert type(error) is meaning(status)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"params":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"message":"No","params":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"message":"No","code":' + b"1" * 100_000 + b"}",
    ],
    ids=["open", "array", "object", "in a field", "a long number"],
)
def test_a_body_made_to_break_parsers_is_shown_by_its_beginning(body: bytes) -> None:
    error = api_error(500, body)
    assert error.message == body[:2_000].decode()
    assert (error.code, error.params) == (None, None)
    assert len(str(error)) < 300


def test_a_message_is_kept_up_to_2000_characters() -> None:
    assert api_error(400, {"message": "a" * 1_000_000}).message == "a" * 2_000
    assert api_error(400, b"a" * 1_000_000).message == "a" * 2_000


def test_control_characters_of_a_message_are_kept_and_shown_escaped() -> None:
    error = api_error(400, {"message": "\x1b[2J\r\n\ud800"})
    assert error.message == "\x1b[2J\r\n\ud800"
    assert str(error) == r"HTTP 400: \x1b[2J\r\n\ud800"


def test_the_request_id_is_taken_from_the_header_in_any_case() -> None:
    assert api_error(500, NOT_FOUND, Twilio_Request_Id="RQ1").request_id == "RQ1"
    assert api_error(500, NOT_FOUND, twilio_request_id="RQ1").request_id == "RQ1"
    assert api_error(500, NOT_FOUND).request_id is None


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
def test_a_redirect_says_where_it_leads_and_that_nobody_goes_there(status: int) -> None:
    error = api_error(status, b"<html>Moved</html>", Location="https://evil.com/v1")
    assert type(error) is ApiError
    assert error.message == (
        "the server redirects to https://evil.com/v1; redirects are not followed"
    )


@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_location_on_another_error_is_no_redirect(status: int) -> None:
    assert api_error(status, NOT_FOUND, Location="https://x").message == NOT_FOUND["message"]


def test_a_redirect_to_nowhere_and_one_with_tricks_in_it_can_be_shown() -> None:
    assert "redirects to nowhere" in str(api_error(302))
    hostile = api_error(302, Location="https://evil.com/\x1b[2J" + "a" * 1_000_000)
    assert str(hostile).isprintable()
    assert len(str(hostile)) < 300


@pytest.mark.parametrize("status", [302, 408, 429, 500, 503])
def test_how_long_to_wait_is_on_any_error_whose_answer_says_so(status: int) -> None:
    assert api_error(status, NOT_FOUND, Retry_After="7").retry_after == 7
    assert api_error(status, NOT_FOUND).retry_after is None


headers = st.dictionaries(
    st.sampled_from(["Location", "Retry-After", "Date", "Twilio-Request-Id", "X"]),
    st.text(st.characters(codec=None)),
)


@given(st.integers(201, 999), headers, st.binary() | st.from_regex(rb'\A\{"(code|params)":.*\}\Z'))
def test_any_answer_makes_an_error_that_can_be_shown_and_pickled(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    error = error_of(status, headers, body, NOW)
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # made right here


# How long to wait.

FORMATS = {
    "the preferred": "%a, %d %b %Y %H:%M:%S GMT",
    "that of RFC 850": "%A, %d-%b-%y %H:%M:%S GMT",
    "that of asctime": "%a %b %d %H:%M:%S %Y",
}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        # Seconds.
        ("1", 1.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("0.25", 0.25),
        (" 2 ", 2.0),
        ("\t3", 3.0),
        ("86400", 86_400.0),
        ("9" * 18, 1e18),
        # Not to wait.
        ("0", None),
        ("0.0", None),
        ("-1", None),
        ("-0", None),
        # No number that the RFC knows.
        ("", None),
        (" ", None),
        ("+1", None),
        (".5", None),
        ("1.", None),
        ("1e5", None),
        ("1_000", None),
        ("1,000", None),
        ("0x10", None),
        ("inf", None),
        ("Infinity", None),
        ("nan", None),
        ("1 second", None),
        ("1, 2", None),
        ("soon", None),
        (str(10**35), None),
        ("9" * 100_000, None),
        ("1." + "0" * 100_000, None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None),
        ("\N{FULLWIDTH DIGIT FIVE}", None),
        ("\N{SUPERSCRIPT TWO}", None),
        ("\N{ROMAN NUMERAL FIVE}", None),
        ("5\0", None),
        ("\ud800", None),
        # Dates; it is the first second of 2026.
        ("Thu, 01 Jan 2026 00:00:10 GMT", 10.0),
        ("Thu, 01 Jan 2026 00:00:10 +0000", 10.0),
        ("Thu, 01 Jan 2026 00:00:10 -0000", 10.0),
        ("Thu, 01 Jan 2026 01:00:10 +0100", 10.0),
        ("Wed, 31 Dec 2025 19:00:10 EST", 10.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", None),
        ("Wed, 31 Dec 2025 23:59:59 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 251_635_075_199.0),
        ("Fri, 31 Dec 100000 23:59:59 GMT", None),
        (f"Fri, 31 Dec {'9' * 5_000} 23:59:59 GMT", None),
        ("Thu, 32 Jan 2026 00:00:10 GMT", None),
        ("Mon, 29 Feb 2027 00:00:10 GMT", None),
        ("Thu, 01 Jan 2026 25:00:10 GMT", None),
        ("Thu, 01 Foo 2026 00:00:10 GMT", None),
        ("Thu, 01 Jan 2026 00:00:10 +9999", None),
        ("Thu, 01 Jan 2026 00:00:10 +99999999999", None),
        ("Thu, 01 Jan 2026", None),
        ("2026-01-01T00:00:10Z", None),
    ],
    ids=lambda value: ascii(value[:40]) + f" of {len(value)}" if isinstance(value, str) else None,
)
def test_retry_after_is_read_as_seconds_or_as_a_date_or_not_at_all(
    value: str, seconds: float | None
) -> None:
    assert retry_after({"Retry-After": value}, NOW) == seconds


def test_without_the_header_there_is_nothing_to_wait_for() -> None:
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
def test_dates_are_read_in_the_three_forms_of_the_rfc(form: str) -> None:
    date = (NOW + timedelta(seconds=90)).strftime(form)
    assert retry_after({"Retry-After": date}, NOW) == 90
    assert retry_after({"Retry-After": (NOW - timedelta(1)).strftime(form)}, NOW) is None


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("wrong_by", [-3600, 3600, 10**9])
def test_a_date_is_measured_against_the_clock_that_made_it(form: str, wrong_by: int) -> None:
    server = NOW + timedelta(seconds=wrong_by)
    answer = {
        "Date": server.strftime(form),
        "Retry-After": (server + timedelta(seconds=5)).strftime(form),
    }
    assert retry_after(answer, NOW) == 5
    answer["Date"] = (server + timedelta(seconds=6)).strftime(form)
    assert retry_after(answer, NOW) is None


@pytest.mark.parametrize("date", ["", "yesterday", "0", "Thu, 01 Jan 100000 00:00:00 GMT"])
def test_a_date_that_cannot_be_read_leaves_the_clock_of_this_machine(date: str) -> None:
    answer = {"Date": date, "Retry-After": "Thu, 01 Jan 2026 00:00:10 GMT"}
    assert retry_after(answer, NOW) == 10


def test_seconds_are_seconds_whatever_the_clocks_say() -> None:
    assert retry_after({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "3"}, NOW) == 3


@given(
    st.text(st.characters(codec=None))
    | st.from_regex(r"\A[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [A-Z+-]+\d*\Z")
    | st.floats().map(str)
    | st.integers().map(str),
    st.none() | st.text(),
)
def test_any_retry_after_is_nothing_or_a_length_of_time(value: str, date: str | None) -> None:
    answer = {"Retry-After": value} if date is None else {"Retry-After": value, "Date": date}
    seconds = retry_after(answer, NOW)
    assert seconds is None or 0 < seconds < float("inf")
