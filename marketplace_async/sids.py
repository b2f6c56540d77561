"""Twilio's string identifiers (SIDs): which strings are one, and of what."""

import re
from typing import Final

from marketplace_async.errors import InvalidSidError

__all__ = ["available_add_on_sid", "extension_sid"]

# Both patterns: https://www.twilio.com/docs/marketplace/api/available-add-ons
# and .../available-add-ons/extensions-subresource
AVAILABLE_ADD_ON: Final = re.compile("XB[0-9a-fA-F]{32}")
EXTENSION: Final = re.compile("XF[0-9a-fA-F]{32}")


def available_add_on_sid(given: object) -> str:
    """Give back ``given`` if it is the SID of an Available Add-on (``XB…``).

    :raises InvalidSidError: it is anything else.
    """
    return _checked(given, AVAILABLE_ADD_ON, "an Available Add-on")


def extension_sid(given: object) -> str:
    """Give back ``given`` if it is the SID of an Extension (``XF…``).

    :raises InvalidSidError: it is anything else.
    """
    return _checked(given, EXTENSION, "an Extension")


def _checked(given: object, pattern: re.Pattern[str], of: str) -> str:
    if isinstance(given, str) and (match := pattern.fullmatch(given)):
        return match[0]  # a plain string: a subclass may show itself as anything in a URL
    raise InvalidSidError(given, of, pattern.pattern)
