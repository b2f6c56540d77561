"""One request and its response, through aiohttp: the body, or one of this library's errors.

The only module that does I/O. What a response means is decided by `responses`.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NoReturn, TypeVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from marketplace_async.errors import (
    CertificateError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    RequestTimeoutError,
    ResponseTooLargeError,
    SessionClosedError,
)
from marketplace_async.responses import error_from
from marketplace_async.settings import Credentials, Timeout
from marketplace_async.timeouts import Deadline, Deadlines, Expired
from marketplace_async.version import __version__

__all__ = ["Sender"]

T = TypeVar("T")

logger: Final = logging.getLogger("marketplace_async")

USER_AGENT: Final = f"marketplace-async/{__version__} Python/{sys.version.split()[0]}"
ERROR_BODY_BYTES: Final = 64 * 1024
# A shorter password may be part of ordinary words. The secrets of Twilio have 32 characters.
SECRET_LENGTH_MIN: Final = 6


class _Hidden(str):
    """A header's value without a ``repr``: error trackers show aiohttp's local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Sender:
    """Makes the requests of an open session through one `aiohttp.ClientSession`."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        credentials: Credentials,
        timeout: Timeout,
        max_response_bytes: int,
        proxy: str | None,
    ) -> None:
        authorization = aiohttp.encode_basic_auth(credentials.username, credentials.password)
        secrets = credentials.password, authorization.split()[1]
        self._secrets = [secret.encode() for secret in secrets if len(secret) >= SECRET_LENGTH_MIN]
        # Passed with each request and not set in the aiohttp session, which may belong to the
        # caller and talk to other hosts too.
        self._headers = CIMultiDict(
            {
                "Authorization": _Hidden(authorization),
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": USER_AGENT,
            }
        )
        self._http = http
        self._proxy = proxy
        self._timeout = timeout
        self._deadlines = Deadlines(timeout.attempt, asyncio.get_running_loop())
        # Deadlines limits the attempt. aiohttp's ``connect`` would include the wait for a free
        # connection.
        self._http_timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout.connect)
        self._max_response_bytes = max_response_bytes

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session and its handles hold credentials and cannot be pickled")

    def close(self) -> None:
        """End all requests under way."""
        self._deadlines.close()

    async def get(self, url: URL, attempt: int) -> bytes:
        """Make one request, the ``attempt`` of its call from 1, and return the decoded body.

        :raises MarketplaceError: the meaning of the response, or the reason why there is none.
        """
        status = 0
        response: aiohttp.ClientResponse | None = None
        deadline = Deadline(self._deadlines)
        try:
            with deadline:
                response = await self._http.request(
                    "GET",
                    url,
                    headers=self._headers,
                    timeout=self._http_timeout,
                    allow_redirects=False,
                    raise_for_status=False,
                    proxy=self._proxy,
                )
                try:
                    status = response.status
                    if status != 200:
                        raise await self._error(response)
                    body = await _read(response.content, self._max_response_bytes)
                    if len(body) <= self._max_response_bytes:
                        return body
                    raise ResponseTooLargeError(
                        f"the body is larger than {self._max_response_bytes} bytes"
                        " (max_response_bytes)"
                    )
                finally:
                    if not response.closed:  # after the last byte it is, and can be reused
                        response.close()
        except Expired as error:
            if response is not None and status != 200:  # the status alone tells the error
                raise error_from(status, response.headers, b"", datetime.now(UTC)) from error
            raise RequestTimeoutError("an attempt", self._timeout.attempt) from error
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, MarketplaceError):
                raise
            raise self._translated(error) from error
        finally:
            if logger.isEnabledFor(logging.DEBUG):
                seconds = deadline.elapsed
                extra = {"url": str(url), "status": status, "duration": seconds}
                extra |= {"method": "GET", "attempt": attempt}
                text = "GET %s: %s in %.3f s, attempt %d"
                logger.debug(text, url, status or "no response", seconds, attempt, extra=extra)

    def read(self, body: bytes, read: Callable[[bytes], T]) -> T:
        """Return ``read(body)``; its `InvalidResponseError` shows no echoed credentials."""
        try:
            return read(body)
        except InvalidResponseError:
            body = self._redacted(body)  # error trackers show the local variables of a traceback
        return read(body)

    def _redacted(self, body: bytes) -> bytes:
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body

    async def _error(self, response: aiohttp.ClientResponse) -> MarketplaceError:
        try:
            body = self._redacted(await _read(response.content, ERROR_BODY_BYTES))
        except (aiohttp.ClientError, RuntimeError):
            body = b""  # the status alone tells the error
        return error_from(response.status, response.headers, body, datetime.now(UTC))

    def _translated(self, error: Exception) -> MarketplaceError:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return CertificateError(str(error))
            case TimeoutError():
                return RequestTimeoutError("connecting", self._timeout.connect)
            case RuntimeError() if self._http.closed:
                return SessionClosedError("the aiohttp session is closed")
            case aiohttp.ClientResponseError():  # its status is made up
                return ConnectionFailedError(f"the response is not HTTP: {error.message}")
            case ValueError():
                failure = ConnectionFailedError(f"aiohttp does not make the request: {error}")
                failure.not_retried = (
                    "aiohttp would raise again; does its session have other credentials for this "
                    "host, from auth or, with trust_env, from a netrc file?"
                )
                return failure
            case _:
                return ConnectionFailedError(
                    f"{type(error).__name__}: {error}", getattr(error, "errno", None)
                )


async def _read(content: aiohttp.StreamReader, enough: int) -> bytes:
    """Read until the end, or until there is more than ``enough``."""
    body = await content.readany()
    if content.at_eof():
        return body
    chunks = [body]
    size = len(body)
    while size <= enough and (chunk := await content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
