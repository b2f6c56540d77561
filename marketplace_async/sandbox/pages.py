"""Which items a list request asks for, and the ``meta`` of the page that holds them.

https://www.twilio.com/docs/usage/twilios-response#pagination
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

__all__ = ["BadPageError", "cut_page"]

_DEFAULT_SIZE: Final = 50
_LARGEST_SIZE: Final = 1000

# A token says from which item on (PA) or up to which item (PB) its page reaches, in a way
# that only this module can read and that holds for one listing alone. It needs no memory and
# no secret: the same position has the same token in every sandbox.
_AFTER: Final = "PA"
_BEFORE: Final = "PB"
_TOKEN: Final = re.compile("(PA|PB)([0-9a-f]{16})([0-9a-f]{16})")
_WHOLE_NUMBER: Final = re.compile("[0-9]{1,18}")


class BadPageError(Exception):
    """No page is where the query points to; the arguments are Twilio's message and error code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code


def cut_page(
    query: Mapping[str, str], total: int, url: str, key: str
) -> tuple[range, dict[str, Any]]:
    """Give the indices of the items that a query asks for, and the ``meta`` that describes them.

    ``total`` is how many items the listing has, ``url`` its address without a query.

    :raises BadPageError: the query's ``PageSize``, ``Page`` or ``PageToken`` is not valid.
    """
    size = _page_size(query.get("PageSize"))
    page = _whole_number(query.get("Page", "0"), "Page")
    token = query.get("PageToken")
    listing = url.partition("://")[2].partition("/")[2]  # the same behind another address
    if token is not None:
        direction, position = _read(token, listing)
        start = position if direction == _AFTER else max(0, position - size)
        stop = min(start + size if direction == _AFTER else position, total)
    elif page == 0:
        start, stop = 0, min(size, total)
    else:
        # https://github.com/twilio/twilio-python/issues/395
        raise BadPageError("PageToken is required for paging.", 20001)

    def page_url(page: int, token: str | None) -> str:
        pointer = "" if token is None else f"&PageToken={token}"
        return f"{url}?PageSize={size}&Page={page}{pointer}"

    return range(start, stop), {
        "page": page,
        "page_size": size,
        "first_page_url": page_url(0, None),
        "previous_page_url": (
            page_url(max(0, page - 1), _token(_BEFORE, start, listing)) if start > 0 else None
        ),
        "url": page_url(page, token),
        "next_page_url": (
            page_url(page + 1, _token(_AFTER, stop, listing)) if stop < total else None
        ),
        "key": key,
    }


def _page_size(given: str | None) -> int:
    if given is None:
        return _DEFAULT_SIZE
    size = _whole_number(given, "PageSize")
    if size == 0:
        raise BadPageError("PageSize must be at least 1", 20001)
    if size > _LARGEST_SIZE:
        raise BadPageError("Page size too large", 20007)  # .../docs/api/errors/20007
    return size


def _whole_number(given: str, name: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(given):
        raise BadPageError(f"{name} must be a whole number", 20001)
    return int(given)


def _token(direction: str, position: int, listing: str) -> str:
    seal = _digest(f"{direction}{position} {listing}".encode())
    hidden = int.from_bytes(_digest(seal)) ^ position
    return f"{direction}{seal.hex()}{hidden:016x}"


def _read(token: str, listing: str) -> tuple[str, int]:
    if match := _TOKEN.fullmatch(token):
        direction, seal, hidden = match.groups()
        position = int(hidden, 16) ^ int.from_bytes(_digest(bytes.fromhex(seal)))
        if token == _token(direction, position, listing):
            return direction, position
    raise BadPageError("Invalid PageToken", 21481)  # .../docs/api/errors/21481


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8, person=b"PageToken").digest()
