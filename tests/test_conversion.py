import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import msgspec
import pytest
from cattrs import ClassValidationError
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.conversion import converter, page_structurer, structurer
from marketplace_async.errors import InvalidResponseError
from marketplace_async.models import PAGE_SIZE_MAX, AvailableAddOn, Extension, PageMeta

T = TypeVar("T")

XB, XF = f"XB{32 * 'a'}", f"XF{32 * 'a'}"
BASE = "https://marketplace.twilio.com/v1/AvailableAddOns"

EXTENSION: dict[str, Any] = {
    "sid": XF,
    "available_add_on_sid": XB,
    "friendly_name": "Incoming Voice Call",
    "product_name": "Programmable Voice",
    "unique_name": "voice-incoming",
    "url": f"{BASE}/{XB}/Extensions/{XF}",
}
ADD_ON: dict[str, Any] = {
    "sid": XB,
    "friendly_name": "VoiceBase",
    "description": "Transcription",
    "pricing_type": "per minute",
    "configuration_schema": {"type": "object", "properties": {"bad_words": {"type": "boolean"}}},
    "url": f"{BASE}/{XB}",
    "links": {"extensions": f"{BASE}/{XB}/Extensions"},
}
META: dict[str, Any] = {
    "page": 0,
    "page_size": 50,
    "first_page_url": f"{BASE}?PageSize=50&Page=0",
    "previous_page_url": None,
    "url": f"{BASE}?PageSize=50&Page=0",
    "next_page_url": f"{BASE}?PageSize=50&Page=1&PageToken=x",
    "key": "extensions",
}
PAGE: dict[str, Any] = {"extensions": [EXTENSION, {**EXTENSION, "url": None}], "meta": META}

EXAMPLES: dict[type[attrs.AttrsInstance], dict[str, Any]] = {
    Extension: EXTENSION,
    AvailableAddOn: ADD_ON,
    PageMeta: META,
}
TYPES: dict[type[attrs.AttrsInstance], dict[str, set[str]]] = {
    Extension: {
        "sid": {"string"},
        "available_add_on_sid": {"string"},
        "friendly_name": {"string", "null"},
        "product_name": {"string", "null"},
        "unique_name": {"string", "null"},
        "url": {"string", "null"},
    },
    AvailableAddOn: {
        "sid": {"string"},
        "friendly_name": {"string", "null"},
        "description": {"string", "null"},
        "pricing_type": {"string", "null"},
        "configuration_schema": {"object", "null"},
        "url": {"string", "null"},
        "links": {"object", "null"},
    },
    PageMeta: {
        "page": {"integer"},
        "page_size": {"integer"},
        "first_page_url": {"string"},
        "previous_page_url": {"string", "null"},
        "url": {"string"},
        "next_page_url": {"string", "null"},
        "key": {"string"},
    },
}
"""The types that each field may have, in JSON's own words."""

VALUES: dict[str, Any] = {
    "null": None,
    "string": "text",
    "integer": 7,
    "number": 1.5,
    "number, a whole one": 7.0,
    "boolean": True,
    "object": {"name": "text"},
    "array": ["text"],
}
"""A value of each type, none of which may be taken for another."""

each_model = pytest.mark.parametrize("model", list(EXAMPLES), ids=lambda model: model.__name__)

read_page = page_structurer("extensions", Extension)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def refusal(structure: Callable[[bytes], object], body: bytes) -> InvalidResponseError:
    with pytest.raises(InvalidResponseError) as caught:
        structure(body)
    return caught.value


def is_accepted(model: type[Any], value: Mapping[str, Any]) -> bool:
    try:
        structurer(model)(as_json(value))
    except InvalidResponseError:
        return False
    return True


# What Twilio sends.


def examples(api: Any) -> dict[str, Any]:
    """Twilio's own examples of answers, by path and name."""
    return {
        f"{path} {name}": example["value"]
        for path, item in api["paths"].items()
        if path.startswith("/v1/AvailableAddOns")
        for name, example in item["get"]["responses"]["200"]["content"]["application/json"][
            "examples"
        ].items()
    }


