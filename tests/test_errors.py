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
    shown,
)

URL = "https://marketplace.twilio.com/v1/AvailableAddOns"

# One of each, with every argument given.
EXAMPLES: list[MarketplaceError] = [
    MarketplaceError("something went wrong"),
    MissingCredentialsError("no credentials were given and the environment holds none"),
    InvalidSidError("XB…", "an Available Add-on", "XB[0-9a-fA-F]{32}"),
    SessionClosedError("the session is closed"),
    ConnectionFailedError("ServerDisconnectedError: Server disconnected"),
    CertificateError("self-signed certificate"),
    RequestTimeoutError("the call", 60.0, ServerError(503, "Service Unavailable", 20503)),
    *(
        kind(status, "No", 20404, "https://www.twilio.com/docs", "RQ1", 1.5, {"name": "x"})
        for kind, status in {
            ApiError: 400,
            AuthenticationError: 401,
            PermissionDeniedError: 403,
            NotFoundError: 404,
            RateLimitError: 429,
            ServerError: 500,
        }.items()
    ),
    InvalidResponseError("the body is not JSON", ("missing @ $.sid",), incomplete=True),
    ResponseTooLargeError("the body is larger than 10 bytes"),
    UntrustedPageUrlError("the page URL is not one of this listing"),
    PageLoopError("a page comes again"),
]

each_error = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def descendants(of: type[MarketplaceError]) -> set[type[MarketplaceError]]:
    ours = {kind for kind in of.__subclasses__() if kind.__module__ == errors.__name__}
    return ours.union(*map(descendants, ours))


FAMILY: set[type[MarketplaceError]] = {MarketplaceError, *descendants(MarketplaceError)}


def facts(value: Any) -> Any:
    """What can be compared of an error, which is equal to itself alone."""
    if isinstance(value, BaseException):
        return type(value), str(value), facts(value.args), facts(vars(value))
    if isinstance(value, dict):
        return {name: facts(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]  # of anything
    if isinstance(value, tuple):
        return tuple(map(facts, value))  # pyright: ignore[reportUnknownArgumentType]  # of anything
    return value


def after_a_request(error: MarketplaceError) -> MarketplaceError:
    error = copy.copy(error)
    error.method, error.url, error.attempts = "GET", URL, 3
    error.not_retried = "it is late"
    return error


def test_the_tree_drawn_in_the_docstring_is_the_tree_that_exists() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        if node := re.match(r"    ([│ ]*)(?:[├└]── )?([A-Z]\w+Error)\b", line):
            depth = len(node[1]) // 4 + ("── " in line)
            path[depth:] = [node[2]]
            drawn[node[2]] = path[depth - 1] if depth else ""
    exists = {
        kind.__name__: next(
            (base.__name__ for base in kind.__bases__ if issubclass(base, MarketplaceError)), ""
        )
        for kind in FAMILY
    }
    assert drawn == exists


def test_the_builtin_parents_drawn_in_the_docstring_are_those_that_exist() -> None:
    drawn = dict(re.findall(r"(\w+Error) +also an? (\w+)", errors.__doc__ or ""))
    exists = {
        kind.__name__: base.__name__
        for kind in descendants(MarketplaceError)
        for base in kind.__bases__
        if base.__module__ == "builtins"
    }
    assert drawn == exists
    assert set(exists) == {
        "InvalidSidError",
        "SessionClosedError",
        "ConnectionFailedError",
        "RequestTimeoutError",
    }


def test_each_error_can_be_imported_from_the_package() -> None:
    names = {kind.__name__ for kind in FAMILY}
    assert names == {name for name in marketplace_async.__all__ if name.endswith("Error")}
    assert names | {"shown"} == set(errors.__all__)


def test_the_examples_here_are_one_of_each() -> None:
    kinds = [type(example) for example in EXAMPLES]
    assert set(kinds) == FAMILY
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InvalidSidError, ValueError),
        (SessionClosedError, RuntimeError),
        (ConnectionFailedError, ConnectionError),
        (CertificateError, ConnectionError),
        (ConnectionFailedError, OSError),
        (RequestTimeoutError, TimeoutError),
    ],
)
def test_errors_are_caught_as_the_builtin_ones_that_they_are_too(
    kind: type[MarketplaceError], builtin: type[Exception]
) -> None:
    example = next(example for example in EXAMPLES if type(example) is kind)
    with pytest.raises(builtin) as caught:
        raise example
    assert caught.value is example


