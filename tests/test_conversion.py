"""`read_model` and `read_page`: JSON bytes to models."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.conversion import read_model, read_page
from marketplace_async.errors import InvalidItemError, InvalidResponseError
from marketplace_async.models import NESTING_MAX, PAGE_SIZE_MAX, AvailableAddOn, Extension, PageMeta

XB, XF = f"XB{32 * 'a'}", f"XF{32 * 'a'}"
URL = "https://marketplace.twilio.com/v1/AvailableAddOns"

EXTENSION: dict[str, Any] = {
    "sid": XF,
    "available_add_on_sid": XB,
    "friendly_name": "Incoming Voice Call",
    "product_name": "Programmable Voice",
    "unique_name": "voice-incoming",
    "url": f"{URL}/{XB}/Extensions/{XF}",
}
ADD_ON: dict[str, Any] = {
    "sid": XB,
    "friendly_name": "VoiceBase",
    "description": "Transcription",
    "pricing_type": "per minute",
    "configuration_schema": {"type": "object", "properties": {"bad_words": {"type": "boolean"}}},
    "url": f"{URL}/{XB}",
    "links": {"extensions": f"{URL}/{XB}/Extensions"},
}
META: dict[str, Any] = {
    "page": 0,
    "page_size": 50,
    "first_page_url": f"{URL}?PageSize=50&Page=0",
    "previous_page_url": None,
    "url": f"{URL}?PageSize=50&Page=0",
    "next_page_url": f"{URL}?PageSize=50&Page=1&PageToken=x",
    "key": "extensions",
}
PAGE: dict[str, Any] = {"extensions": [EXTENSION, EXTENSION | {"url": None}], "meta": META}
KEYS: dict[type[Any], str] = {Extension: "extensions", AvailableAddOn: "available_add_ons"}
EXAMPLES: dict[type[Any], dict[str, Any]] = {Extension: EXTENSION, AvailableAddOn: ADD_ON}

VALUES: dict[str, Any] = {
    "null": None,
    "a string": "text",
    "an integer": 7,
    "a number": 7.0,
    "a boolean": True,
    "an object": {"name": "text"},
    "an array": ["text"],
}
"""A value of each JSON type, by the name that errors use."""

each_model = pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def page_of(*items: object, **meta: object) -> bytes:
    return as_json({"extensions": items, "meta": META | meta})


def raised(read: Callable[..., object], *args: Any, **options: Any) -> InvalidResponseError:
    with pytest.raises(InvalidResponseError) as caught:
        read(*args, **options)
    return caught.value


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


# Valid responses


def payloads() -> list[Any]:
    folder = os.environ.get("MARKETPLACE_PAYLOADS")
    if not folder:
        reason = "MARKETPLACE_PAYLOADS does not name the folder of published responses"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    files = sorted(Path(folder).glob("*available*.json"))
    return [pytest.param(json.loads(f.read_bytes())["payload"], id=f.stem) for f in files]


@pytest.mark.parametrize("payload", payloads())
def test_published_payload(payload: dict[str, Any]) -> None:
    """Each response that Twilio has published is read, and no field is lost."""
    for model, key in KEYS.items():
        if key in payload:
            items, meta = read_page(model, as_json(payload))
            assert [item.to_dict() for item in items] == payload[key]
            assert meta.to_dict() == payload["meta"]
            return
    single = Extension if "available_add_on_sid" in payload else AvailableAddOn
    assert read_model(single, as_json(payload)).to_dict() == payload


@each_model
@pytest.mark.parametrize("kind", VALUES)
def test_field_types(model: type[Any], kind: str) -> None:
    """A field accepts the JSON types of its annotation and coerces no other."""
    for field in attrs.fields(model):
        body = EXAMPLES[model] | {field.name: VALUES[kind]}
        allowed = {"a string"} if field.default is attrs.NOTHING else {"a string", "null"}
        if field.name == "links":
            allowed = {"an object", "null"}
        if field.name == "configuration_schema" or kind in allowed:
            assert read_model(model, as_json(body)).to_dict() == body
        else:
            error = raised(read_model, model, as_json(body))
            assert error.field == f"$.{field.name}"
            assert error.problem.startswith("expected a")
            assert error.problem.endswith(f", got {kind}")


@each_model
def test_sparse(model: type[Any]) -> None:
    """Optional fields may be missing; a missing SID is an error."""
    sids = {name: value for name, value in EXAMPLES[model].items() if name.endswith("sid")}
    assert read_model(model, as_json(sids)) == model(**sids)
    for name in sids:
        error = raised(read_model, model, as_json({**sids, name: None}))
        assert (error.field, error.problem) == (f"$.{name}", "expected a string, got null")
    error = raised(read_model, model, b"{}")
    assert (error.field, error.problem, error.retryable) == ("$.sid", "missing", False)


@each_model
def test_unknown_fields(model: type[Any]) -> None:
    """Unknown fields are ignored, whatever they hold."""
    for value in VALUES.values():
        body = {"new": value, **EXAMPLES[model], "newer": {"sid": value}, "": value}
        assert read_model(model, as_json(body)).to_dict() == EXAMPLES[model]


@pytest.mark.parametrize("given", [{}, {"available_add_on_sid": None}], ids=["missing", "null"])
def test_known(given: dict[str, None]) -> None:
    """A known value replaces a missing or null field, and no other."""
    known = {"available_add_on_sid": XB, "sid": "other"}
    body = {"sid": XF, **given}
    assert read_model(Extension, as_json(body), known) == Extension(XF, XB)
    assert read_page(Extension, page_of(body), known)[0] == (Extension(XF, XB),)


def test_links() -> None:
    """Links map names to text or null."""
    links = {"extensions": None, "new": "text"}
    assert read_model(AvailableAddOn, as_json(ADD_ON | {"links": links})).links == links
    error = raised(read_model, AvailableAddOn, as_json(ADD_ON | {"links": {"a @ b": 1}}))
    assert error.field == "$.links['a @ b']"


def test_many_items() -> None:
    """A page may hold more items than can be requested."""
    items, _ = read_page(Extension, page_of(*[EXTENSION] * (PAGE_SIZE_MAX + 1)))
    assert len(items) == PAGE_SIZE_MAX + 1


# Meta


@pytest.mark.parametrize("last", [{}, {"next_page_url": None}, {"next_page_url": ""}])
def test_last_page(last: dict[str, Any]) -> None:
    """A missing, null or empty next_page_url means the last page."""
    for meta in (last, last | {"page": "0"}):
        _, found = read_page(Extension, as_json({"extensions": [], "meta": meta}))
        assert found == PageMeta()


@pytest.mark.parametrize("kind", VALUES)
def test_meta_types(kind: str) -> None:
    """A wrong type in meta becomes None, except that of next_page_url."""
    for field in attrs.fields(PageMeta):
        value = VALUES[kind]
        data = page_of(EXTENSION, **{field.name: value})
        allowed = "an integer" if "int" in str(field.type) else "a string"
        if field.name == "next_page_url" and kind not in (allowed, "null"):
            error = raised(read_page, Extension, data)
            assert error.field == "$.meta.next_page_url"
            assert error.problem == f"expected a string, got {kind}"
        else:
            items, meta = read_page(Extension, data)
            expected = META | {field.name: value if kind == allowed else None}
            assert (items[0].to_dict(), meta.to_dict()) == (EXTENSION, expected)


NOT_PAGES: list[tuple[Any, str, str]] = [
    ([], "$", "expected an object, got an array"),
    ("text", "$", "expected an object, got a string"),
    (None, "$", "expected an object, got null"),
    ({"meta": META}, "$.extensions", "missing"),
    ({"available_add_ons": [], "meta": META}, "$.extensions", "missing"),
    ({"extensions": None, "meta": META}, "$.extensions", "expected an array, got null"),
    ({"extensions": {}, "meta": META}, "$.extensions", "expected an array, got an object"),
    ({"extensions": []}, "$.meta", "missing"),
    ({"extensions": [], "meta": None}, "$.meta", "expected an object, got null"),
    ({"extensions": [{}], "meta": []}, "$.meta", "expected an object, got an array"),
]


@pytest.mark.parametrize(("body", "field", "problem"), NOT_PAGES)
def test_not_a_page(body: object, field: str, problem: str) -> None:
    """If the items or meta are missing or of another type, no page is returned."""
    for skip_invalid in (False, True):
        error = raised(read_page, Extension, as_json(body), skip_invalid=skip_invalid)
        assert type(error) is InvalidResponseError
        assert (error.field, error.problem, error.retryable) == (field, problem, False)


# Invalid items

INVALID = [
    (EXTENSION | {"url": 7}, ".url", f"expected a string, got an integer (item {XF})"),
    ({"available_add_on_sid": XB}, ".sid", "missing"),
    (EXTENSION | {"sid": 7}, ".sid", "expected a string, got an integer"),
    (None, "", "expected an object, got null"),
    (["text"], "", "expected an object, got an array"),
]


@pytest.mark.parametrize(("item", "path", "problem"), INVALID)
def test_invalid_item(item: object, path: str, problem: str) -> None:
    """The error names the item and the field and carries the rest of the page."""
    error = raised(read_page, Extension, page_of(EXTENSION, item, None, EXTENSION))
    assert isinstance(error, InvalidItemError)
    assert (error.field, error.problem) == (f"$.extensions[1]{path}", problem)
    assert [each.to_dict() for each in error.items] == [EXTENSION, EXTENSION]
    assert (error.next_page_url, error.retryable) == (META["next_page_url"], False)
    last = raised(read_page, Extension, page_of(item, next_page_url=""))
    assert isinstance(last, InvalidItemError)
    assert (last.items, last.next_page_url) == ((), None)


@pytest.mark.parametrize(("item", "path", "problem"), INVALID)
def test_skip_invalid(
    item: object, path: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With skip_invalid, an invalid item is skipped with a warning."""
    data = page_of(EXTENSION, item, EXTENSION)
    items, meta = read_page(Extension, data, skip_invalid=True)
    assert [each.to_dict() for each in items] == [EXTENSION, EXTENSION]
    assert meta.to_dict() == META
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("marketplace_async", "WARNING")
    field = f"$.extensions[1]{path}"
    assert record.getMessage() == f"skipped an invalid item: {field}: {problem}"
    facts = vars(record)
    assert (facts["index"], facts["field"]) == (1, field)
    assert (facts["sid"] == XF) == (f"(item {XF})" in problem)


