"""What goes wrong with calls; settings of a wrong type or value are `TypeError`, `ValueError`.

::

    MarketplaceError
    ├── MissingCredentialsError
    ├── InvalidSidError              also a ValueError
    ├── SessionClosedError           also a RuntimeError
    ├── ConnectionFailedError        also a ConnectionError
    │   └── CertificateError
    ├── RequestTimeoutError          also a TimeoutError
    ├── ApiError                     the API answered with an error
    │   ├── AuthenticationError      401
    │   ├── PermissionDeniedError    403
    │   ├── NotFoundError            404
    │   ├── RateLimitError           429
    │   └── ServerError              500 to 599
    └── InvalidResponseError         the answer is not what the API describes
        ├── ResponseTooLargeError
        ├── UntrustedPageUrlError
        └── PageLoopError

Errors are data; their text is made when they are shown. They can be pickled, none
refers to an exception of the HTTP library, and none holds a credential. What a server
sent is kept in the attributes as it came and is escaped and shortened in the text.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "ApiError",
    "AuthenticationError",
    "CertificateError",
    "ConnectionFailedError",
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
    "shown",
]

SHOWN_CHARACTERS = 200


def shown(text: object) -> str:
    """Make foreign text fit for a terminal or a log: one line, escaped, at most 200 characters."""
    piece = text if isinstance(text, str) else repr(text)
    cut = len(piece) > SHOWN_CHARACTERS
    # ascii() would mangle names in other scripts; repr() escapes just what cannot be printed.
    return repr(piece[:SHOWN_CHARACTERS])[1:-1] + ("…" if cut else "")


def _described(given: object) -> str:
    try:
        return repr(given)
    except Exception:  # noqa: BLE001  # a `repr` can fail in any way, that of a long int does
        return f"<{type(given).__name__}>"


class MarketplaceError(Exception):
    """The root of this library's errors.

    `str()` of each says what happened, for which request, after how many attempts and,
    where that is known, what to do next.
    """

    advice: ClassVar[str] = ""

    method: str | None = None
    """The HTTP method of the request, ``None`` if the error is not about one."""

    url: str | None = None
    """The URL of the request, ``None`` if the error is not about one."""

    attempts: int = 0
    """How many attempts were made before this error was raised."""

    not_retried: str | None = None
    """Why no further attempt was made although the error is one that is retried."""

    def reason(self) -> str:
        """Say what happened, without the request and the advice."""
        return shown(" ".join(map(str, self.args)))

    def __str__(self) -> str:
        text = self.reason()
        if self.url is not None:
            text += f" ({self.method} {shown(self.url)}"
            if self.attempts:
                text += f", {self.attempts} attempt{'s' * (self.attempts != 1)}"
            text += ")"
        if self.not_retried:
            text += f"; not retried: {self.not_retried}"
        if self.advice:
            text += f". {self.advice}"
        return text


class MissingCredentialsError(MarketplaceError):
    """No credentials were given and the environment holds none."""

    advice = (
        "Set TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and "
        "TWILIO_AUTH_TOKEN, or pass Credentials(username, password)."
    )


class InvalidSidError(MarketplaceError, ValueError):
    """What was given is not the SID that is needed; no request was sent."""

    def __init__(self, given: object, resource: str, pattern: str) -> None:
        # As plain text, so that the error can be pickled whatever was given.
        text = str.__str__(given) if isinstance(given, str) else _described(given)
        super().__init__(text, resource, pattern)
        self.given = text
        """What was given."""
        self.resource = resource
        """What it should have been the SID of."""
        self.pattern = pattern
        """The regular expression that such a SID matches as a whole."""

    def reason(self) -> str:
        return (
            f"'{shown(self.given)}' is not the SID of {self.resource}, "
            f"which matches ^{self.pattern}$"
        )


class SessionClosedError(MarketplaceError, RuntimeError):
    """The session is not open: not yet, no longer, or not in this event loop."""


class ConnectionFailedError(MarketplaceError, ConnectionError):
    """No complete HTTP answer arrived: DNS, connecting, TLS, or a connection cut on the way."""


class CertificateError(ConnectionFailedError):
    """The server's TLS certificate is not trusted or is for another host; never retried."""

    advice = (
        "Check the host, the clock and the trusted certificates "
        "(the environment variable SSL_CERT_FILE names a bundle)."
    )


