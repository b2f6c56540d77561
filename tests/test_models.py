"""The models as values."""

import ast
import copy
import inspect
import json
import pickle
from typing import Any

import attrs
import pytest

from marketplace_async import models
from marketplace_async.models import NESTING_MAX, AvailableAddOn, Extension, PageMeta, is_too_deep

XB, XF = f"XB{32 * 'a'}", f"XF{32 * 'a'}"
URL = "https://marketplace.twilio.com/v1/AvailableAddOns"

EXAMPLES = [
    Extension(XF, XB, "Incoming Voice Call", "Programmable Voice", "voice-incoming", f"{URL}/{XF}"),
    AvailableAddOn(
        XB,
        "VoiceBase",
        "Transcription",
        "per minute",
        {"type": "object", "required": ["bad_words"]},
        f"{URL}/{XB}",
        {"extensions": f"{URL}/{XB}/Extensions"},
    ),
    PageMeta(0, 50, f"{URL}?Page=0", None, f"{URL}?Page=0", f"{URL}?Page=1", "available_add_ons"),
]


def names(model: Any) -> list[str]:
    return [field.name for field in attrs.fields(model.__class__)]


each_model = pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: type(model).__name__)


@each_model
def test_frozen(model: Any) -> None:
    """A model cannot be changed and has no room for other attributes."""
    for name in names(model):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(model, name, "changed")
    assert not hasattr(model, "__dict__")


@each_model
def test_equality(model: Any) -> None:
    """Copies are equal and have the same hash; a difference in any field counts."""
    for again in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  # made right here
        assert again == model
        assert hash(again) == hash(model)
    for name in names(model):
        assert attrs.evolve(model, **{name: "changed"}) != model


def test_defaults() -> None:
    """Only SIDs are required."""
    assert Extension(XF, XB) == Extension(XF, XB, None, None, None, None)
    assert AvailableAddOn(XB) == AvailableAddOn(XB, None, None, None, None, None, None)
    assert PageMeta() == PageMeta(None, None, None, None, None, None, None)


@each_model
def test_to_dict(model: Any) -> None:
    """The dict has all fields in order, and can be written as JSON."""
    as_dict = model.to_dict()
    assert list(as_dict) == names(model)
    assert type(model)(**json.loads(json.dumps(as_dict))) == model


def test_to_dict_copies() -> None:
    """Changing the dict does not change the model."""
    schema = {"list": [{"a": 1}], "map": {"b": [1]}}
    add_on = AvailableAddOn(XB, configuration_schema=schema, links={"extensions": URL})
    as_dict = add_on.to_dict()
    assert as_dict["configuration_schema"] == {"list": [{"a": 1}], "map": {"b": [1]}}
    as_dict["configuration_schema"]["list"][0]["a"] = as_dict["configuration_schema"]["map"] = 2
    as_dict["links"].clear()
    assert add_on.configuration_schema == {"list": [{"a": 1}], "map": {"b": [1]}}
    assert add_on.links == {"extensions": URL}


@pytest.mark.parametrize("deepest", [[], {}, [1], {"a": 1}], ids=repr)
def test_is_too_deep(deepest: Any) -> None:
    """The limit counts objects and arrays, wherever they are in the value."""
    value: Any = deepest
    for level in range(1, NESTING_MAX):
        wrapped: Any = {"": [], "a": value, "b": 1} if level % 2 else [[], value, 1]
        value = wrapped
    assert not is_too_deep(1, value, {})
    assert is_too_deep(1, [value], {})


def test_docstrings() -> None:
    """Each field of each model has a docstring."""
    for node in ast.walk(ast.parse(inspect.getsource(models))):
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
                if isinstance(field, ast.AnnAssign):
                    assert isinstance(below, ast.Expr), ast.unparse(field)
                    assert isinstance(below.value, ast.Constant), ast.unparse(field)