def test_every_example_that_twilio_gives_converts_and_loses_nothing(api_description: Any) -> None:
    seen: set[str] = set()
    for title, body in examples(api_description).items():
        path, name = title.split()
        model = Extension if "Extensions" in path else AvailableAddOn
        key = "extensions" if model is Extension else "available_add_ons"
        again: dict[str, Any]
        if name == "fetch":
            again = converter.unstructure(structurer(model)(as_json(body)))
        else:
            items, meta = page_structurer(key, model)(as_json(body))
            again = {key: converter.unstructure(list(items)), "meta": converter.unstructure(meta)}
        assert again == body
        seen.add(f"{key} {name}")
    assert seen == {
        f"{key} {name}"
        for key in ("extensions", "available_add_ons")
        for name in ("fetch", "readFull", "readEmpty")
    }


@each_model
def test_a_field_may_be_of_the_types_that_twilio_describes_and_of_no_other(
    model: type[attrs.AttrsInstance],
) -> None:
    accepted = {
        (field, kind)
        for field in EXAMPLES[model]
        for kind, value in VALUES.items()
        if is_accepted(model, {**EXAMPLES[model], field: value})
    }
    assert accepted == {(field, kind) for field, kinds in TYPES[model].items() for kind in kinds}


@each_model
def test_a_field_of_another_type_is_named_with_what_is_wrong_with_it(
    model: type[attrs.AttrsInstance],
) -> None:
    for field, kinds in TYPES[model].items():
        for kind in VALUES.keys() - kinds:
            error = refusal(structurer(model), as_json({**EXAMPLES[model], field: VALUES[kind]}))
            (named,) = error.fields
            assert named.startswith("expected a")
            assert f", got {'' if kind == 'null' else 'a'}" in named
            assert named.endswith(f"{kind.partition(',')[0]} @ $.{field}")
            assert not error.incomplete


def test_these_types_are_those_of_twilios_description(api_description: Any) -> None:
    schemas = api_description["components"]["schemas"]
    listing = api_description["paths"]["/v1/AvailableAddOns"]["get"]["responses"]["200"]
    described: dict[type, Any] = {
        Extension: schemas["marketplace.v1.available_add_on.available_add_on_extension"],
        AvailableAddOn: schemas["marketplace.v1.available_add_on"],
        PageMeta: listing["content"]["application/json"]["schema"]["properties"]["meta"],
    }
    for model, types in TYPES.items():
        assert {
            name: {schema["type"], "null"} if schema.get("nullable") else {schema["type"]}
            for name, schema in described[model]["properties"].items()
        } == {
            # Without what identifies it, a resource is of no use to anybody.
            name: kinds | {"null"} if name in ("sid", "available_add_on_sid") else kinds
            for name, kinds in types.items()
        }


@each_model
def test_fields_that_nobody_knows_are_ignored_whatever_they_hold(
    model: type[attrs.AttrsInstance],
) -> None:
    structure = structurer(model)
    for value in VALUES.values():
        more = {"new": value, **EXAMPLES[model], "newer": {"sid": value}, "": value}
        assert structure(as_json(more)) == structure(as_json(EXAMPLES[model]))


@each_model
def test_a_field_may_be_missing_if_the_model_has_a_default_for_it(
    model: type[attrs.AttrsInstance],
) -> None:
    needed = {field.name for field in attrs.fields(model) if field.default is attrs.NOTHING}
    for name in TYPES[model]:
        rest = {field: value for field, value in EXAMPLES[model].items() if field != name}
        if name in needed:
            assert refusal(structurer(model), as_json(rest)).fields == (f"missing @ $.{name}",)
        else:
            assert getattr(structurer(model)(as_json(rest)), name) is None


def test_what_identifies_a_resource_and_all_of_meta_must_be_there() -> None:
    assert refusal(structurer(Extension), b"{}").fields == (
        "missing @ $.sid",
        "missing @ $.available_add_on_sid",
    )
    assert refusal(structurer(AvailableAddOn), b"{}").fields == ("missing @ $.sid",)
    assert set(refusal(structurer(PageMeta), b"{}").fields) == {
        f"missing @ $.{name}" for name in META
    }


@pytest.mark.parametrize(
    ("links", "fields"),
    [
        ({"extensions": None}, ("expected a string, got null @ $.links['extensions']",)),
        ({"extensions": 1}, ("expected a string, got an integer @ $.links['extensions']",)),
        (
            {"a": {}, "b": "fine", "c": []},
            (
                "expected a string, got an object @ $.links['a']",
                "expected a string, got an array @ $.links['c']",
            ),
        ),
    ],
)
def test_links_lead_from_names_to_text_alone(
    links: dict[str, Any], fields: tuple[str, ...]
) -> None:
    assert refusal(structurer(AvailableAddOn), as_json({**ADD_ON, "links": links})).fields == fields


