"""The errors of this library.

::

    MarketplaceError
    ├── MissingCredentialsError
    ├── InvalidSidError              also a ValueError
    ├── SessionClosedError           also a RuntimeError
    ├── ConnectionFailedError        also a ConnectionError
    │   └── CertificateError
    ├── RequestTimeoutError          also a TimeoutError
    ├── ApiError                     the API responded with an error
    │   ├── AuthenticationError      401
    │   ├── PermissionDeniedError    403
    │   ├── NotFoundError            404
    │   ├── RateLimitError           429
    │   └── ServerError              500 to 599
    └── InvalidResponseError         the response cannot be used
        ├── InvalidItemError
        ├── ResponseTooLargeError
        ├── UntrustedPageUrlError
        └── PageLoopError

Settings of a wrong type or value raise `TypeError` or `ValueError` instead.

Errors can be pickled and copied and hold no credentials. Attributes keep the server's text
unchanged; ``str()`` escapes and shortens it.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs

__all__ = [
    "ApiError",
    "AuthenticationError",
    "CertificateError",
    "ConnectionFailedError",
    "InvalidItemError",
    "InvalidResponseError",
    "InvalidSidError",
    "MarketplaceError",
    "MissingCredentialsError",
    "NotFoundError",
    "PageLoopError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ResponseTooLargeError",
    "ServerError",
    "SessionClosedError",
    "UntrustedPageUrlError",
    "escape",
    "excerpt",
]

ESCAPED_CHARACTERS: Final = 200
EXCERPT_BYTES: Final = 2_000
TITLE: Final = re.compile(r"<title[^>]*>\s*([^<]*[^<\s])", re.IGNORECASE)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def escape(value: object) -> str:
    """Return foreign text as one printable line of at most 200 characters, before escapes."""
    piece = _as_text(value)
    ellipsis = "…" if len(piece) > ESCAPED_CHARACTERS else ""
    # Unlike ascii(), repr() keeps printable characters of every script.
    return repr(piece[:ESCAPED_CHARACTERS])[1:-1] + ellipsis


def excerpt(body: bytes) -> str:
    """Return the title of an HTML page, or the first characters of any other body."""
    text = body[:EXCERPT_BYTES].decode("utf-8", "replace")
    title = TITLE.search(text)
    return " ".join((title[1] if title else text).split())


class MarketplaceError(Exception):
    """The base class of this library's errors."""

    advice: ClassVar[str] = ""
    method: str | None = None
    """The HTTP method of the request; ``None`` if the error concerns no request."""
    url: str | None = None
    """The URL of the request; ``None`` if the error concerns no request."""
    attempts: int = 0
    """The number of attempts before this error was raised."""
    not_retried: str | None = None
    """Why there was no further attempt, if the error is a retryable one."""

    def reason(self) -> str:
        """Return what happened, without the request and the advice."""
        return escape(" ".join(map(str, self.args[:1])))

    def __str__(self) -> str:
        text = self.reason()
        if self.url is not None:
            plural = "s" * (self.attempts != 1)
            attempts = f", {self.attempts} attempt{plural}" if self.attempts else ""
            text += f" ({self.method} {escape(self.url)}{attempts})"
        if self.not_retried:
            text += f"; not retried: {self.not_retried}"
        if self.advice:
            text += f". {self.advice}"
        return text


class MissingCredentialsError(MarketplaceError):
    """No credentials were passed, and the environment has none."""

    advice = (
        "Set TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and "
        "TWILIO_AUTH_TOKEN, or pass Credentials(username, password)."
    )


@attrs.define(slots=False)
class InvalidSidError(MarketplaceError, ValueError):
    """The value is not a SID of the required kind. No request was sent."""

    given: str = attrs.field(converter=_as_text)  # another object may not be picklable
    """The value, or its ``repr`` if it is not a string."""
    resource: str
    """The kind of resource, such as ``an Extension``."""
    pattern: str
    """The regular expression that the whole SID must match."""

    def reason(self) -> str:
        given = escape(self.given)
        return f"'{given}' is not the SID of {self.resource}, which matches ^{self.pattern}$"


class SessionClosedError(MarketplaceError, RuntimeError):
    """The session is not open: not started, closed, or used in another event loop.

    Use it inside ``async with open_session() as session:``.
    """


@attrs.define(slots=False)
class ConnectionFailedError(MarketplaceError, ConnectionError):
    """No complete HTTP response arrived: DNS, connecting, TLS, or a lost connection.

    Retried. If it persists, check the network, the proxy and the ``base_url``.
    """

    problem: str
    """What went wrong."""
    errno: int | None = None
    """The operating system's error number, if there is one."""


class CertificateError(ConnectionFailedError):
    """The server's TLS certificate is not trusted, or is for another host. Not retried."""

    advice = (
        "Check the host, the clock and the trusted certificates "
        "(the environment variable SSL_CERT_FILE names a bundle)."
    )


