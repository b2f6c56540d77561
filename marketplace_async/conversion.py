"""JSON bytes to models, strictly typed: one cattrs converter, which reads bytes with msgspec.

Most responses are converted in a single pass of msgspec, which reads attrs classes and never
coerces a value. If that pass raises, cattrs converts the same bytes item by item: it tolerates
an irregular ``meta``, fills in fields that the caller knows, and names the wrong field.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import attrs
import msgspec
from cattrs import BaseValidationError, Converter, transform_error
from cattrs.cols import is_mapping
from cattrs.preconf.msgspec import MsgspecJsonConverter

from marketplace_async.errors import InvalidItemError, InvalidResponseError, excerpt
from marketplace_async.models import NESTING_MAX, AvailableAddOn, Extension, PageMeta, is_too_deep

__all__ = ["read_model", "read_page"]

T = TypeVar("T")

logger: Final = logging.getLogger("marketplace_async")

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
SCHEMA: Final = attrgetter("configuration_schema")
STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
JSON_TYPES: Final[Mapping[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    type(None): "null",
}

converter: Final = MsgspecJsonConverter()


def _require_type(expected: type[Any], value: Any) -> Any:
    # Not isinstance(): a bool is no integer here.
    if type(value) is not expected:
        raise TypeError(f"expected {JSON_TYPES[expected]}, got {JSON_TYPES[type(value)]}")
    return value


# Without these hooks, cattrs would coerce: str(None) is 'None', int('1') is 1.
for _kind in (str, int, dict, list):
    converter.register_structure_hook(_kind, lambda value, cl: _require_type(cl, value))


@converter.register_structure_hook_factory(lambda cl: attrs.has(cl) or is_mapping(cl))
def _structure_object(cl: Any, of: Converter) -> Callable[[Any, Any], Any]:
    generate = of.gen_structure_mapping if is_mapping(cl) else of.gen_structure_attrs_fromdict
    structure = generate(cl)
    return lambda value, _: structure(_require_type(dict, value), cl)


@attrs.frozen
class _ExtensionPage:
    extensions: tuple[Extension, ...]
    meta: PageMeta


@attrs.frozen
class _AvailableAddOnPage:
    available_add_ons: tuple[AvailableAddOn, ...]
    meta: PageMeta


PAGES: Final[Mapping[Any, type[Any]]] = {
    Extension: _ExtensionPage,
    AvailableAddOn: _AvailableAddOnPage,
}
DECODERS: Final[Mapping[Any, Callable[[bytes], Any]]] = {
    cl: msgspec.json.Decoder(cl).decode for cl in (*PAGES, *PAGES.values())
}


def read_model(model: type[T], data: bytes, known: Mapping[str, str] = NOTHING) -> T:
    """Return the ``model`` whose JSON object is ``data``.

    ``known`` holds values for required fields that are missing or null in the response.

    :raises InvalidResponseError: the body is not JSON, or a field is missing or of a wrong type.
    """
    found: T | None = _decode(model, data)
    if found is None or _is_too_deep(model, found):
        return _structure_item(model, _parse(data), known, "$")
    return found


def read_page(
    model: type[T], data: bytes, known: Mapping[str, str] = NOTHING, *, skip_invalid: bool = False
) -> tuple[tuple[T, ...], PageMeta]:
    """Return the items and the meta of the page whose JSON object is ``data``.

    ``known`` holds values for required fields that are missing or null in an item. Of ``meta``,
    only a wrong ``next_page_url`` is an error; other wrong fields are ``None``.

    :raises InvalidItemError: an item is invalid. With ``skip_invalid``, it is skipped instead,
        and a warning is logged.
    :raises InvalidResponseError: the body is not JSON or not a page.
    """
    key = attrs.fields(PAGES[model])[0].name
    page = _decode(PAGES[model], data)
    if page is None or _is_too_deep(model, *getattr(page, key)):
        items, meta = _structure_page(model, key, _parse(data), known, skip_invalid=skip_invalid)
    else:
        items, meta = getattr(page, key), page.meta
    if meta.next_page_url == "":
        meta = attrs.evolve(meta, next_page_url=None)
    return items, meta


def _decode(cl: type[Any], data: bytes) -> Any:
    try:
        return DECODERS[cl](data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_too_deep(model: type[Any], *items: Any) -> bool:
    return model is AvailableAddOn and is_too_deep(*map(SCHEMA, items))


def _parse(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise InvalidResponseError("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = str(error).removeprefix("JSON is malformed: ")
    if not data.strip():
        raise InvalidResponseError("the body is empty", retryable=True)
    if detail.endswith(("truncated", f"(byte {len(data)})")):
        # Also said of malformed values near the end, such as lone surrogates. What is open is cut.
        rest = STRING.sub(b"", data)
        if rest.count(b"{") + rest.count(b"[") > rest.count(b"}") + rest.count(b"]"):
            problem = f"the JSON ends early, after {len(data)} bytes"
            raise InvalidResponseError(problem, retryable=True)
        detail = "malformed near the end"
    raise InvalidResponseError(f"the body is not valid JSON, {detail}: {excerpt(data)}")


def _structure(cl: Any, value: Any, path: str) -> Any:
    try:
        return converter.structure(value, cl)
    except (BaseValidationError, TypeError) as error:
        problem, _, field = transform_error(error, path, _describe)[0].partition(" @ ")
        raise InvalidResponseError(problem, field) from None


def _describe(error: BaseException, _: object) -> str:
    return "missing" if isinstance(error, KeyError) else str(error)


def _structure_item(model: type[T], value: Any, known: Mapping[str, str], path: str) -> T:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        members |= {name: known[name] for name in known if members.get(name) is None}
    item: T = _structure(model, value, path)
    if _is_too_deep(model, item):
        problem = f"nested more than {NESTING_MAX} levels"
        raise InvalidResponseError(problem, f"{path}.configuration_schema")
    return item


def _structure_page(
    model: type[T], key: str, page: Any, known: Mapping[str, str], *, skip_invalid: bool
) -> tuple[tuple[T, ...], PageMeta]:
    _structure(dict, page, "$")
    for name in (key, "meta"):
        if name not in page:
            raise InvalidResponseError("missing", f"$.{name}")
    meta = _structure_meta(_structure(dict, page["meta"], "$.meta"))
    items: list[T] = []
    first: InvalidResponseError | None = None
    for index, value in enumerate(_structure(list, page[key], f"$.{key}")):
        try:
            items.append(_structure_item(model, value, known, f"$.{key}[{index}]"))
        except InvalidResponseError as error:
            sid = cast("dict[str, Any]", value).get("sid") if isinstance(value, dict) else None
            problem = f"{error.problem} (item {sid})" if isinstance(sid, str) else error.problem
            wrong = InvalidResponseError(problem, error.field)
            first = first or wrong
            if skip_invalid:
                extra = {"index": index, "sid": sid, "field": error.field}
                logger.warning("skipped an invalid item: %s", wrong.reason(), extra=extra)
    if first is not None and not skip_invalid:
        next_page_url = meta.next_page_url or None
        raise InvalidItemError(first.problem, first.field, tuple(items), next_page_url)
    return tuple(items), meta


def _structure_meta(fields: Mapping[str, Any]) -> PageMeta:
    _structure(str | None, fields.get("next_page_url"), "$.meta.next_page_url")
    meta: dict[str, Any] = {}
    for field in attrs.fields(PageMeta):
        cl: Any = field.type
        with contextlib.suppress(TypeError):
            meta[field.name] = converter.structure(fields.get(field.name), cl)
    return PageMeta(**meta)
