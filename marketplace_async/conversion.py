"""JSON bytes to models, strictly, and models back to plain data: the one converter.

It is a cattrs converter on msgspec. Good bytes become models in a single pass of msgspec,
which reads attrs classes and coerces nothing. Only when that pass refuses them does cattrs
go over the same bytes once more, in detail, to name every field that is wrong.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import attrgetter
from types import GenericAlias
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args

import attrs
import msgspec
from cattrs import (
    BaseValidationError,
    IterableValidationError,
    IterableValidationNote,
    transform_error,
)
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.msgspec import MsgspecJsonConverter, configure_converter

from marketplace_async.errors import InvalidResponseError
from marketplace_async.models import PAGE_SIZE_MAX, PageMeta

__all__ = ["converter", "page_structurer", "structurer"]

T = TypeVar("T")

ENOUGH_ERRORS: Final = 20
LARGE: Final = 1024 * 1024
UNEXPECTED: Final = "the body has an unexpected shape"


class _Converter(MsgspecJsonConverter):
    def get_loads_hook(self, cl: type[T], **_: Any) -> Callable[[bytes], T]:
        return msgspec.json.Decoder(cl).decode


converter: Final = _Converter(detailed_validation=True)
"""Gives the way from bytes with ``get_loads_hook`` and plain data with ``unstructure``."""

configure_converter(converter)

_JSON_NAMES: Final[dict[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    type(None): "null",
}


def _exactly(expected: type[Any], value: Any, _: Any) -> Any:
    # cattrs would call the type on the value: str(None) is 'None', bool('false') is True.
    if type(value) is not expected:
        raise TypeError(f"expected {_JSON_NAMES[expected]}, got {_JSON_NAMES[type(value)]}")
    return value


for _scalar in (str, int, float, bool):
    converter.register_structure_hook(_scalar, partial(_exactly, _scalar))


@converter.register_structure_hook_factory(attrs.has)
def _from_an_object(cl: type[Any]) -> Callable[[Any, Any], Any]:
    from_dict = make_dict_structure_fn(cl, converter)
    return lambda value, _: from_dict(_exactly(dict, value, cl), cl)


def _origin(cl: Any) -> Any:
    return getattr(cl, "__origin__", None)


@converter.register_structure_hook_factory(lambda cl: _origin(cl) is tuple)
def _from_an_array(cl: Any) -> Callable[[Any, Any], Any]:
    item_type = get_args(cl)[0]

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        items: list[Any] = _exactly(list, value, cl)
        if len(items) > PAGE_SIZE_MAX:
            raise ValueError(f"expected at most {PAGE_SIZE_MAX} items, got {len(items)}")
        return tuple(_each(enumerate(items), item_type).values())

    return structure


@converter.register_structure_hook_factory(lambda cl: _origin(cl) is Mapping)
def _from_an_object_of_any_names(cl: Any) -> Callable[[Any, Any], Any]:
    value_type = get_args(cl)[1]
    return lambda value, _: _each(_exactly(dict, value, cl).items(), value_type)


def _each(entries: Iterable[tuple[Any, Any]], cl: Any) -> dict[Any, Any]:
    structured: dict[Any, Any] = {}
    errors: list[Exception] = []
    for index, value in entries:
        try:
            structured[index] = converter.structure(value, cl)
        except Exception as error:
            error.add_note(IterableValidationNote("", index, cl))
            errors.append(error)
            # Millions of wrong items in one body would block the event loop for minutes.
            if len(errors) == ENOUGH_ERRORS:
                break
    if errors:
        raise IterableValidationError("", errors, cl)  # pyright: ignore[reportCallIssue]  # typeshed gives groups an __init__ too
    return structured


def structurer(cl: type[T]) -> Callable[[bytes], T]:
    """Give the function that makes a ``cl``, an attrs class, from the JSON text of an object.

    Unknown fields are ignored. The function raises `InvalidResponseError` if the text is not
    JSON (``incomplete`` is set), if fields have wrong types or are missing (``fields`` names
    them; of a long array, the first wrong ones), or if an object has a name twice.
    """
    optional, marks = _strings(cl)
    return _strict(
        cl, converter.get_loads_hook(cl), lambda one: None if None in optional(one) else marks
    )


def _strict(
    cl: type[T], loads: Callable[[bytes], T], quotation_marks: Callable[[T], int | None]
) -> Callable[[bytes], T]:
    """Give the function of `structurer`.

    ``quotation_marks`` counts those of the text in which a ``cl`` has every name once and none
    is unknown; it gives ``None`` if a name may be missing from the text that there was.
    """

    def structure(data: bytes) -> T:
        try:
            structured = loads(data)
            # A second name brings more of them. To look at each name takes longer than all
            # the converting.
            if data.count(b'"') != quotation_marks(structured):
                json.loads(data, object_pairs_hook=_no_name_twice, parse_int=str, parse_float=str)
        except _NameTwiceError as error:
            explanation = _Explanation(f"an object has a name twice: {error}")
        except RecursionError:
            explanation = _Explanation("the body is nested too deeply")
        except UnicodeDecodeError:
            explanation = _Explanation("the body is not UTF-8")
        except msgspec.ValidationError as error:
            explanation = _explained(data, cl, str(error))
        except msgspec.DecodeError as error:
            explanation = _Explanation(f"the body is not JSON: {error}", incomplete=True)
        else:
            return structured
        raise InvalidResponseError(*explanation)

    return structure


class _NameTwiceError(Exception):
    """Which of the two values counts is open (RFC 8259, section 4)."""


def _no_name_twice(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _NameTwiceError(counts.most_common(1)[0][0])


def _strings(cl: type[Any]) -> tuple[Callable[[Any], tuple[Any, ...]], int]:
    """Give how to get the values that may be missing, and the quotation marks if none is.

    If its values are more than strings, the text of a ``cl`` can hold more of them; then the
    values are given as just ``None``, as if something were missing.
    """
    fields = attrs.fields(cl)
    optional = [field.name for field in fields if field.default is None]
    # Of a single name, attrgetter gives no tuple.
    if len(optional) < 2 or not all(field.type in (str, str | None) for field in fields):
        return lambda _: (None,), 0
    return attrgetter(*optional), 4 * len(fields)


class _Explanation(NamedTuple):
    problem: str
    fields: tuple[str, ...] = ()
    incomplete: bool = False


def _explained(data: bytes, cl: type[Any], first: str) -> _Explanation:
    """Say what msgspec, which stops at the first wrong field, found wrong in all."""
    problem, _, path = first.partition(" - at ")
    fields: tuple[str, ...] = (f"{problem} @ {path.strip('`') or '$'}",)
    try:
        value = msgspec.json.decode(data)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return _Explanation(UNEXPECTED, fields)  # no more can be read
    except msgspec.DecodeError as error:  # cut short behind the first wrong field
        return _Explanation(f"the body is not JSON: {error}", incomplete=True)
    try:
        converter.structure(value, cl)
    except BaseValidationError as error:
        fields = tuple(transform_error(error, path="$", format_exception=_field_problem))
    except TypeError as error:
        fields = (f"{error} @ $",)
    return _Explanation(UNEXPECTED, fields)


def _field_problem(error: BaseException, _: object) -> str:
    return "missing" if isinstance(error, KeyError) else str(error)


def page_structurer(key: str, model: type[T]) -> Callable[[bytes], tuple[tuple[T, ...], PageMeta]]:
    """Give the function that makes the items and the meta of a page from its JSON text.

    ``key`` is the field of the response that holds the items. The function raises what one
    of `structurer` raises.
    """
    as_many_as_fit = msgspec.Meta(max_length=PAGE_SIZE_MAX)
    items: Any = Annotated[GenericAlias(tuple, (model, ...)), as_many_as_fit]
    envelope: Any = attrs.make_class(
        f"{model.__name__}Page",
        {key: attrs.field(type=items), "meta": attrs.field(type=PageMeta)},
        frozen=True,
        slots=True,
    )
    whole: Callable[[bytes], Any] = converter.get_loads_hook(envelope)
    uncut: Any = Annotated[GenericAlias(tuple, (msgspec.Raw, ...)), as_many_as_fit]
    outline = msgspec.json.Decoder(msgspec.defstruct("Outline", [(key, uncut)]))

    def loads(data: bytes) -> Any:
        if len(data) > LARGE:  # made of empty items, it would block the event loop for seconds
            outline.decode(data)
        return whole(data)

    optional, marks = _strings(model)

    def quotation_marks(page: Any) -> int | None:
        items = getattr(page, key)
        if any(None in each for each in map(optional, items)):
            return None
        meta = attrs.astuple(page.meta)  # has no defaults: nothing is missing
        strings = sum(isinstance(value, str) for value in meta)
        return marks * len(items) + 2 * (len(attrs.fields(envelope)) + len(meta) + strings)

    structure: Callable[[bytes], Any] = _strict(envelope, loads, quotation_marks)

    def structure_page(data: bytes) -> tuple[tuple[T, ...], PageMeta]:
        page = structure(data)
        return getattr(page, key), page.meta

    return structure_page