@each_error
def test_an_error_that_is_about_no_request_has_no_request(error: MarketplaceError) -> None:
    assert (error.method, error.url, error.attempts, error.not_retried) == (None, None, 0, None)


@each_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_all_that_it_says(
    error: MarketplaceError, protocol: int
) -> None:
    error = after_a_request(error)
    error.add_note("seen by a worker")
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  # made right here
    assert facts(again) == facts(error)
    assert again.url == URL
    assert again.not_retried == "it is late"


@each_error
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_an_error_survives_copying_with_all_that_it_says(
    error: MarketplaceError, duplicate: Any
) -> None:
    error = after_a_request(error)
    assert facts(duplicate(error)) == facts(error)


def test_the_arguments_of_errors_are_their_attributes() -> None:
    api = ApiError(400, "No", 20001, "https://x", "RQ1", 1.5, {"name": "x"})
    assert (api.status, api.message, api.code, api.more_info) == (400, "No", 20001, "https://x")
    assert (api.request_id, api.retry_after, api.params) == ("RQ1", 1.5, {"name": "x"})
    timed_out = RequestTimeoutError("the call", 60.0, api)
    assert (timed_out.waited_for, timed_out.seconds) == ("the call", 60.0)
    assert timed_out.last_error is api
    invalid = InvalidResponseError("no", ("missing @ $.sid",), incomplete=True)
    assert (invalid.problem, invalid.fields, invalid.incomplete) == (
        "no",
        ("missing @ $.sid",),
        True,
    )
    sid = InvalidSidError("XB", "an Extension", "XF")
    assert (sid.given, sid.resource, sid.pattern) == ("XB", "an Extension", "XF")