class RequestTimeoutError(MarketplaceError, TimeoutError):
    """No complete answer arrived in time."""

    def __init__(
        self, waited_for: str, seconds: float, last_error: MarketplaceError | None = None
    ) -> None:
        super().__init__(waited_for)  # an OSError takes a second argument for its strerror
        self.waited_for = waited_for
        """What took too long."""
        self.seconds = seconds
        """The time-out that passed, or would have, in seconds."""
        self.last_error = last_error
        """The error of the last attempt that ended by itself, if one did."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.waited_for, self.seconds, self.last_error), vars(self)

    def reason(self) -> str:
        text = f"{self.waited_for} took longer than {self.seconds:g} s"
        if self.last_error is not None:
            text += f"; the last attempt: {self.last_error.reason()}"
        return text


class ApiError(MarketplaceError):
    """The API answered with an error.

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
        super().__init__(status, message, code, more_info, request_id, retry_after, params)
        self.status = status
        """The HTTP status of the answer."""
        self.message = message
        """What the API says of it; the start of the body where that is no error of the API's."""
        self.code = code
        """Twilio's own error code: https://www.twilio.com/docs/api/errors"""
        self.more_info = more_info
        """The URL of the page about that code."""
        self.request_id = request_id
        """The ``Twilio-Request-Id`` of the answer, for Twilio's support."""
        self.retry_after = retry_after
        """How many seconds the answer asked to wait before the next request."""
        self.params = params
        """Details by name, where the API gave some."""

    def reason(self) -> str:
        text = f"HTTP {self.status}"
        if self.code is not None:
            text += f", code {self.code}"
        if self.message:
            text += f": {shown(self.message)}"
        if self.retry_after is not None:
            text += f" [retry after {self.retry_after:g} s]"
        if self.request_id:
            text += f" [request {shown(self.request_id)}]"
        return text


class AuthenticationError(ApiError):
    """401: the credentials are not accepted."""

    advice = "Check that the API key or Auth Token is right, active and of this region."


class PermissionDeniedError(ApiError):
    """403: the credentials are known, but may not do this."""

    advice = "Check what this API key and account are allowed to do."


class NotFoundError(ApiError):
    """404: there is no such resource.

    Listings that are Coming Soon or in Developer Preview are not in the API either.
    """


class RateLimitError(ApiError):
    """429: too many requests; this one was not processed.

    https://www.twilio.com/docs/api/errors/20429
    """


class ServerError(ApiError):
    """500 to 599: the server or something before it failed."""


class InvalidResponseError(MarketplaceError):
    """The answer is not what the API describes."""

    def __init__(
        self, problem: str, fields: tuple[str, ...] = (), incomplete: bool = False
    ) -> None:
        super().__init__(problem, fields, incomplete)
        self.problem = problem
        """What is wrong with the answer."""
        self.fields = fields
        """The wrong fields, each as ``what is wrong @ $.path.to[0].field``."""
        self.incomplete = incomplete
        """The body does not parse, as one that was cut short, or answers another request.

        Such an attempt is retried.
        """

    def reason(self) -> str:
        text = shown(self.problem)
        if self.fields:
            text += ": " + "; ".join(map(shown, self.fields[:5]))
            if len(self.fields) > 5:
                text += f"; and {len(self.fields) - 5} more"
        return text


class ResponseTooLargeError(InvalidResponseError):
    """The decoded body is larger than ``max_response_bytes``; the rest was not read."""


class UntrustedPageUrlError(InvalidResponseError):
    """The URL of a page leads away from the listing; it was not requested."""


class PageLoopError(InvalidResponseError):
    """The pages of a listing lead in a circle or on and on without an item."""
