"""SIDs, Twilio's identifiers: a prefix for the kind of resource and 32 hexadecimal digits."""

import re
from typing import Final

from marketplace_async.errors import InvalidSidError

__all__ = ["require_sid"]

# https://www.twilio.com/docs/marketplace/api/available-add-ons
RESOURCES: Final = {
    "XB": "an Available Add-on",
    "XF": "an Extension",
}
PATTERNS: Final = {prefix: re.compile(f"{prefix}[0-9a-fA-F]{{32}}") for prefix in RESOURCES}


def require_sid(prefix: str, value: object) -> str:
    """Return the SID with this prefix, ``XB`` or ``XF``, that ``value`` is or has.

    ``value`` is a SID, or a model or handle with the attribute ``sid``.

    :raises InvalidSidError: it is anything else.
    """
    pattern = PATTERNS[prefix]
    sid: object = getattr(value, "sid", value)
    if isinstance(sid, str) and (match := pattern.fullmatch(sid)):
        return match[0]  # a plain str: a member of a (str, Enum) formats as its name
    raise InvalidSidError(sid, RESOURCES[prefix], pattern.pattern)