def test_errors_made_with_named_arguments_survive_pickling_too() -> None:
    for error in (
        ApiError(status=400, message="No", code=20001, retry_after=1.5, params={"name": "x"}),
        RequestTimeoutError(waited_for="the call", seconds=1.5, last_error=ApiError(status=503)),
        InvalidResponseError(problem="no", fields=("missing @ $.sid",), incomplete=True),
        InvalidSidError(given="XB", resource="an Extension", pattern="XF"),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301  # made right here
        assert facts(again) == facts(error)


@each_error
def test_no_argument_passes_for_the_number_of_a_system_error(error: MarketplaceError) -> None:
    if isinstance(error, OSError):
        assert (error.errno, error.strerror, error.filename) == (None, None, None)


def test_an_answer_counts_as_incomplete_only_if_that_is_said() -> None:
    for kind in (InvalidResponseError, ResponseTooLargeError, UntrustedPageUrlError, PageLoopError):
        assert kind("no").incomplete is False
        assert kind("no").fields == ()


class Shouting(str):
    """Text that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "XB"


class Hostile:
    def __repr__(self) -> str:
        raise LookupError("no")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, "None"),
        (5, "5"),
        (b"XB", "b'XB'"),
        (["XB"], "['XB']"),
        (Shouting("quiet"), "quiet"),
        (10**5000, "<int>"),
        (Hostile(), "<Hostile>"),
    ],
    ids=["None", "int", "bytes", "list", "str subclass", "long int", "failing repr"],
)
def test_whatever_was_given_for_a_sid_is_kept_as_plain_text(given: object, kept: str) -> None:
    error = InvalidSidError(given, "an Extension", "XF")
    assert error.given == kept
    assert type(error.given) is str


def test_an_error_about_something_that_cannot_be_pickled_can_be_pickled() -> None:
    error = InvalidSidError(lambda: None, "an Extension", "XF")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # made right here
    assert "<lambda>" in again.given


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            MissingCredentialsError("no credentials"),
            f"no credentials. {MissingCredentialsError.advice}",
        ),
        (
            InvalidSidError("XB1", "an Extension", "XF[0-9]"),
            "'XB1' is not the SID of an Extension, which matches ^XF[0-9]$",
        ),
        (ConnectionFailedError("refused"), "refused"),
        (RequestTimeoutError("an attempt", 15.0), "an attempt took longer than 15 s"),
        (
            RequestTimeoutError("the call", 0.25, RateLimitError(429, "Slow down")),
            "the call took longer than 0.25 s; the last attempt: HTTP 429: Slow down",
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
        (InvalidResponseError("it is no JSON"), "it is no JSON"),
        (
            InvalidResponseError("unexpected", ("missing @ $.sid", "missing @ $.url")),
            "unexpected: missing @ $.sid; missing @ $.url",
        ),
        (InvalidResponseError("unexpected", tuple("abcde")), "unexpected: a; b; c; d; e"),
        (
            InvalidResponseError("unexpected", tuple("abcdefgh")),
            "unexpected: a; b; c; d; e; and 3 more",
        ),
    ],
)
def test_the_text_says_what_happened(error: MarketplaceError, text: str) -> None:
    assert str(error) == text


def test_missing_credentials_are_answered_with_what_to_set() -> None:
    text = str(MissingCredentialsError("no credentials"))
    for name in ("TWILIO_API_KEY", "TWILIO_API_SECRET", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        assert name in text


@pytest.mark.parametrize(
    ("attempts", "not_retried", "about"),
    [
        (0, None, f" (GET {URL})"),
        (1, None, f" (GET {URL}, 1 attempt)"),
        (6, None, f" (GET {URL}, 6 attempts)"),
        (2, "no time is left", f" (GET {URL}, 2 attempts); not retried: no time is left"),
    ],
)
def test_the_text_says_which_request_was_made_how_often_and_why_not_again(
    attempts: int, not_retried: str | None, about: str
) -> None:
    error = ServerError(503, "Down")
    error.method, error.url = "GET", URL
    error.attempts, error.not_retried = attempts, not_retried
    assert str(error) == f"HTTP 503: Down{about}"


@each_error
def test_the_text_of_each_error_names_the_request_before_the_advice(
    error: MarketplaceError,
) -> None:
    about = f" (GET {URL}, 3 attempts); not retried: it is late"
    advice = f". {error.advice}" if error.advice else ""
    assert str(after_a_request(error)) == error.reason() + about + advice


HOSTILE = [
    "line\nbreak",
    "carriage\rreturn",
    "nul\x00",
    "bell\a",
    "\x1b[2J\x1b]0;title\x07",  # clears the terminal and renames its window
    "\x9b31m",  # the same in one character
    "\u202etxt.exe",  # turns the direction of writing
    "\u2066hidden\u2069",
    "zero\u200bwidth",
    "line\u2028separator",
    "\ud800 half of a pair",
    "\ufeffmark",
    "\U000e0041tag",
]


def everywhere(text: str) -> list[MarketplaceError]:
    """Errors with foreign text in all the places that foreign text can come to."""
    about = MarketplaceError("about a page")
    about.method, about.url = "GET", URL + text
    return [
        about,
        ConnectionFailedError(text),
        InvalidSidError(text, "an Extension", "XF"),
        ApiError(400, text),
        ApiError(400, "No", request_id=text),
        InvalidResponseError(text),
        InvalidResponseError("no", (text,)),
        RequestTimeoutError("the call", 60.0, ApiError(400, text)),
    ]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_could_play_tricks_on_a_reader_is_shown_escaped_and_kept_as_it_came(
    text: str,
) -> None:
    for error in everywhere(text):
        assert str(error).isprintable()
    assert ApiError(400, text).message == text


def test_megabytes_are_shown_shortened_and_kept_as_they_came() -> None:
    for error in everywhere("\x1b" * 1_000_000):
        assert len(str(error)) < 1_500
        assert "…" in str(error)
    assert len(ApiError(400, "a" * 1_000_000).message) == 1_000_000


def test_words_in_other_scripts_stay_readable() -> None:
    assert str(ApiError(400, "Größe ungültig: 大きさ")) == "HTTP 400: Größe ungültig: 大きさ"


@given(st.text(st.characters(codec=None)))
def test_any_text_is_shown_on_one_line_of_bounded_length_that_can_be_encoded(text: str) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= 200 * len(r"\U0010ffff") + 1
    line.encode()


@given(st.text(st.characters(codec="ascii", min_codepoint=32, exclude_characters="\\'\x7f")))
@example("a" * 200)
@example("a" * 201)
def test_plain_text_is_shown_as_it_is_up_to_200_characters(text: str) -> None:
    assert shown(text) == (text if len(text) <= 200 else text[:200] + "…")


@given(st.integers() | st.lists(st.binary()) | st.none())
def test_values_that_are_not_text_are_shown_as_python_writes_them(value: object) -> None:
    assert shown(value) == shown(repr(value))