# Nesting


@pytest.mark.parametrize("levels", [0, 1, NESTING_MAX])
def test_nesting(levels: int) -> None:
    """A configuration schema may have up to 64 levels."""
    data = b'{"sid":"x","configuration_schema":%s}' % nested(levels)
    schema = read_model(AvailableAddOn, data).configuration_schema
    assert schema == json.loads(nested(levels))


@pytest.mark.parametrize("levels", [NESTING_MAX + 1, 500])
def test_too_deep(levels: int) -> None:
    """A schema with more than 64 levels is an invalid item."""
    item = b'{"sid":"x","configuration_schema":[%s]}' % nested(levels - 1)
    error = raised(read_model, AvailableAddOn, item)
    assert (error.field, error.retryable) == ("$.configuration_schema", False)
    assert error.problem == "nested more than 64 levels"
    data = b'{"available_add_ons":[{"sid":"y"},%s],"meta":{}}' % item
    error = raised(read_page, AvailableAddOn, data)
    assert isinstance(error, InvalidItemError)
    assert error.field == "$.available_add_ons[1].configuration_schema"
    assert error.items == (AvailableAddOn("y"),)
    assert read_page(AvailableAddOn, data, skip_invalid=True)[0] == error.items


@pytest.mark.parametrize("body", [nested(100_000), b"[" * 100_000, b'{"sid":%s}' % nested(99_999)])
def test_far_too_deep(body: bytes) -> None:
    """If the decoder runs out of stack, it is an error of the response."""
    for read in (read_model, read_page):
        assert not raised(read, Extension, body).retryable