def test_a_configuration_schema_is_kept_as_it_came() -> None:
    schema: dict[str, Any] = {"a": [1, 2.5, None, True, {"b": "c"}], "": {}}
    body = as_json({**ADD_ON, "configuration_schema": schema})
    assert structurer(AvailableAddOn)(body).configuration_schema == schema


# There and back.

texts = st.text(st.characters(codec="utf-8"))
json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    json_scalars, lambda each: st.lists(each) | st.dictionaries(texts, each), max_leaves=10
)
maybe_texts = st.none() | texts
extensions = st.builds(Extension, texts, texts, *[maybe_texts] * 4)
add_ons = st.builds(
    AvailableAddOn,
    texts,
    *[maybe_texts] * 3,
    st.none() | st.dictionaries(texts, json_values),
    maybe_texts,
    st.none() | st.dictionaries(texts, texts),
)
counts = st.integers(0, 2**63 - 1)
metas = st.builds(PageMeta, counts, counts, texts, maybe_texts, texts, maybe_texts, texts)


@given(extensions | add_ons | metas)
def test_a_model_comes_back_equal_from_plain_data_and_from_bytes(
    model: attrs.AttrsInstance,
) -> None:
    plain = converter.unstructure(model)
    assert list(plain) == [field.name for field in attrs.fields(type(model))]
    assert structurer(type(model))(as_json(plain)) == model
    assert structurer(type(model))(msgspec.json.encode(plain)) == model
    assert converter.structure(plain, type(model)) == model


@given(st.lists(extensions, max_size=3), metas)
def test_a_page_comes_back_equal(items: list[Extension], meta: PageMeta) -> None:
    plain = converter.unstructure({"extensions": items, "meta": meta})
    assert read_page(as_json(plain)) == (tuple(items), meta)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(str, None), (str, 1), (int, "1"), (int, True), (int, 1.0), (float, "1"), (bool, "false")],
)
def test_the_converter_turns_no_value_into_one_of_another_type(kind: type, value: object) -> None:
    with pytest.raises(TypeError, match=r"^expected a.* got "):
        converter.structure(value, kind)


def test_the_converter_refuses_plain_data_of_a_wrong_shape() -> None:
    with pytest.raises(ClassValidationError):
        converter.structure({"sid": None}, AvailableAddOn)


# Bodies that are not what was asked for.


WRONG_PAGES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["missing @ $.extensions", "missing @ $.meta"]),
    ({"extensions": []}, ["missing @ $.meta"]),
    ({"meta": META}, ["missing @ $.extensions"]),
    ({**PAGE, "meta": None}, ["expected an object, got null @ $.meta"]),
    ({**PAGE, "meta": []}, ["expected an object, got an array @ $.meta"]),
    ({**PAGE, "meta": {}}, [f"missing @ $.meta.{name}" for name in META]),
    (
        {**PAGE, "meta": {**META, "next_page_url": 5}},
        ["expected a string, got an integer @ $.meta.next_page_url"],
    ),
    ({**PAGE, "extensions": None}, ["expected an array, got null @ $.extensions"]),
    ({**PAGE, "extensions": {}}, ["expected an array, got an object @ $.extensions"]),
    ({**PAGE, "extensions": "x"}, ["expected an array, got a string @ $.extensions"]),
    ({"available_add_ons": [], "meta": META}, ["missing @ $.extensions"]),
    (
        {"extensions": [EXTENSION, None, {**EXTENSION, "sid": None}, [], {}], "meta": None},
        [
            "expected an object, got null @ $.extensions[1]",
            "expected a string, got null @ $.extensions[2].sid",
            "expected an object, got an array @ $.extensions[3]",
            "missing @ $.extensions[4].sid",
            "missing @ $.extensions[4].available_add_on_sid",
            "expected an object, got null @ $.meta",
        ],
    ),
]


