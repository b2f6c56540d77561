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
from types import MappingProxyType
from typing import Any, ClassVar, Final

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


def escape(text: object) -> str:
    """Return foreign text as one printable line of at most 200 characters, before escapes."""
    piece = text if isinstance(text, str) else repr(text)
    ellipsis = "…" if len(piece) > ESCAPED_CHARACTERS else ""
    # Unlike ascii(), repr() keeps printable characters of every script.
    return repr(piece[:ESCAPED_CHARACTERS])[1:-1] + ellipsis


def excerpt(body: bytes) -> str:
    """Return the title of an HTML page, or the first characters of any other body."""
    text = body[:EXCERPT_BYTES].decode("utf-8", "replace")
    title = TITLE.search(text)
    return " ".join((title[1] if title else text).split())


def _without_init(kind: type["MarketplaceError"], args: tuple[Any, ...]) -> "MarketplaceError":
    error = kind.__new__(kind)
    error.args = args
    return error


class MarketplaceError(Exception):
    """The base class of this library's errors.

    ``str()`` states what happened, for which request, after how many attempts, and what to do.
    """

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
        return escape(" ".join(map(str, self.args)))

    def __str__(self) -> str:
        text = self.reason()
        if self.url is not None:
            text += f" ({self.method} {escape(self.url)}"
            if self.attempts:
                text += f", {self.attempts} attempt{'s' * (self.attempts != 1)}"
            text += ")"
        if self.not_retried:
            text += f"; not retried: {self.not_retried}"
        if self.advice:
            text += f". {self.advice}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way would call __init__ with args, which lack most arguments.
        return _without_init, (type(self), self.args), vars(self)


class MissingCredentialsError(MarketplaceError):
    """No credentials were passed, and the environment has none.

    Set one of the two pairs of environment variables, or pass `Credentials`.
    """

    advice = (
        "Set TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and "
        "TWILIO_AUTH_TOKEN, or pass Credentials(username, password)."
    )


class InvalidSidError(MarketplaceError, ValueError):
    """The value is not a SID of the required kind. No request was sent."""

    def __init__(self, given: object, resource: str, pattern: str) -> None:
        # As text: an error with any object in it might not be picklable.
        self.given = given if isinstance(given, str) else repr(given)
        """The value, or its ``repr`` if it is not a string."""
        self.resource = resource
        """The kind of resource, such as ``an Extension``."""
        self.pattern = pattern
        """The regular expression that the whole SID must match."""
        super().__init__(self.given, resource, pattern)

    def reason(self) -> str:
        return (
            f"'{escape(self.given)}' is not the SID of {self.resource}, "
            f"which matches ^{self.pattern}$"
        )


class SessionClosedError(MarketplaceError, RuntimeError):
    """The session is not open: not started, closed, or used in another event loop.

    Use it inside ``async with open_session() as session:``.
    """


class ConnectionFailedError(MarketplaceError, ConnectionError):
    """No complete HTTP response arrived: DNS, connecting, TLS, or a lost connection.

    Retried. If it persists, check the network, the proxy and the ``base_url``.
    """

    # Shadows the attribute of OSError, which is not pickled.
    errno: int | None = None
    """The operating system's error number, if there is one."""

    def __init__(self, problem: str, errno: int | None = None) -> None:
        super().__init__(problem)
        self.errno = errno


class CertificateError(ConnectionFailedError):
    """The server's TLS certificate is not trusted, or is for another host. Not retried."""

    advice = (
        "Check the host, the clock and the trusted certificates "
        "(the environment variable SSL_CERT_FILE names a bundle)."
    )


class RequestTimeoutError(MarketplaceError, TimeoutError):
    """No complete response arrived in time; `Timeout` holds the three limits.

    ``spent`` tells what to change: many seconds in attempts mean a slow server, many seconds
    waiting for the limiter mean more calls than the server admits.
    """

    def __init__(
        self,
        what: str,
        seconds: float,
        last_error: MarketplaceError | None = None,
        spent: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        # One argument only: OSError would take a second one for its strerror.
        super().__init__(what)
        self.what = what
        """What took too long: ``the call``, ``an attempt`` or ``connecting``."""
        self.seconds = seconds
        """The timeout, in seconds."""
        self.last_error = last_error
        """The error of the last attempt that ended before the timeout, if there is one."""
        self.spent = dict(spent)
        """The seconds spent in each phase of the call, such as ``in attempts``."""

    def reason(self) -> str:
        text = f"{self.what} took longer than {self.seconds:g} s"
        phases = [f"{spent:.1f} s {phase}" for phase, spent in self.spent.items() if spent >= 0.05]
        if phases:
            text += f" ({', '.join(phases)})"
        if self.last_error is not None:
            text += f"; the last attempt: {self.last_error.reason()}"
        return text


class ApiError(MarketplaceError):
    """The API responded with an error; subclasses exist for the common statuses.

    400 means that the request is wrong: ``message``, ``code`` and ``params`` say how.

    https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        code: int | None = None,
        more_info: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status = status
        """The HTTP status."""
        self.message = message
        """The API's message; if there is none, the start of the body or its HTML title."""
        self.code = code
        """Twilio's error code: https://www.twilio.com/docs/api/errors"""
        self.more_info = more_info
        """The URL of the documentation of this error."""
        self.request_id = request_id
        """The ``Twilio-Request-Id``, for Twilio's support."""
        self.retry_after = retry_after
        """The seconds to wait before the next request, from ``Retry-After``."""
        self.params = params
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
    """401: the API does not accept the credentials. Not retried.

    Check that the API key or Auth Token is correct, active, and of the session's region.
    """

    advice = "Check that the API key or Auth Token is correct, active and of this region."


class PermissionDeniedError(ApiError):
    """403: the credentials are valid but do not permit this request. Not retried.

    Check the permissions of the API key, and the status of the account.
    """

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


class InvalidResponseError(MarketplaceError):
    """The response cannot be used: it is not JSON, incomplete, or of an unexpected shape."""

    def __init__(self, problem: str, field: str | None = None, retryable: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        """What is wrong with the response."""
        self.field = field
        """The wrong field, such as ``$.extensions[3].friendly_name``; ``$`` is the whole body."""
        self.retryable = retryable
        """Whether another attempt may succeed, because the response was cut short or mixed up."""

    def reason(self) -> str:
        problem = escape(self.problem)
        return problem if self.field is None else f"{escape(self.field)}: {problem}"


class InvalidItemError(InvalidResponseError):
    """One item of a page, or more, cannot be used; the error describes the first.

    Use ``items``, continue with ``list(resume_from=error.next_page_url)``, or pass
    ``skip_invalid=True`` to skip such items.
    """

    def __init__(
        self, problem: str, field: str | None, items: tuple[Any, ...], next_page_url: str | None
    ) -> None:
        super().__init__(problem, field)
        self.items = items
        """The valid items of the page, in order."""
        self.next_page_url = next_page_url
        """The URL of the next page; ``None`` on the last page."""


class ResponseTooLargeError(InvalidResponseError):
    """The decompressed body is larger than ``max_response_bytes``; the rest was not read.

    Request smaller pages (``page_size``), or raise ``max_response_bytes``.
    """


class UntrustedPageUrlError(InvalidResponseError):
    """The URL of a page does not belong to the listing. It was not requested."""


class PageLoopError(InvalidResponseError):
    """The pages of a listing form a loop, or many in a row have no new items."""
