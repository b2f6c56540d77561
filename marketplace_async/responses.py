"""An answer's status, headers and body: to a body worth converting, or to the right error.

Functions of values; nothing here does I/O or looks at a clock.
"""

import contextlib
import json
import math
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

from marketplace_async.errors import (
    ApiError,
    AuthenticationError,
    InvalidResponseError,
    MarketplaceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

__all__ = ["CODINGS", "decoded", "error_of", "retry_after"]

MEANINGS: Final[Mapping[int, type[ApiError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
CODINGS: Final[Mapping[str, int]] = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""The content codings that are asked for, with what zlib calls the window bits of each."""

NUMBER_OF_SECONDS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
MESSAGE_CHARACTERS: Final = 2_000
BRACKETS_MAX: Final = 200


def decoded(body: bytes, coding: str, enough: int) -> bytes:
    """Undo the ``Content-Encoding`` of a body; of a larger one, give a byte more than ``enough``.

    aiohttp would undo more codings than are asked for, some of them without bound, and of one
    that it does not know it would hide the status of the answer.

    :raises InvalidResponseError: the coding was not asked for, or the body is not a whole one
        in it (``incomplete`` is set).
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in CODINGS:
        raise InvalidResponseError(f"the body is encoded as {coding}, not as asked for")
    window = CODINGS[name]
    if name == "deflate" and body[:1] and body[0] & 15 != zlib.DEFLATED:
        window = -window  # without zlib's header, as some servers send it: RFC 9110, 8.4.1.2
    decoder = zlib.decompressobj(window)
    try:
        undone = decoder.decompress(body, enough + 1)
    except zlib.error as error:
        raise InvalidResponseError(f"the body is not {name}: {error}", incomplete=True) from None
    if len(undone) <= enough and (decoder.unused_data or not decoder.eof):
        raise InvalidResponseError(f"the {name} body does not end where it should", incomplete=True)
    return undone


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> MarketplaceError:
    """Give the error that an answer other than 200 means.

    ``headers`` are looked up without regard to case. ``now`` stands in for a missing ``Date``.
    """
    if 200 <= status < 300:
        return InvalidResponseError(f"HTTP {status}, where only 200 has a body to give")
    details = _details(body)
    if 300 <= status < 400:
        target = headers.get("Location", "nowhere")
        message = f"the server redirects to {target}; redirects are not followed"
    else:
        message = details.get("message", "")
    error = MEANINGS.get(status, ServerError if 500 <= status < 600 else ApiError)
    return error(
        status,
        message[:MESSAGE_CHARACTERS],
        details.get("code"),
        details.get("more_info"),
        headers.get("Twilio-Request-Id"),
        retry_after(headers, now),
        details.get("params"),
    )


def _details(body: bytes) -> dict[str, Any]:
    """Read what can be read of an error's body, whoever wrote it."""
    parsed = None
    # Deeper nesting than that could be read, but not always shown and pickled with the error.
    if body.count(b"{") + body.count(b"[") <= BRACKETS_MAX:
        with contextlib.suppress(ValueError):
            parsed = json.loads(body)
    found = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    details = {name: found[name] for name, kind in DETAILS.items() if type(found.get(name)) is kind}
    # A proxy's page or plain text: its beginning often says which machine spoke.
    return details or {"message": body[:MESSAGE_CHARACTERS].decode("utf-8", "replace").strip()}


# https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions
DETAILS: Final[dict[str, type[Any]]] = {
    "code": int,
    "message": str,
    "more_info": str,
    "params": dict,
}


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Give the seconds that ``Retry-After`` asks to wait, ``None`` if it asks for nothing.

    A date is measured against the answer's own ``Date``, so that a wrong clock here does no
    harm. What is in the past or cannot be read asks for nothing: RFC 9110, section 10.2.3.
    """
    value = headers.get("Retry-After", "").strip()
    if NUMBER_OF_SECONDS.fullmatch(value):
        seconds = float(value)
    elif (until := _date(value)) is not None:
        seconds = (until - (_date(headers.get("Date", "")) or now)).total_seconds()
    else:
        return None
    return seconds if 0 < seconds < math.inf else None


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
