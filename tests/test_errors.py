"""The error tree, the text of errors, and how they are pickled."""

import copy
import pickle
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import marketplace_async
from marketplace_async import errors
from marketplace_async.errors import (
    ApiError,
    AuthenticationError,
    CertificateError,
    ConnectionFailedError,
    InvalidItemError,
    InvalidResponseError,
    InvalidSidError,
    MarketplaceError,
    MissingCredentialsError,
    NotFoundError,
    PageLoopError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
    UntrustedPageUrlError,
    escape,
    excerpt,
)
from marketplace_async.models import AvailableAddOn

URL = "https://marketplace.twilio.com/v1/AvailableAddOns"
API = ("No", 20404, "https://www.twilio.com/docs", "RQ1", 1.5, {"name": "x"})
SPENT = {"waiting for the limiter": 4.1, "in attempts": 1.9, "waiting to retry": 0.01}

EXAMPLES: list[MarketplaceError] = [
    MarketplaceError("something went wrong"),
    MissingCredentialsError("no credentials"),
    InvalidSidError("XB1", "an Extension", "XF[0-9]"),
    SessionClosedError("the session is closed"),
    ConnectionFailedError("Connection refused", 111),
    CertificateError("self-signed certificate"),
    RequestTimeoutError("the call", 6.0, ServerError(503, "Down"), SPENT),
    ApiError(400, *API),
    AuthenticationError(401, *API),
    PermissionDeniedError(403, *API),
    NotFoundError(404, *API),
    RateLimitError(429, *API),
    ServerError(500, *API),
    InvalidResponseError("the JSON ends early", None, retryable=True),
    InvalidItemError("missing", "$.x[1].sid", (AvailableAddOn("XB1"),), f"{URL}?Page=1"),
    ResponseTooLargeError("the body is larger than 10 bytes"),
    UntrustedPageUrlError("not a page of this listing"),
    PageLoopError("the pages form a loop"),
]
"""One of each class, with all arguments."""

each_error = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def facts(value: Any) -> Any:
    """All that an error holds, for comparisons: errors are equal to themselves only."""
    if isinstance(value, BaseException):
        return type(value), str(value), list(map(facts, value.args)), facts(vars(value))
    if isinstance(value, dict):
        return {name: facts(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]  # of anything
    return value


def after_a_request(error: MarketplaceError) -> MarketplaceError:
    error = copy.copy(error)
    error.method, error.url, error.attempts = "GET", URL, 3
    error.not_retried = "no time is left"
    return error


# The tree


def test_tree() -> None:
    """The tree in the module's docstring is that of the classes."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if node := re.match(r"    ([│ ]*)(?:[├└]── )?([A-Z]\w+Error)\b", line):
            depth = len(node[1]) // 4 + ("── " in line)
            path[depth:] = [node[2]]
            drawn[node[2]] = path[depth - 1] if depth else "Exception"
    classes = [type(error) for error in EXAMPLES]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in classes}
    assert {*drawn, "escape", "excerpt"} == set(errors.__all__)
    builtin = dict(re.findall(r"(\w+Error) +also an? (\w+)", errors.__doc__ or ""))
    assert builtin == {
        kind.__name__: kind.__bases__[1].__name__ for kind in classes if kind.__bases__[1:]
    }


def test_exported() -> None:
    """Each error can be imported from the package."""
    exported = {name for name in marketplace_async.__all__ if name.endswith("Error")}
    assert exported == {type(error).__name__ for error in EXAMPLES}


# Attributes


@each_error
def test_pickle_and_copy(error: MarketplaceError) -> None:
    """A pickled or copied error has the same type, text and attributes."""
    error = after_a_request(error)
    error.add_note("seen by a worker")
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301  # made right here
    for again in (pickled, copy.copy(error), copy.deepcopy(error)):
        assert facts(again) == facts(error)
        assert again.url == URL


def test_errno() -> None:
    """The error number of the system survives pickling; OSError's other attributes stay empty."""
    error = ConnectionFailedError("Connection refused", 111)
    for each in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301  # made right here
        assert (each.errno, each.strerror, each.filename) == (111, None, None)
    assert ConnectionFailedError("no").errno is None
    assert RequestTimeoutError("the call", 1.0).errno is None


def test_keywords() -> None:
    """Errors made with keyword arguments can be pickled too."""
    for error in (
        ApiError(status=400, message="No", code=20001, params={"name": "x"}),
        RequestTimeoutError(what="the call", seconds=1.5, spent=SPENT),
        InvalidResponseError(problem="no", retryable=True),
        ConnectionFailedError(problem="no", errno=24),
        InvalidSidError(given=lambda: None, resource="an Extension", pattern="XF"),
    ):
        assert facts(pickle.loads(pickle.dumps(error))) == facts(error)  # noqa: S301  # made right here


# Text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MissingCredentialsError("none"), f"none. {MissingCredentialsError.advice}"),
        (
            InvalidSidError("XB1", "an Extension", "XF[0-9]"),
            "'XB1' is not the SID of an Extension, which matches ^XF[0-9]$",
        ),
        (InvalidSidError(5, "an Extension", "XF"), "'5' is not the SID of an Extension, which"),
        (ConnectionFailedError("refused", 111), "refused"),
        (RequestTimeoutError("connecting", 5.0), "connecting took longer than 5 s"),
        (
            RequestTimeoutError("the call", 6.0, RateLimitError(429, "Slow down"), SPENT),
            (
                "the call took longer than 6 s (4.1 s waiting for the limiter, 1.9 s in attempts)"
                "; the last attempt: HTTP 429: Slow down"
            ),
        ),
        (ApiError(418), "HTTP 418"),
        (
            RateLimitError(429, "Too many", 20429, "https://x", "RQ1", 1.5),
            "HTTP 429, code 20429: Too many [retry after 1.5 s] [request RQ1]",
        ),
        (
            AuthenticationError(401, "Authenticate", 20003),
            f"HTTP 401, code 20003: Authenticate. {AuthenticationError.advice}",
        ),
        (InvalidResponseError("the body is empty"), "the body is empty"),
        (InvalidResponseError("missing", "$.meta"), "$.meta: missing"),
    ],
)
def test_text(error: MarketplaceError, text: str) -> None:
    """The text states what happened, and what to do if that is known."""
    assert str(error).startswith(text)
    assert str(error) == text or text.endswith("which")


