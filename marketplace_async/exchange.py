"""One request and its answer, through aiohttp: the bytes, or one of this library's errors.

The only place that does I/O. What an answer means is decided by functions of values, in
`responses`.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, cast

import aiohttp
from multidict import CIMultiDict, istr
from yarl import URL

from marketplace_async.deadlines import Deadlines, Expired, Watch
from marketplace_async.errors import (
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    RequestTimeoutError,
    ResponseTooLargeError,
    SessionClosedError,
)
from marketplace_async.responses import CODINGS, decoded, error_of
from marketplace_async.settings import Credentials, Timeout
from marketplace_async.version import __version__

__all__ = ["Exchange"]

logger: Final = logging.getLogger("marketplace_async")

USER_AGENT: Final = f"marketplace-async/{__version__} Python/{sys.version.split()[0]}"
ERROR_BODY_BYTES: Final = 64 * 1024
# What is shorter stands in ordinary words too. Twilio's secrets have 32 characters.
SECRET_LENGTH: Final = 6
CONTENT_ENCODING: Final = istr("Content-Encoding")


class _Unshown(str):
    """The value of a header that must not show in a ``repr``.

    aiohttp has the headers of a request in its exceptions and in local variables, which error
    trackers show together with a traceback.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Exchange:
    """Makes the requests of a session, once opened, through one `aiohttp.ClientSession`."""

    def __init__(
        self, *, credentials: Credentials, timeout: Timeout, max_response_bytes: int
    ) -> None:
        authorization = aiohttp.encode_basic_auth(credentials.username, credentials.password)
        # Without the padding, which is often escaped where a request is sent back.
        basic = authorization.split()[1].rstrip("=")
        self._secrets = tuple(s for s in (basic, credentials.password) if len(s) >= SECRET_LENGTH)
        # Given to each request and not to the aiohttp session, which may be the caller's and
        # talk to others too.
        self._headers = CIMultiDict(
            {
                "Authorization": _Unshown(authorization),
                "Accept": "application/json",
                "Accept-Encoding": ", ".join(CODINGS),
                "User-Agent": USER_AGENT,
            }
        )
        self._timeout = timeout
        # The time of a whole attempt is watched here. ``connect`` of aiohttp would count the
        # wait for a free connection too.
        self._http_timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout.connect)
        self._max_response_bytes = max_response_bytes

    def __reduce__(self) -> NoReturn:
        # Handles and pagers lead here too, and are easily handed to another process.
        raise TypeError("a session and what it gives hold credentials and cannot be pickled")

    def open(self, http: aiohttp.ClientSession) -> None:
        """Take the pool to send through, in the event loop that all requests are made in."""
        self._http = http
        self._deadlines = Deadlines(self._timeout.attempt, asyncio.get_running_loop())

    def close(self) -> None:
        """End all requests under way."""
        self._deadlines.close()

    async def get(self, url: URL, attempt: int) -> bytes:
        """Make one request, the call's ``attempt`` from 1, and give the body of its answer.

        :raises MarketplaceError: what the answer means, or why there is none.
        """
        status = 0
        response: aiohttp.ClientResponse | None = None
        failure: MarketplaceError
        watch = Watch(self._deadlines)
        try:
            with watch:
                response = await self._http.request(
                    "GET",
                    url,
                    headers=self._headers,
                    timeout=self._http_timeout,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=False,
                )
                try:
                    status = response.status
                    if status == 200:
                        return await self._body(response)
                    failure = await self._error(response)
                finally:
                    if not response.closed:  # it is after the last byte, and reusable
                        response.close()
        except Expired:
            if response is None or status == 200:
                failure = RequestTimeoutError("an attempt", self._timeout.attempt)
            else:  # the status alone says what the error means
                failure = error_of(status, response.headers, b"", datetime.now(UTC))
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            failure = self._translated(error)
        finally:
            if logger.isEnabledFor(logging.DEBUG):
                _log(url, attempt, status, watch.elapsed)
        # Raised here, where no exception of aiohttp is its context: theirs hold the request's
        # headers, with the credentials.
        raise failure

    def clean(self, error: MarketplaceError) -> None:
        """Cut the credentials out of an error: debugging pages send back what they were sent."""
        error.args = self._cleaned(error.args)
        vars(error).update(self._cleaned(vars(error)))

    def _cleaned(self, value: object) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = _without(secret, value)
            return value
        if isinstance(value, Mapping):
            named = cast("Mapping[str, Any]", value)
            return {self._cleaned(name): self._cleaned(item) for name, item in named.items()}
        if isinstance(value, tuple | list):
            items = [self._cleaned(item) for item in cast("Sequence[Any]", value)]
            return tuple(items) if isinstance(value, tuple) else items
        return value

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = await response.content.readany()
        if not response.content.at_eof():
            body += await _read(response, self._max_response_bytes - len(body))
        if CONTENT_ENCODING in response.headers and len(body) <= self._max_response_bytes:
            body = _decoded(response, body, self._max_response_bytes)
        if len(body) > self._max_response_bytes:
            raise ResponseTooLargeError(
                f"the body is larger than {self._max_response_bytes} bytes (max_response_bytes)"
            )
        return body

    async def _error(self, response: aiohttp.ClientResponse) -> MarketplaceError:
        try:
            body = await _read(response, ERROR_BODY_BYTES)
            body = _decoded(response, body, ERROR_BODY_BYTES)
        except (aiohttp.ClientError, RuntimeError, InvalidResponseError):
            body = b""  # as above
        return error_of(response.status, response.headers, body, datetime.now(UTC))

    def _translated(self, error: Exception) -> MarketplaceError:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return CertificateError(str(error))
            case TimeoutError():
                return RequestTimeoutError("connecting", self._timeout.connect)
            case RuntimeError() if self._http.closed:
                return SessionClosedError("the aiohttp session is closed")
            case aiohttp.ClientResponseError():  # its status is made up
                return ConnectionFailedError(f"the answer is not HTTP: {error.message}")
            case ValueError():
                failure = ConnectionFailedError(f"aiohttp does not make the request: {error}")
                failure.not_retried = (
                    "aiohttp would refuse again; has its session other credentials for this "
                    "host, from auth or, with trust_env, from a netrc file?"
                )
                return failure
            case _:
                return ConnectionFailedError(f"{type(error).__name__}: {error}")


def _without(secret: str, text: str) -> str:
    """Cut out a secret, or as much of its beginning as somebody else's cutting left of it."""
    beginning = secret[:SECRET_LENGTH]
    while (start := text.find(beginning)) >= 0:
        length = next(n for n in range(len(secret), 0, -1) if text.startswith(secret[:n], start))
        text = f"{text[:start]}...{text[start + length :]}"
    return text


def _decoded(response: aiohttp.ClientResponse, body: bytes, enough: int) -> bytes:
    return decoded(body, ", ".join(response.headers.getall(CONTENT_ENCODING, ())), enough)


async def _read(response: aiohttp.ClientResponse, enough: int) -> bytes:
    """Read until the end, or until there is more than enough."""
    chunks: list[bytes] = []
    size = 0
    while size <= enough and (chunk := await response.content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _log(url: URL, attempt: int, status: int, seconds: float) -> None:
    logger.debug(
        "GET %s: %s in %.3f s, attempt %d",
        url,
        status or "no answer",
        seconds,
        attempt,
        extra={
            "method": "GET",
            "url": str(url),
            "status": status,
            "duration": seconds,
            "attempt": attempt,
        },
    )
