"""Errors from the status, headers and body of a response. Pure functions, without a clock."""

import contextlib
import json
import math
import re
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
    excerpt,
)
from marketplace_async.models import is_too_deep

__all__ = ["error_from", "retry_after"]

CLASSES: Final[Mapping[int, type[ApiError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
NUMBER_OF_SECONDS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
NUMBER: Final = re.compile("[0-9]{1,9}")
MESSAGE_CHARACTERS: Final = 2_000


def error_from(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> MarketplaceError:
    """Return the error for a response whose status is not the expected one.

    ``headers`` must ignore case. ``now`` replaces a missing ``Date`` header.
    """
    if 200 <= status < 300:
        return InvalidResponseError(f"unexpected status: HTTP {status}")
    fields = _object(body)
    if 300 <= status < 400:
        target = headers.get("Location", "nowhere")
        message = f"the server redirects to {target}; redirects are not followed"
    else:
        message = _message(fields) or excerpt(body)
    kind = CLASSES.get(status, ServerError if 500 <= status < 600 else ApiError)
    return kind(
        status,
        message[:MESSAGE_CHARACTERS],
        _code(fields),
        _more_info(fields),
        headers.get("Twilio-Request-Id"),
        retry_after(headers, now),
        _params(fields),
    )


# The names of Twilio's errors, and those of RFC 9457 ("problem details"):
# https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions


def _object(body: bytes) -> dict[str, Any]:
    # json.loads raises RecursionError for a body that is nested too deeply.
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(body)
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
    return {}


def _message(fields: Mapping[str, Any]) -> str:
    texts = [fields.get(name) for name in ("message", "title", "detail")]
    message, title, detail = (text if isinstance(text, str) else "" for text in texts)
    return message or ": ".join(filter(None, (title, detail)))


def _code(fields: Mapping[str, Any]) -> int | None:
    code = fields.get("code")
    if isinstance(code, str) and NUMBER.fullmatch(code):
        return int(code)
    return code if type(code) is int else None  # bool is a subclass of int


def _more_info(fields: Mapping[str, Any]) -> str | None:
    for name in ("more_info", "type"):
        url = fields.get(name)
        if isinstance(url, str) and url.startswith(("https://", "http://")):
            return url
    return None


def _params(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    for name in ("params", "details"):
        params: Any = fields.get(name)
        if isinstance(params, dict) and not is_too_deep(cast("object", params)):
            return cast("dict[str, Any]", params)
    return None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait from ``Retry-After``; ``None`` without a wait.

    A date is compared to the response's own ``Date``, so a wrong local clock does not matter.
    A date in the past and an invalid value mean no wait: RFC 9110, section 10.2.3.
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
