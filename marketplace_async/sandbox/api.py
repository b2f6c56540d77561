"""The API without a server: method, path and query in; status, headers and body out."""

import re
from collections.abc import Mapping, Sequence
from http.client import responses
from typing import Any, Final, TypeVar

import attrs
import msgspec

from marketplace_async.models import PAGE_SIZE_MAX, Extension
from marketplace_async.sandbox.catalog import Catalog, CatalogEntry

__all__ = ["Response", "api_response", "error_response"]

T = TypeVar("T")

# https://www.twilio.com/docs/api/errors; the code of any other status is 20000 + status.
_CODES: Final = {400: 20001, 401: 20003, 403: 20003, 405: 20004}
_PATH: Final = re.compile(
    "/v1/AvailableAddOns(?:/([^/]+)(?:(/Extensions)(?:/([^/]+))?)?)?", re.DOTALL
)
_PAGE_SIZE: Final = 50
_WHOLE_NUMBER: Final = re.compile("[0-9]{1,18}")
# The page that starts (PA) or ends (PB) at this position of the list.
_PAGE_TOKEN: Final = re.compile("(PA|PB)([0-9]{1,18})")


@attrs.frozen
class Response:
    """A response before it is sent."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


def error_response(
    status: int,
    message: str | None = None,
    code: int | None = None,
    headers: Mapping[str, str] | None = None,
    retry_after: float | str | None = None,
) -> Response:
    """Return an error in Twilio's format.

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
    all_headers = dict(headers or {})
    if retry_after is not None:
        all_headers["Retry-After"] = str(retry_after)
    return Response(msgspec.json.encode(body), status, all_headers)


def api_response(
    catalog: Catalog, base_url: str, method: str, path: str, query: Mapping[str, str]
) -> Response:
    """Return the response to an authenticated request.

    ``path`` is decoded; ``base_url`` is the start of every URL in the response.
    """
    match = _PATH.fullmatch(path)
    if match is not None and method != "GET":
        return error_response(405, "Method not allowed", headers={"Allow": "GET"})
    try:
        url = f"{base_url}/v1/AvailableAddOns"
        body = _resource(catalog, url, query, *match.groups()) if match else None
    except _InvalidQueryError as error:
        return error_response(400, *error.args)
    if body is None:
        # Twilio's message names the path without the version of the API.
        resource = path.removeprefix("/v1")
        return error_response(404, f"The requested resource {resource} was not found")
    return Response(msgspec.json.encode(body))


class _InvalidQueryError(Exception):
    """The arguments are Twilio's message and error code."""


def _resource(
    catalog: Catalog,
    url: str,
    query: Mapping[str, str],
    add_on_sid: str | None,
    extensions: str | None,
    extension_sid: str | None,
) -> dict[str, Any] | None:
    if add_on_sid is None:
        entries, meta = _page(tuple(catalog.values()), query, url, "available_add_ons")
        return {"available_add_ons": [_add_on(entry, url) for entry in entries], "meta": meta}
    entry = catalog.get(add_on_sid)
    if entry is None:
        return None
    if extensions is None:
        return _add_on(entry, url)
    url = f"{url}/{add_on_sid}/Extensions"
    if extension_sid is None:
        items, meta = _page(entry.extensions, query, url, "extensions")
        return {"extensions": [_extension(item, url) for item in items], "meta": meta}
    extension = entry.extension(extension_sid)
    return None if extension is None else _extension(extension, url)


def _add_on(entry: CatalogEntry, list_url: str) -> dict[str, Any]:
    url = f"{list_url}/{entry.add_on.sid}"
    return {**entry.add_on.to_dict(), "url": url, "links": {"extensions": f"{url}/Extensions"}}


def _extension(extension: Extension, list_url: str) -> dict[str, Any]:
    return {**extension.to_dict(), "url": f"{list_url}/{extension.sid}"}


def _page(
    items: Sequence[T], query: Mapping[str, str], url: str, key: str
) -> tuple[Sequence[T], dict[str, Any]]:
    # https://www.twilio.com/docs/usage/twilios-response#pagination
    size = _whole_number(query, "PageSize", _PAGE_SIZE)
    if size == 0:
        raise _InvalidQueryError("PageSize must be at least 1", 20001)
    if size > PAGE_SIZE_MAX:
        raise _InvalidQueryError("Page size too large", 20007)  # .../docs/api/errors/20007
    page = _whole_number(query, "Page", 0)
    token = query.get("PageToken")
    if token is None and page > 0:
        # https://github.com/twilio/twilio-python/issues/395
        raise _InvalidQueryError("PageToken is required for paging.", 20001)
    match = _PAGE_TOKEN.fullmatch("PA0" if token is None else token)
    if match is None:
        raise _InvalidQueryError("Invalid PageToken", 21481)  # .../docs/api/errors/21481
    position = int(match[2])
    start = position if match[1] == "PA" else max(0, position - size)
    stop = position + size if match[1] == "PA" else position

    def page_url(page: int, token: str | None) -> str:
        return f"{url}?PageSize={size}&Page={page}" + (f"&PageToken={token}" if token else "")

    return items[start:stop], {
        "page": page,
        "page_size": size,
        "first_page_url": page_url(0, None),
        "previous_page_url": page_url(max(0, page - 1), f"PB{start}") if start > 0 else None,
        "url": page_url(page, token),
        "next_page_url": page_url(page + 1, f"PA{stop}") if stop < len(items) else None,
        "key": key,
    }


def _whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE_NUMBER.fullmatch(text):
        raise _InvalidQueryError(f"{name} must be a whole number", 20001)
    return int(text)