@pytest.mark.parametrize(("page", "fields"), WRONG_PAGES)
def test_a_page_of_a_wrong_shape_is_refused_with_the_path_of_each_wrong_field(
    page: dict[str, Any], fields: list[str]
) -> None:
    error = refusal(read_page, as_json(page))
    assert sorted(error.fields) == sorted(fields)
    assert error.problem == "the body has an unexpected shape"
    assert not error.incomplete


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[]", "an array"),
        (b"[{}]", "an array"),
        (b"null", "null"),
        (b"true", "a boolean"),
        (b"1", "an integer"),
        (b"1.5", "a number"),
        (b'"text"', "a string"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, kind: str) -> None:
    for structure in (read_page, structurer(Extension)):
        error = refusal(structure, body)
        assert error.fields == (f"expected an object, got {kind} @ $",)
        assert not error.incomplete


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\n\n",
        b"\0",
        b"<!DOCTYPE html><html><body>Bad Gateway</body></html>",
        b"OK",
        b"{'sid': 'x'}",
        b'{"sid": "x",}',
        b'{"sid": NaN}',
        b'{"sid": Infinity}',
        b'{"sid": 01}',
        b'{"sid": "\n"}',
        b'{"sid": "\\x41"}',
        b'{"sid": "\\ud800"}',
        b"{} {}",
        b"{}garbage",
        b"// comment\n{}",
        b"\xef\xbb\xbf" + as_json(PAGE),
        json.dumps(PAGE).encode("utf-16"),
        json.dumps(PAGE).encode("utf-32"),
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    ],
    ids=ascii,
)
def test_a_body_that_is_no_json_is_refused_as_one_that_may_have_been_cut_short(
    body: bytes,
) -> None:
    for structure in (read_page, structurer(Extension)):
        error = refusal(structure, body)
        assert error.problem.startswith("the body is not JSON: ")
        assert error.incomplete
        assert error.fields == ()


@pytest.mark.parametrize("text", [b"\xff", b"caf\xe9", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5"])
def test_a_field_that_is_not_utf_8_is_refused(text: bytes) -> None:
    body = as_json(PAGE).replace(b"Programmable Voice", text)
    error = refusal(read_page, body)
    assert error.problem == "the body is not UTF-8"
    assert not error.incomplete


WIDE_PAGE: dict[str, Any] = {
    "extensions": [
        {**EXTENSION, "friendly_name": 'Größe "大" \U0001f600 \\ \n', "unique_name": "\x01"},
        {**EXTENSION, "new": [1, -2.5e3, True, False, None, {"a": []}]},
    ],
    "meta": {**META, "page": 12345},
}


@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["escaped", "as UTF-8"])
@pytest.mark.parametrize(
    "page",
    [WIDE_PAGE, {"meta": META, "extensions": [EXTENSION, {"sid": None}]}],
    ids=["right", "with a wrong field"],
)
def test_a_page_cut_short_at_any_byte_is_an_incomplete_one_and_never_a_part(
    page: dict[str, Any], *, ensure_ascii: bool
) -> None:
    body = json.dumps(page, ensure_ascii=ensure_ascii, indent=1).encode()
    for end in range(len(body)):
        assert refusal(read_page, body[:end]).incomplete, body[:end]


DEEP = 200_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"sid":' * DEEP + b"1" + b"}" * DEEP,
        b'{"new":' + b"[" * DEEP + b"]" * DEEP + b"}",
        as_json(ADD_ON)[:-1] + b',"configuration_schema":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"sid":null,"new":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"meta":' * DEEP + b"1" + b"}" * DEEP,
    ],
    ids=lambda body: body[:30].decode() + f"{len(body)}",
)
def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack(body: bytes) -> None:
    for structure in (read_page, structurer(AvailableAddOn), structurer(Extension)):
        error = refusal(structure, body)
        assert "nested too deeply" in error.problem or error.fields
        assert not error.incomplete


def test_nesting_that_people_write_is_fine() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"properties": schema}
    body = as_json({**ADD_ON, "configuration_schema": schema})
    assert structurer(AvailableAddOn)(body).configuration_schema == schema


HUGE = b"1" * 100_000


@pytest.mark.parametrize("number", [HUGE, b"-" + HUGE, HUGE + b".5", b"1e400", b"1e" + HUGE])
def test_a_number_out_of_range_is_refused_where_it_is_read(number: bytes) -> None:
    for model, path in ((PageMeta, "$.page"), (Extension, "$.sid")):
        body = as_json(EXAMPLES[model])[:-1] + b',"%s":%s}' % (path[2:].encode(), number)
        (field,) = refusal(structurer(model), body).fields
        assert field.endswith(f" @ {path}")
    body = b'{"sid":"x","configuration_schema":{"maximum":%s}}' % number
    (field,) = refusal(structurer(AvailableAddOn), body).fields
    assert " @ $.configuration_schema" in field


