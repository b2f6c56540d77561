"""Errors from the status, headers and body of a response."""

import json
import pickle
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from marketplace_async import errors
from marketplace_async.errors import ApiError, InvalidResponseError, NotFoundError
from marketplace_async.models import NESTING_MAX
from marketplace_async.responses import error_from, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MORE_INFO = "https://www.twilio.com/docs/errors/20404"
NOT_FOUND = {"code": 20404, "message": "Not found", "more_info": MORE_INFO, "status": 404}


def api_error(status: int, body: Any = b"", **headers: str) -> ApiError:
    """The error for a response; a body may be bytes or any JSON, underscores are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = error_from(status, CIMultiDict(named), raw, NOW)
    assert isinstance(error, ApiError)
    return error


def nested(levels: int) -> Any:
    return json.loads('{"a":' * levels + "1" + "}" * levels)


# The class


@pytest.mark.parametrize("body", [b"", NOT_FOUND, b"<html>"], ids=["empty", "JSON", "HTML"])
def test_class(body: Any) -> None:
    """The status alone selects the class, as drawn in the tree of errors."""
    tree = re.findall(r"(\w+Error) +(\d{3})", errors.__doc__ or "")
    drawn = {int(status): name for name, status in tree}
    assert len(drawn) == 5
    for status in (*range(300, 600), 600, 999):
        expected = drawn.get(status, "ServerError" if 500 <= status < 600 else "ApiError")
        error = api_error(status, body)
        assert (type(error).__name__, error.status) == (expected, status)


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
def test_unexpected_success(status: int) -> None:
    """An unexpected success is an invalid response."""
    error = error_from(status, {}, b'{"sid": "x"}', NOW)
    assert type(error) is InvalidResponseError
    assert str(error) == f"unexpected status: HTTP {status}"
    assert not error.retryable


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect(status: int) -> None:
    """A redirect names its target, escaped, and says that it is not followed."""
    target = "https://evil.example/\x1b[2J"
    error = api_error(status, b"<html>Moved</html>", Location=target)
    assert error.message == f"the server redirects to {target}; redirects are not followed"
    assert str(error).isprintable()
    assert "redirects to nowhere" in str(api_error(status))
    assert api_error(400, NOT_FOUND, Location=target).message == "Not found"


# The body

BODIES: dict[str, tuple[Any, tuple[str, int | None, str | None, Any]]] = {
    "Twilio": (NOT_FOUND, ("Not found", 20404, MORE_INFO, None)),
    "params": (
        NOT_FOUND | {"params": {"a": [1, None]}, "details": {"b": 1}},
        ("Not found", 20404, MORE_INFO, {"a": [1, None]}),
    ),
    "details": (
        {"message": "No", "params": None, "details": {"b": 1}},
        ("No", None, None, {"b": 1}),
    ),
    "RFC 9457": (
        {"type": MORE_INFO, "title": "Not found", "detail": "No such SID", "code": "20404"},
        ("Not found: No such SID", 20404, MORE_INFO, None),
    ),
    "a title": ({"type": "about:blank", "title": "Bad"}, ("Bad", None, None, None)),
    "a detail": ({"detail": "Bad", "code": "E-1"}, ("Bad", None, None, None)),
    "wrong types": (
        {"message": "No", "code": [1], "more_info": 5, "params": [1], "details": "x"},
        ("No", None, None, None),
    ),
    "a boolean code": ({"message": "No", "code": True}, ("No", None, None, None)),
    "a number as code": ({"message": "No", "code": 1.0}, ("No", None, None, None)),
    "a long code": ({"message": "No", "code": "9" * 5_000}, ("No", None, None, None)),
    "64 levels": (
        {"message": "No", "params": nested(NESTING_MAX)},
        ("No", None, None, nested(NESTING_MAX)),
    ),
    "65 levels": ({"message": "No", "params": nested(NESTING_MAX + 1)}, ("No", None, None, None)),
    "unknown fields": ({"error": "down"}, ('{"error": "down"}', None, None, None)),
    "an array": (["No"], ('["No"]', None, None, None)),
    "null": (b"null", ("null", None, None, None)),
    "HTML": (b"<html><title>502 Bad\nGateway</title>", ("502 Bad Gateway", None, None, None)),
    "text": (b" upstream down\n", ("upstream down", None, None, None)),
    "empty": (b" \r\n", ("", None, None, None)),
    "truncated": (b'{"code": 20404, "mess', ('{"code": 20404, "mess', None, None, None)),
    "not UTF-8": (b'{"message": "\xff"}', ('{"message": "\ufffd"}', None, None, None)),
    "200,000 levels": (b"[" * 200_000, ("[" * 2_000, None, None, None)),
    "a long number": (
        b'{"message":"No","code":' + b"1" * 9_999 + b"}",
        ('{"message":"No","code":' + "1" * 1_977, None, None, None),
    ),
    "a long message": ({"message": "a" * 9_999}, ("a" * 2_000, None, None, None)),
    "a lone surrogate": ({"message": "\ud800"}, ("\ud800", None, None, None)),
}


@pytest.mark.parametrize(("body", "found"), BODIES.values(), ids=BODIES.keys())
def test_body(body: Any, found: tuple[Any, ...]) -> None:
    """The message comes from the fields of the body; without them it is the start of the body."""
    for status in (400, 404, 503):
        error = api_error(status, body)
        assert (error.message, error.code, error.more_info, error.params) == found
        assert str(error).isprintable()
        assert len(str(error)) < 300


def test_headers() -> None:
    """The request ID and the wait come from headers in any case."""
    error = api_error(503, NOT_FOUND, twilio_request_id="RQ1", RETRY_AFTER="7")
    assert (error.request_id, error.retry_after) == ("RQ1", 7)
    error = api_error(404)
    assert (error.request_id, error.retry_after) == (None, None)
    assert type(error) is NotFoundError


any_headers = st.dictionaries(
    st.sampled_from(["Location", "Retry-After", "Date", "Twilio-Request-Id", "X"]),
    st.text(st.characters(codec=None)),
)
any_object = st.dictionaries(
    st.sampled_from(["message", "code", "more_info", "params", "details", "title", "detail"]),
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists),
)


@given(
    st.integers(201, 999),
    any_headers,
    st.binary() | any_object.map(lambda fields: json.dumps(fields).encode()),
)
def test_any_response(status: int, headers: dict[str, str], body: bytes) -> None:
    """Any response makes an error that can be shown and pickled."""
    error = error_from(status, headers, body, NOW)
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # made right here


# Retry-After

NO_WAIT = [
    "", "0", "0.0", "-1", "+1", ".5", "1.", "1e5", "1_000", "0x10", "inf", "nan", "1 second",
    "1, 2", "soon", "9" * 100_000, "\N{ARABIC-INDIC DIGIT FIVE}", "\N{SUPERSCRIPT TWO}", "\ud800",
    "Thu, 01 Jan 2026 00:00:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT",
    "Fri, 31 Dec 100000 23:59:59 GMT", "Thu, 32 Jan 2026 00:00:10 GMT",
    "Thu, 01 Foo 2026 00:00:10 GMT", "Thu, 01 Jan 2026 00:00:10 +99999999999",
    "Thu, 01 Jan 2026", "2026-01-01T00:00:10Z",
]  # fmt: skip
WAIT = {
    "1": 1.0,
    "007": 7.0,
    "0.25": 0.25,
    " 2\t": 2.0,
    "9" * 18: 1e18,
    "Thu, 01 Jan 2026 00:00:10 GMT": 10.0,
    "Thu, 01 Jan 2026 01:00:10 +0100": 10.0,
    "Thursday, 01-Jan-26 00:00:10 GMT": 10.0,
    "Thu Jan  1 00:00:10 2026": 10.0,
    "Fri, 31 Dec 9999 23:59:59 GMT": 251_635_075_199.0,
}


@pytest.mark.parametrize(("value", "seconds"), WAIT.items(), ids=ascii)
def test_retry_after(value: str, seconds: float) -> None:
    """The wait is a number of seconds or a date in one of the three forms of the RFC."""
    assert retry_after({"Retry-After": value}, NOW) == seconds


@pytest.mark.parametrize("value", NO_WAIT, ids=lambda value: ascii(value[:40]))
def test_no_wait(value: str) -> None:
    """Zero, the past and anything invalid mean no wait."""
    assert retry_after({"Retry-After": value}, NOW) is None
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize("hours", [-1, 0, 1, 1_000])
def test_wrong_clock(hours: int) -> None:
    """A date is compared to the Date of the response."""
    form = "%a, %d %b %Y %H:%M:%S GMT"
    server = NOW + timedelta(hours=hours)
    until = (server + timedelta(seconds=5)).strftime(form)
    assert retry_after({"Date": server.strftime(form), "Retry-After": until}, NOW) == 5
    assert retry_after({"Date": until, "Retry-After": until}, NOW) is None
    assert retry_after({"Date": until, "Retry-After": "3"}, NOW) == 3


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 01 Jan 100000 00:00:00 GMT"])
def test_invalid_date(date: str) -> None:
    """If the Date of the response is invalid, the local clock is used."""
    headers = {"Date": date, "Retry-After": "Thu, 01 Jan 2026 00:00:10 GMT"}
    assert retry_after(headers, NOW) == 10


@given(
    st.text(st.characters(codec=None))
    | st.from_regex(r"\A[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [A-Z+-]+\d*\Z")
    | st.floats().map(str),
    st.text(),
)
def test_any_retry_after(value: str, date: str) -> None:
    """Any value means no wait or a positive, finite one."""
    seconds = retry_after({"Retry-After": value, "Date": date}, NOW)
    assert seconds is None or 0 < seconds < float("inf")
