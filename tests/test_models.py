import ast
import copy
import inspect
import pickle
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from marketplace_async import models
from marketplace_async.models import AvailableAddOn, Extension, PageMeta

XB, XF = f"XB{32 * 'a'}", f"XF{32 * 'a'}"
BASE = "https://marketplace.twilio.com/v1/AvailableAddOns"

EXTENSION = Extension(
    XF,
    XB,
    "Incoming Voice Call",
    "Programmable Voice",
    "voice-incoming",
    f"{BASE}/{XB}/Extensions/{XF}",
)
ADD_ON = AvailableAddOn(
    XB,
    "VoiceBase",
    "Transcription",
    "per minute",
    {"type": "object"},
    f"{BASE}/{XB}",
    {"extensions": f"{BASE}/{XB}/Extensions"},
)
META = PageMeta(0, 50, f"{BASE}?Page=0", None, f"{BASE}?Page=0", None, "available_add_ons")

IDENTIFYING = {"sid", "available_add_on_sid"}

each_model = pytest.mark.parametrize(
    "model", [EXTENSION, ADD_ON, META], ids=lambda model: type(model).__name__
)


def values(model: attrs.AttrsInstance) -> dict[str, Any]:
    return attrs.asdict(model, recurse=False)


def described(api: Any, model: object) -> Mapping[str, Any]:
    """The properties that Twilio's description of the API gives to a model."""
    schemas = api["components"]["schemas"]
    listing = api["paths"]["/v1/AvailableAddOns"]["get"]["responses"]["200"]
    found: dict[type, Mapping[str, Any]] = {
        Extension: schemas["marketplace.v1.available_add_on.available_add_on_extension"],
        AvailableAddOn: schemas["marketplace.v1.available_add_on"],
        PageMeta: listing["content"]["application/json"]["schema"]["properties"]["meta"],
    }
    properties: Mapping[str, Any] = found[type(model)]["properties"]
    return properties


@each_model
def test_models_cannot_be_changed(model: attrs.AttrsInstance) -> None:
    for field in attrs.fields(type(model)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(model, field.name, "changed")


@each_model
def test_models_have_slots_and_no_room_for_more(model: attrs.AttrsInstance) -> None:
    assert not hasattr(model, "__dict__")


@pytest.mark.parametrize("model", [EXTENSION, META], ids=lambda model: type(model).__name__)
def test_models_of_plain_values_are_hashable(model: attrs.AttrsInstance) -> None:
    assert len({model, copy.copy(model)}) == 1


@each_model
def test_models_are_equal_if_all_their_fields_are(model: attrs.AttrsInstance) -> None:
    assert copy.deepcopy(model) == model
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301  # made right here
    for field in attrs.fields(type(model)):
        value = getattr(model, field.name)
        changed = value + 1 if isinstance(value, int) else "changed"
        other = {**values(model), field.name: changed}
        assert type(model)(**other) != model


def test_only_what_identifies_a_resource_is_needed_to_make_one() -> None:
    assert Extension(XF, XB) == Extension(XF, XB, None, None, None, None)
    assert AvailableAddOn(XB) == AvailableAddOn(XB, None, None, None, None, None, None)


@each_model
def test_models_have_the_fields_that_twilio_describes_in_that_order(
    model: attrs.AttrsInstance, api_description: Any
) -> None:
    names = [field.name for field in attrs.fields(type(model))]
    properties = described(api_description, model)
    # What Twilio says of pages is in alphabetical order.
    assert names == list(properties) or sorted(names) == list(properties)


@each_model
def test_a_field_may_be_none_if_twilio_calls_it_nullable_and_it_identifies_nothing(
    model: attrs.AttrsInstance, api_description: Any
) -> None:
    properties = described(api_description, model)
    nullable = {name for name, schema in properties.items() if schema.get("nullable")}
    optional = {field.name for field in attrs.fields(type(model)) if "None" in str(field.type)}
    assert optional == nullable - IDENTIFYING


def test_every_field_is_described_under_it() -> None:
    tree = ast.parse(inspect.getsource(models))
    bare: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
                if isinstance(field, ast.AnnAssign):
                    text = below.value if isinstance(below, ast.Expr) else None
                    if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                        bare.append(ast.unparse(field))
    assert bare == []