@each_error
def test_text_of_request(error: MarketplaceError) -> None:
    """The text names the request, the attempts and why there was no other one."""
    about = f" (GET {URL}, 3 attempts); not retried: no time is left"
    advice = f". {error.advice}" if error.advice else ""
    error = after_a_request(error)
    assert str(error) == error.reason() + about + advice
    error.attempts, error.not_retried = 1, None
    assert f" (GET {URL}, 1 attempt)" in str(error)
    error.attempts = 0
    assert f" (GET {URL})" in str(error)


HOSTILE = "\x1b[2J\x1b]0;title\x07\r\n\x00\x9b31m\u202etxt.exe\u2028\ud800\ufeff\U000e0041"


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE * 100_000], ids=["short", "megabytes"])
def test_hostile_text(text: str) -> None:
    """Foreign text is escaped and shortened in the text of each error, not in attributes."""
    about = MarketplaceError("about a page")
    about.method, about.url = "GET", URL + text
    for error in (
        about,
        ConnectionFailedError(text),
        InvalidSidError(text, "an Extension", "XF"),
        ApiError(400, text),
        ApiError(400, "No", request_id=text),
        InvalidResponseError(text),
        InvalidResponseError("missing", text),
        RequestTimeoutError("the call", 60.0, ApiError(400, text)),
    ):
        assert str(error).isprintable()
        assert len(str(error)) < 1_500
    assert ApiError(400, text).message == text


@given(st.text(st.characters(codec=None)) | st.integers() | st.lists(st.binary()))
@example("größe 大")
@example("a" * 200)
@example("a" * 201)
def test_escape(value: object) -> None:
    """Any value becomes a printable line of bounded length; plain text is kept."""
    line = escape(value)
    line.encode()
    assert line.isprintable()
    assert len(line) <= 200 * len(r"\U0010ffff") + 1
    if isinstance(value, str) and re.fullmatch(r"[a-zöß大 ]*", value):
        assert line == (value if len(value) <= 200 else value[:200] + "…")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b" upstream\r\n\tdown\n", "upstream down"),
        (b"caf\xe9", "caf\ufffd"),
        (b"<html><TITLE lang=en>\n502 Bad\n Gateway </title>", "502 Bad Gateway"),
        (b"<html><title>cut sh", "cut sh"),
        (b"<html><title> </title><h1>No</h1>", "<html><title> </title><h1>No</h1>"),
        (b"a" * 3_000, "a" * 2_000),
    ],
)
def test_excerpt(body: bytes, text: str) -> None:
    """The title of an HTML page or the first characters of a body, on one line."""
    assert excerpt(body) == text