@attrs.define(slots=False)
class RequestTimeoutError(MarketplaceError, TimeoutError):
    """No complete response arrived in time; `Timeout` holds the three limits.

    ``spent`` tells what to change: many seconds in attempts mean a slow server, many seconds
    waiting for the limiter mean more calls than the server admits.
    """

    what: str
    """What took too long: ``the call``, ``an attempt`` or ``connecting``."""
    seconds: float
    """The timeout, in seconds."""
    last_error: MarketplaceError | None = None
    """The error of the last attempt that ended before the timeout, if there is one."""
    spent: Mapping[str, float] = attrs.field(factory=dict[str, float])
    """The seconds spent in each phase of the call, such as ``in attempts``."""

    def reason(self) -> str:
        text = f"{self.what} took longer than {self.seconds:g} s"
        phases = [f"{spent:.1f} s {phase}" for phase, spent in self.spent.items() if spent >= 0.05]
        if phases:
            text += f" ({', '.join(phases)})"
        if self.last_error is not None:
            text += f"; the last attempt: {self.last_error.reason()}"
        return text


@attrs.define(slots=False)
class ApiError(MarketplaceError):
    """The API responded with an error; subclasses exist for the common statuses.

    400 means that the request is wrong: ``message``, ``code`` and ``params`` say how.

    https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions
    """

    status: int
    """The HTTP status."""
    message: str = ""
    """The API's message; if there is none, the start of the body or its HTML title."""
    code: int | None = None
    """Twilio's error code: https://www.twilio.com/docs/api/errors"""
    more_info: str | None = None
    """The URL of the documentation of this error."""
    request_id: str | None = None
    """The ``Twilio-Request-Id``, for Twilio's support."""
    retry_after: float | None = None
    """The seconds to wait before the next request, from ``Retry-After``."""
    params: Mapping[str, Any] | None = None
    """Details by name, if the API sent any."""

    def reason(self) -> str:
        text = f"HTTP {self.status}"
        if self.code is not None:
            text += f", code {self.code}"
        if self.message:
            text += f": {escape(self.message)}"
        if self.retry_after is not None:
            text += f" [retry after {self.retry_after:g} s]"
        if self.request_id:
            text += f" [request {escape(self.request_id)}]"
        return text


class AuthenticationError(ApiError):
    """401: the API does not accept the credentials. Not retried."""

    advice = "Check that the API key or Auth Token is correct, active and of this region."


class PermissionDeniedError(ApiError):
    """403: the credentials are valid but do not permit this request. Not retried."""

    advice = "Check the permissions of this API key and account."


class NotFoundError(ApiError):
    """404: the resource does not exist. Not retried.

    Check the SID. The API has no listings that are Coming Soon or in Developer Preview.
    """


class RateLimitError(ApiError):
    """429: too many requests; the API did not process this one. Retried.

    If it is raised nevertheless, other processes use the account's limit too: make fewer
    requests at once, or share one session.

    https://www.twilio.com/docs/api/errors/20429
    """


class ServerError(ApiError):
    """500 to 599: the server, or a proxy before it, failed. Retried.

    If it persists, see https://status.twilio.com or send ``request_id`` to Twilio's support.
    """


@attrs.define(slots=False)
class InvalidResponseError(MarketplaceError):
    """The response cannot be used: it is not JSON, incomplete, or of an unexpected shape."""

    problem: str
    """What is wrong with the response."""
    field: str | None = None
    """The wrong field, such as ``$.extensions[3].friendly_name``; ``$`` is the whole body."""
    retryable: bool = False
    """Whether another attempt may succeed, because the response was cut short or mixed up."""

    def reason(self) -> str:
        problem = escape(self.problem)
        return problem if self.field is None else f"{escape(self.field)}: {problem}"


@attrs.define(slots=False)
class InvalidItemError(InvalidResponseError):
    """One item of a page, or more, cannot be used; the error describes the first.

    Use ``items``, continue with ``list(resume_from=error.next_page_url)``, or pass
    ``skip_invalid=True`` to skip such items.
    """

    retryable: bool = attrs.field(default=False, init=False)
    items: tuple[Any, ...] = attrs.field(default=(), repr=False)
    """The valid items of the page, in order."""
    next_page_url: str | None = None
    """The URL of the next page; ``None`` on the last page."""


class ResponseTooLargeError(InvalidResponseError):
    """The decompressed body is larger than ``max_response_bytes``; the rest was not read.

    Request smaller pages (``page_size``), or raise ``max_response_bytes``.
    """


class UntrustedPageUrlError(InvalidResponseError):
    """The URL of a page does not belong to the listing. It was not requested."""


class PageLoopError(InvalidResponseError):
    """The pages of a listing form a loop, or many in a row have no new items."""
