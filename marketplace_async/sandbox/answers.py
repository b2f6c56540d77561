"""What the API answers to a request, decided from values alone: no sockets, no waiting.

A path and a query go in; a status, headers and a body come out, in the words and with the
error codes of Twilio's own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from http.client import responses
from typing import Any, Final, TypeVar

import attrs
import msgspec

from marketplace_async.models import Extension
from marketplace_async.sandbox.catalog import Catalog, CatalogEntry
from marketplace_async.sandbox.pages import BadPageError, cut_page

__all__ = ["Answer", "Api", "error_answer"]

T = TypeVar("T")

# https://www.twilio.com/docs/api/errors; the code of any other status is 20000 more.
_CODES: Final = {400: 20001, 401: 20003, 403: 20003, 405: 20004}

_RESOURCE: Final = re.compile(
    "/v1/AvailableAddOns(?:/([^/]+)(?:(/Extensions)(?:/([^/]+))?)?)?", re.DOTALL
)


@attrs.frozen
class Answer:
    """A response that is still to be sent."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


def error_answer(
    status: int,
    message: str | None = None,
    code: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Give an error as Twilio words it.

    https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions
    """
    if code is None:
        code = _CODES.get(status, 20000 + status)
    body = {
        "code": code,
        "message": responses.get(status, "Unknown error") if message is None else message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Answer(msgspec.json.encode(body), status, headers or {})


class Api:
    """The four resources over one catalogue, under the address that its URLs begin with."""

    def __init__(self, catalog: Catalog, base_url: str) -> None:
        self._catalog = catalog
        self._entries = tuple(catalog.values())
        self._root = f"{base_url}/v1/AvailableAddOns"

    def answer(self, method: str, path: str, query: Mapping[str, str]) -> Answer:
        """Answer a request whose credentials were accepted; ``path`` is decoded."""
        match = _RESOURCE.fullmatch(path)
        if match is None:
            return _not_found(path)
        if method != "GET":
            return error_answer(405, "Method not allowed", headers={"Allow": "GET"})
        add_on_sid, extensions, extension_sid = match.groups()
        if add_on_sid is None:
            return _page(self._entries, self._add_on, query, self._root, "available_add_ons")
        entry = self._catalog.get(add_on_sid)
        if entry is None:
            return _not_found(path)
        if extensions is None:
            return Answer(msgspec.json.encode(self._add_on(entry)))
        url = f"{self._root}/{add_on_sid}/Extensions"
        if extension_sid is None:
            return _page(
                entry.extensions, lambda item: _extension(item, url), query, url, "extensions"
            )
        extension = entry.extension(extension_sid)
        if extension is None:
            return _not_found(path)
        return Answer(msgspec.json.encode(_extension(extension, url)))

    def _add_on(self, entry: CatalogEntry) -> dict[str, Any]:
        add_on = entry.add_on
        url = f"{self._root}/{add_on.sid}"
        return {
            "sid": add_on.sid,
            "friendly_name": add_on.friendly_name,
            "description": add_on.description,
            "pricing_type": add_on.pricing_type,
            "configuration_schema": add_on.configuration_schema,
            "url": url,
            "links": {"extensions": f"{url}/Extensions"},
        }


def _extension(extension: Extension, listing_url: str) -> dict[str, Any]:
    return {
        "sid": extension.sid,
        "available_add_on_sid": extension.available_add_on_sid,
        "friendly_name": extension.friendly_name,
        "product_name": extension.product_name,
        "unique_name": extension.unique_name,
        "url": f"{listing_url}/{extension.sid}",
    }


def _page(
    items: Sequence[T],
    presented: Callable[[T], dict[str, Any]],
    query: Mapping[str, str],
    url: str,
    key: str,
) -> Answer:
    try:
        indices, meta = cut_page(query, len(items), url, key)
    except BadPageError as error:
        return error_answer(400, error.message, error.code)
    # Item by item: a sequence made on demand need not know slices.
    return Answer(msgspec.json.encode({key: [presented(items[i]) for i in indices], "meta": meta}))


def _not_found(path: str) -> Answer:
    # Twilio names the resource without the version of the API.
    return error_answer(404, f"The requested resource {path.removeprefix('/v1')} was not found")