@pytest.mark.parametrize("number", [HUGE, b"1e400"])
def test_a_number_out_of_range_where_nobody_looks_is_ignored(number: bytes) -> None:
    assert structurer(AvailableAddOn)(b'{"sid":"x","new":%s}' % number) == AvailableAddOn("x")


EXTENSION_TWICE = as_json(EXAMPLES[Extension])[:-1] + b',"sid":"y"}'


@pytest.mark.parametrize(
    ("structure", "body", "name"),
    [
        pytest.param(structurer(Extension), EXTENSION_TWICE, "sid", id="one"),
        pytest.param(
            structurer(Extension), b'{"sid":"x",' + EXTENSION_TWICE[1:], "sid", id="alike"
        ),
        pytest.param(structurer(AvailableAddOn), b'{"sid":"x","sid" :"x"}', "sid", id="few fields"),
        pytest.param(
            structurer(AvailableAddOn), b'{"sid":"x","links":{"a":"1","a":"2"}}', "a", id="deep"
        ),
        pytest.param(
            structurer(AvailableAddOn), b'{"sid":"x","new":[{"b":1,"b":2}]}', "b", id="unknown"
        ),
        pytest.param(
            structurer(AvailableAddOn), rb'{"sid":"x","\u0073id":"x"}', "sid", id="escaped"
        ),
        pytest.param(
            read_page, as_json(PAGE)[:-1] + b',"meta":%b}' % as_json(META), "meta", id="meta"
        ),
        pytest.param(read_page, as_json(PAGE)[:-1] + b',"extensions":[]}', "extensions", id="page"),
        pytest.param(
            read_page,
            b'{"extensions":[%b],"meta":%b}' % (EXTENSION_TWICE, as_json(META)),
            "sid",
            id="item",
        ),
    ],
)
def test_a_name_that_stands_twice_is_refused(
    structure: Callable[[bytes], object], body: bytes, name: str
) -> None:
    """Two readers of such a body, one of them a guard, may see two different bodies."""
    error = refusal(structure, body)
    assert not error.incomplete
    assert error.problem == f"an object has a name twice: {name}"


@st.composite
def texts_of_objects(draw: st.DrawFn, whole: dict[str, Any], needed: int) -> tuple[str, bool]:
    """Texts of an object without some of its fields, and whether one of the rest is there twice."""
    members = [
        (name, draw(st.sampled_from([value, None])) if index >= needed else value)
        for index, (name, value) in enumerate(whole.items())
        if index < needed or draw(st.booleans())
    ]
    is_one_twice = draw(st.integers(0, 3)) == 0
    if is_one_twice:
        twice = draw(st.sampled_from(members))
        members.insert(draw(st.integers(0, len(members))), twice)
    space = draw(st.sampled_from(["", " ", "\n", "\t\r"]))
    pairs = (f"{json.dumps(name)}{space}:{json.dumps(value)}" for name, value in members)
    return f"{{{','.join(pairs)}}}", is_one_twice


@given(
    st.lists(texts_of_objects(EXTENSION, 2), max_size=4),
    texts_of_objects(META, len(META)),
)
def test_of_a_page_just_those_with_a_name_twice_are_refused(
    extensions: list[tuple[str, bool]], meta: tuple[str, bool]
) -> None:
    items = ",".join(text for text, _ in extensions)
    body = f'{{"extensions":[{items}],"meta":{meta[0]}}}'.encode()
    if meta[1] or any(twice for _, twice in extensions):
        assert "an object has a name twice" in refusal(read_page, body).problem
    else:
        assert len(read_page(body)[0]) == len(extensions)


def test_unknown_names_and_what_looks_like_one_are_no_second_names() -> None:
    body = as_json({**EXAMPLES[Extension], "new": '":', "friendly_name": 'a "b": c'})
    assert structurer(Extension)(body).friendly_name == 'a "b": c'


def test_a_field_whose_name_is_written_with_escapes_is_that_field() -> None:
    assert structurer(AvailableAddOn)(rb'{"\u0073id":"x"}') == AvailableAddOn("x")


