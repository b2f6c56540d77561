"""The resources of the Marketplace API as frozen, slotted attrs classes.

They know nothing of JSON or HTTP; `marketplace_async.conversion` makes them from
responses and turns them back. Fields that the API may leave empty are ``None`` then.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from marketplace_async.validation import is_64_bit_whole_number

__all__ = ["PAGE_SIZE_MAX", "AvailableAddOn", "Extension", "PageMeta"]

PAGE_SIZE_MAX: Final = 1000
"""The most items that a page holds: https://www.twilio.com/docs/usage/twilios-response#pagination"""


@attrs.frozen
class Extension:
    """A feature of a Twilio product in which an Add-on can be used.

    https://www.twilio.com/docs/marketplace/api/available-add-ons/extensions-subresource
    """

    sid: str
    """The SID of this extension, ``XF`` and 32 hexadecimal digits."""

    available_add_on_sid: str
    """The SID of the Available Add-on it belongs to, ``XB`` and 32 hexadecimal digits."""

    friendly_name: str | None = None
    """A name for people, such as ``Incoming Voice Call``."""

    product_name: str | None = None
    """The Twilio product this extension is used within, such as ``Programmable Voice``."""

    unique_name: str | None = None
    """A name for programs, such as ``voice-incoming``."""

    url: str | None = None
    """The absolute URL of this resource."""


@attrs.frozen
class AvailableAddOn:
    """An Add-on listing that can be installed; it is in General Availability or Beta.

    https://www.twilio.com/docs/marketplace/api/available-add-ons
    """

    sid: str
    """The SID of this listing, ``XB`` and 32 hexadecimal digits."""

    friendly_name: str | None = None
    """A name for people."""

    description: str | None = None
    """What the Add-on does, in a sentence or two."""

    pricing_type: str | None = None
    """How its use is charged, such as ``per minute``."""

    configuration_schema: Mapping[str, Any] | None = None
    """The JSON Schema of the configuration that installing it asks for."""

    url: str | None = None
    """The absolute URL of this resource."""

    links: Mapping[str, str] | None = None
    """The URLs of related resources by name; ``extensions`` is one."""


@attrs.frozen
class PageMeta:
    """Where a page of a listing stands among its neighbours.

    https://www.twilio.com/docs/usage/twilios-response#pagination
    """

    page: int = attrs.field(validator=is_64_bit_whole_number)
    """The index of this page, from 0; for information only."""

    page_size: int = attrs.field(validator=is_64_bit_whole_number)
    """How many items were asked for, 1 to 1000; the page may hold fewer."""

    first_page_url: str
    """The absolute URL of the first page."""

    previous_page_url: str | None
    """The absolute URL of the page before, ``None`` on the first."""

    url: str
    """The absolute URL of this page."""

    next_page_url: str | None
    """The absolute URL of the page after, ``None`` on the last."""

    key: str
    """The name of the field of the response that holds the items."""
