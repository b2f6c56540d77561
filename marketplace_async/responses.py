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

    ``headers`` must ignore case. ``now`` replaces a missing ``Date`` header. The body's fields are
    those of Twilio's errors, or of RFC 9457 ("problem details"):
    https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions
    """
    if 200 <= status < 300:
        return InvalidResponseError(f"unexpected status: HTTP {status}")
    fields = _object(body)
    title, detail = _first(fields, str, "title"), _first(fields, str, "detail")
    message = _first(fields, str, "message") or ": ".join(filter(None, (title, detail)))
    if 300 <= status < 400:
        target = headers.get("Location", "nowhere")
        message = f"the server redirects to {target}; redirects are not followed"
    code: Any = fields.get("code")
    if isinstance(code, str) and NUMBER.fullmatch(code):
        code = int(code)
    more_info = _first(fields, str, "more_info", "type")
    params = _first(fields, dict, "params", "details")
    kind = CLASSES.get(status, ServerError if 500 <= status < 600 else ApiError)
    return kind(
        status,
        (message or excerpt(body))[:MESSAGE_CHARACTERS],
        code if type(code) is int else None,  # bool is a subclass of int
        more_info if (more_info or "").startswith(("https://", "http://")) else None,
        headers.get("Twilio-Request-Id"),
        retry_after(headers, now),
        None if is_too_deep(params) else params,
    )


def _object(body: bytes) -> dict[str, Any]:
    # json.loads raises RecursionError for a body that is nested too deeply.
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(body)
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
    return {}


def _first(fields: Mapping[str, Any], kind: type[Any], *names: str) -> Any:
    values = (fields.get(name) for name in names)
    return next((value for value in values if isinstance(value, kind)), None)


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