@pytest.mark.parametrize("item", [b"0", b"{}", b"[]", b'{"sid":0}', b"null"])
def test_of_many_wrong_items_the_first_are_named(item: bytes) -> None:
    body = b'{"extensions":[%s],"meta":{}}' % b",".join([item] * PAGE_SIZE_MAX)
    error = refusal(read_page, body)
    assert any("$.extensions[19]" in field for field in error.fields)
    assert not any("$.extensions[20]" in field for field in error.fields)
    assert len(error.fields) <= 2 * 20 + len(META)
    assert len(str(error)) < 2_000


@pytest.mark.parametrize("count", [PAGE_SIZE_MAX + 1, 1_000_000])
def test_a_page_of_more_items_than_can_be_asked_for_is_refused_before_they_are_made(
    count: int,
) -> None:
    most, more = (
        b'{"available_add_ons":[%s],"meta":%s}' % (b",".join([b'{"sid":"x"}'] * n), as_json(META))
        for n in (PAGE_SIZE_MAX, count)
    )
    structure = page_structurer("available_add_ons", AvailableAddOn)
    assert len(structure(most)[0]) == PAGE_SIZE_MAX
    error = refusal(structure, more)
    assert error.fields == (f"expected at most 1000 items, got {count} @ $.available_add_ons",)


def test_of_a_million_wrong_links_the_first_are_named() -> None:
    links = b",".join(b'"%d":0' % number for number in range(1_000_000))
    error = refusal(structurer(AvailableAddOn), b'{"sid":"x","links":{%s}}' % links)
    assert len(error.fields) == 20


def test_a_refusal_refers_to_no_other_exception_and_so_to_no_body() -> None:
    for body in (b"", b"[]", b'{"sid":"\xff"}', b"[" * DEEP):
        error = refusal(structurer(Extension), body)
        assert error.__cause__ is None
        assert error.__context__ is None


def test_the_name_of_a_wrong_link_cannot_play_tricks_on_a_reader() -> None:
    error = refusal(structurer(AvailableAddOn), as_json({"sid": "x", "links": {"\x1b[2J\n": 0}}))
    assert str(error).isprintable()


# Whatever comes.


def json_type(value: object) -> str:
    names: dict[type[object], str] = {str: "string", int: "integer", dict: "object"}
    return "null" if value is None else names[type(value)]


def is_well_typed(model: attrs.AttrsInstance) -> bool:
    types = TYPES[type(model)]
    return all(json_type(getattr(model, field)) in types[field] for field in types)


names = st.sampled_from([*EXTENSION, *ADD_ON, *META, "meta", "extensions"]) | texts
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from([EXTENSION, ADD_ON, META, PAGE, [EXTENSION], [ADD_ON]]),
    lambda each: st.lists(each) | st.dictionaries(names, each),
    max_leaves=20,
)


@st.composite
def spoiled_pages(draw: st.DrawFn) -> Any:
    """A page with anything at all in one place or some."""

    def spoiled(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, **draw(st.dictionaries(names, any_json, max_size=1))}

    items = [spoiled(EXTENSION), spoiled(EXTENSION)]
    return spoiled({"extensions": items, "meta": spoiled(META)})


def outcome(structure: Callable[[bytes], T], body: bytes) -> T | InvalidResponseError:
    try:
        return structure(body)
    except InvalidResponseError as error:
        return error


def check_whatever_comes(body: bytes) -> None:
    made: list[attrs.AttrsInstance | InvalidResponseError] = []
    made.extend(outcome(structurer(model), body) for model in EXAMPLES)
    page = outcome(read_page, body)
    made.extend([page] if isinstance(page, InvalidResponseError) else [*page[0], page[1]])
    for each in made:
        if isinstance(each, InvalidResponseError):
            assert str(each).isprintable()
        else:
            assert is_well_typed(each)


@given(any_json | spoiled_pages())
def test_any_json_converts_to_what_the_models_promise_or_is_refused(value: Any) -> None:
    check_whatever_comes(as_json(value))


@given(st.binary() | texts.map(str.encode))
def test_any_bytes_convert_to_what_the_models_promise_or_are_refused(body: bytes) -> None:
    check_whatever_comes(body)


@given(st.integers(0, len(as_json(PAGE))), st.binary(max_size=3), st.integers(0, 3))
def test_a_page_with_a_few_bytes_spoiled_converts_to_what_is_promised_or_is_refused(
    start: int, piece: bytes, overwritten: int
) -> None:
    body = as_json(PAGE)
    check_whatever_comes(body[:start] + piece + body[start + overwritten :])
