"""The resources of the Marketplace API as frozen attrs classes, hashable and picklable."""

import gc
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

__all__ = ["NESTING_MAX", "PAGE_SIZE_MAX", "AvailableAddOn", "Extension", "PageMeta", "is_too_deep"]

PAGE_SIZE_MAX: Final = 1000
"""The largest page size: https://www.twilio.com/docs/usage/twilios-response#pagination"""

NESTING_MAX: Final = 64
"""The most levels of objects and arrays in a value of any JSON type."""


def is_too_deep(*values: object) -> bool:
    """Check whether any of these JSON values has more than 64 levels of objects and arrays."""
    level: Sequence[object] = values
    for _ in range(NESTING_MAX):
        # The members of all dicts and lists in one call: a page may hold 1000 schemas.
        level = gc.get_referents(*level)
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


@attrs.frozen
class _Model:
    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a new dict that can be written as JSON."""
        return attrs.asdict(self)


@attrs.frozen
class Extension(_Model):
    """A feature of a Twilio product that an Add-on can be used in.

    https://www.twilio.com/docs/marketplace/api/available-add-ons/extensions-subresource
    """

    sid: str
    """The SID of the Extension, ``XF`` and 32 hexadecimal digits."""
    available_add_on_sid: str
    """The SID of its Available Add-on, ``XB`` and 32 hexadecimal digits."""
    friendly_name: str | None = None
    """A name for people, such as ``Incoming Voice Call``."""
    product_name: str | None = None
    """The Twilio product, such as ``Programmable Voice``."""
    unique_name: str | None = None
    """A name for programs, such as ``voice-incoming``."""
    url: str | None = None
    """The absolute URL of this resource."""


@attrs.frozen
class AvailableAddOn(_Model):
    """An Add-on that can be installed; it is in General Availability or Beta.

    https://www.twilio.com/docs/marketplace/api/available-add-ons
    """

    sid: str
    """The SID of the Available Add-on, ``XB`` and 32 hexadecimal digits."""
    friendly_name: str | None = None
    """A name for people."""
    description: str | None = None
    """What the Add-on does, in a sentence or two."""
    pricing_type: str | None = None
    """How its use is charged, such as ``per minute``."""
    configuration_schema: Any = attrs.field(default=None, hash=False)
    """The JSON Schema of the configuration that is needed to install it, or any other JSON."""
    url: str | None = None
    """The absolute URL of this resource."""
    links: Mapping[str, str | None] | None = attrs.field(default=None, hash=False)
    """The URLs of related resources by name, such as ``extensions``."""


@attrs.frozen
class PageMeta(_Model):
    """The position of a page in its listing.

    https://www.twilio.com/docs/usage/twilios-response#pagination
    """

    page: int | None = None
    """The index of this page, from 0."""
    page_size: int | None = None
    """The requested number of items, 1 to 1000; the page may hold fewer."""
    first_page_url: str | None = None
    """The absolute URL of the first page."""
    previous_page_url: str | None = None
    """The absolute URL of the previous page; ``None`` on the first page."""
    url: str | None = None
    """The absolute URL of this page."""
    next_page_url: str | None = None
    """The absolute URL of the next page; ``None`` on the last page."""
    key: str | None = None
    """The name of the field of the response that holds the items."""