# Bodies that are not JSON


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        b"OK",
        b"{'sid': 'x'}",
        b'{"sid": "x",}',
        b'{"sid": NaN}',
        b'{"sid": 01}',
        b'{"sid": "\n"}',
        b'{"sid": "\\ud800"}',
        b'{"sid": "\\ud800 and more text"}',
        b'{"configuration_schema": 1e400}',
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"sid": "\xff"}',
        "{}".encode("utf-16"),
    ],
    ids=ascii,
)
def test_not_json(body: bytes) -> None:
    """A malformed body is not retryable, and its first characters are quoted."""
    for read in (read_model, read_page):
        error = raised(read, Extension, body)
        assert error.problem.startswith(("the body is not valid JSON, ", "the body is not UTF-8: "))
        assert error.problem.endswith(" ".join(body.decode("utf-8", "replace").split()))
        assert not error.retryable


def test_html() -> None:
    """Of an HTML page, the title is quoted."""
    body = b"<!DOCTYPE html>\n<html><head><TITLE>\n502 Bad\nGateway </title></head></html>"
    error = raised(read_model, Extension, body)
    assert error.problem == (
        "the body is not valid JSON, invalid character (byte 0): 502 Bad Gateway"
    )


CUT: dict[str, Any] = {
    "extensions": [
        EXTENSION | {"friendly_name": 'Größe "大" \U0001f600 \\ \n{[', "unique_name": "\x01"},
        EXTENSION | {"new": [1, -2.5e-3, 1.5, True, False, None, {"a": []}]},
        {"sid": None},
    ],
    "meta": META | {"page": 12345},
}


