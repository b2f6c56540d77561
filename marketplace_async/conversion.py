"""JSON bytes to models, strictly typed: one cattrs converter, which reads bytes with msgspec.

Most responses are converted in a single pass of msgspec, which reads attrs classes and never
coerces a value. If that pass raises, cattrs converts the same bytes item by item: it tolerates
an irregular ``meta``, fills in fields that the caller knows, and names the wrong field.
"""

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
from marketplace_async.models import (
    NESTING_MAX,
    AvailableAddOn,
    Extension,
    PageMeta,
    is_too_deep,
)

__all__ = ["read_model", "read_page"]

T = TypeVar("T")

logger: Final = logging.getLogger("marketplace_async")

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
TOO_DEEP: Final = f"nested more than {NESTING_MAX} levels"
JSON_TYPES: Final[Mapping[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    type(None): "null",
}


class _Converter(MsgspecJsonConverter):
    def get_loads_hook(self, cl: type[T]) -> Callable[[bytes], T]:
        return msgspec.json.Decoder(cl).decode


converter: Final = _Converter(detailed_validation=True)


def _require_type(expected: type[Any], value: Any) -> Any:
    # Not isinstance(): a bool is no integer here.
    if type(value) is not expected:
        raise TypeError(f"expected {JSON_TYPES[expected]}, got {JSON_TYPES[type(value)]}")
    return value


# Without these hooks, cattrs would coerce: str(None) is 'None', int('1') is 1.
converter.register_structure_hook(str, lambda value, _: _require_type(str, value))
converter.register_structure_hook(int, lambda value, _: _require_type(int, value))


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
LOADS: Final[Mapping[Any, Callable[[bytes], Any]]] = {
    cl: converter.get_loads_hook(cl) for cl in (*PAGES, *PAGES.values())
}
FIELDS_OF_ANY_JSON: Final[Mapping[Any, list[str]]] = {
    model: [field.name for field in attrs.fields(model) if field.type is Any] for model in PAGES
}


def read_model(model: type[T], data: bytes, known: Mapping[str, str] = NOTHING) -> T:
    """Return the ``model`` whose JSON object is ``data``.

    ``known`` holds values for required fields that are missing or null in the response.

    :raises InvalidResponseError: the body is not JSON, or a field is missing or of a wrong type.
    """
    found: T | None = _decode(model, data)
    if found is None or _has_deep_field(model, found):
        return _structure(model, _parse(data), known, "$")
    return found


def read_page(
    model: type[T],
    data: bytes,
    known: Mapping[str, str] = NOTHING,
    *,
    skip_invalid: bool = False,
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
    if page is None or _has_deep_field(model, *getattr(page, key)):
        items, meta = _structure_page(model, key, _parse(data), known, skip_invalid=skip_invalid)
    else:
        items, meta = getattr(page, key), page.meta
    if meta.next_page_url == "":
        meta = attrs.evolve(meta, next_page_url=None)
    return items, meta


def _decode(cl: type[Any], data: bytes) -> Any:
    try:
        return LOADS[cl](data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _parse(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise InvalidResponseError(f"the body is {TOO_DEEP}") from None
    except UnicodeDecodeError:
        raise InvalidResponseError(f"the body is not UTF-8: {excerpt(data)}") from None
    except msgspec.DecodeError as error:
        if not data.strip():
            raise InvalidResponseError("the body is empty", retryable=True) from None
        detail = str(error).removeprefix("JSON is malformed: ")
        if detail.endswith(("truncated", f"(byte {len(data)})")):
            if _is_open(data):
                problem = f"the JSON ends early, after {len(data)} bytes"
                raise InvalidResponseError(problem, retryable=True) from None
            detail = "malformed near the end"
        raise InvalidResponseError(
            f"the body is not valid JSON, {detail}: {excerpt(data)}"
        ) from None


def _is_open(data: bytes) -> bool:
    """Check whether an object or array is still open at the end.

    msgspec reports "truncated" for a malformed value near the end too, such as a lone surrogate.
    """
    rest = STRING.sub(b"", data)
    return rest.count(b"{") + rest.count(b"[") > rest.count(b"}") + rest.count(b"]")


def _structure(model: type[T], value: Any, known: Mapping[str, str], path: str) -> T:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        members |= {name: known[name] for name in known if members.get(name) is None}
    try:
        found = converter.structure(value, model)
    except (BaseValidationError, TypeError) as error:
        problem, _, field = transform_error(error, path, _describe)[0].partition(" @ ")
        raise InvalidResponseError(problem, field) from None
    for name in FIELDS_OF_ANY_JSON[model]:
        if is_too_deep(getattr(found, name)):
            raise InvalidResponseError(TOO_DEEP, f"{path}.{name}")
    return found


def _structure_page(
    model: type[T], key: str, page: Any, known: Mapping[str, str], *, skip_invalid: bool
) -> tuple[tuple[T, ...], PageMeta]:
    try:
        _require_type(dict, page)
    except TypeError as error:
        raise InvalidResponseError(str(error), "$") from None
    meta = _structure_meta(_member(page, "meta", dict))
    items: list[T] = []
    first: InvalidResponseError | None = None
    for index, value in enumerate(_member(page, key, list)):
        try:
            items.append(_structure(model, value, known, f"$.{key}[{index}]"))
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
    meta: dict[str, Any] = {}
    for field in attrs.fields(PageMeta):
        kind: Any = field.type
        try:
            meta[field.name] = converter.structure(fields.get(field.name), kind)
        except TypeError as error:
            if field.name == "next_page_url":
                raise InvalidResponseError(str(error), "$.meta.next_page_url") from None
    return PageMeta(**meta)


def _member(value: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    try:
        return _require_type(kind, value[name])
    except (KeyError, TypeError) as error:
        raise InvalidResponseError(_describe(error), f"$.{name}") from None


def _describe(error: BaseException, _: object = None) -> str:
    return "missing" if isinstance(error, KeyError) else str(error)


def _has_deep_field(model: type[Any], *items: Any) -> bool:
    fields = FIELDS_OF_ANY_JSON[model]
    return bool(fields) and any(is_too_deep(*map(attrgetter(name), items)) for name in fields)