@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["escaped", "as UTF-8"])
def test_truncated(*, ensure_ascii: bool) -> None:
    """A body cut at any byte is retryable, wherever its wrong fields are."""
    body = json.dumps(CUT, ensure_ascii=ensure_ascii, indent=1).encode()
    for end in range(len(body)):
        error = raised(read_page, Extension, body[:end], skip_invalid=True)
        assert error.retryable, body[:end]
        assert ("empty" if end == 0 else f"ends early, after {end} bytes") in error.problem
    assert len(read_page(Extension, body, skip_invalid=True)[0]) == 2


# Any input

texts = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e9, 1e9) | texts,
    lambda each: st.lists(each) | st.dictionaries(texts, each),
    max_leaves=10,
)
maybe = st.none() | texts
models: st.SearchStrategy[Extension | AvailableAddOn] = st.builds(
    Extension, texts, texts, maybe, maybe, maybe, maybe
) | st.builds(
    AvailableAddOn,
    texts,
    maybe,
    maybe,
    maybe,
    json_values,
    maybe,
    st.none() | st.dictionaries(texts, maybe),
)


@given(models, st.booleans())
def test_round_trip(model: Any, regular: bool) -> None:  # noqa: FBT001  # of hypothesis
    """A model becomes JSON and an equal model again, on the fast and on the slow path."""
    kind = model.__class__
    assert read_model(kind, as_json(model.to_dict())) == model
    meta = META if regular else META | {"page": "0"}
    page = {KEYS[kind]: [model.to_dict()], "meta": meta}
    assert read_page(kind, as_json(page))[0] == (model,)


names = st.sampled_from([*EXTENSION, *ADD_ON, *META, "meta", "extensions"]) | texts
any_json = st.recursive(
    json_values | st.sampled_from([EXTENSION, ADD_ON, META, PAGE]),
    lambda each: st.lists(each) | st.dictionaries(names, each),
    max_leaves=20,
)


def changed(fields: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, any_json, max_size=2).map(lambda more: fields | more)


def outcome(data: bytes) -> tuple[Any, Any]:
    """The items of a page and its next page, or what the error says of them."""
    try:
        items, meta = read_page(Extension, data)
    except InvalidResponseError as caught:
        error = caught
    else:
        return items, meta.next_page_url
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # made right here
    return error.problem, error.field


@given(st.lists(changed(EXTENSION), max_size=3), changed(META))
def test_paths_agree(items: list[Any], meta: dict[str, Any]) -> None:
    """The slow path, forced by an irregular meta, has the same outcome as the fast one."""
    page = {"extensions": items, "meta": meta}
    irregular = page | {"meta": meta | {"page": "0"}}
    assert outcome(as_json(page)) == outcome(as_json(irregular))


@given(any_json.map(as_json) | st.binary(), st.integers(0, 900), st.booleans())
def test_any_bytes(data: bytes, start: int, whole: bool) -> None:  # noqa: FBT001  # of hypothesis
    """Any bytes are a page of well-typed items or an InvalidResponseError."""
    page = as_json(PAGE)
    items, _ = outcome(data if whole else page[:start] + data[:3] + page[start + 2 :])
    for item in () if isinstance(items, str) else items:
        assert read_model(Extension, as_json(item.to_dict())) == item
