"""Catalogues: the built-in one, those from JSON, and built entries."""

import json
from pathlib import Path
from typing import Any

import pytest

from marketplace_async import AvailableAddOn, Extension
from marketplace_async.sandbox import Catalog, CatalogEntry, add_on, builtin_catalog, extension

XB, XF = "XB" + 32 * "1", "XF" + 32 * "2"


def test_builtin_sids() -> None:
    """SIDs are unique, the same in every release, and each extension names its add-on."""
    assert [*builtin_catalog()][-1] == "XB7ee78e97fbfaddc9616efcf040dcb27d"
    entries = builtin_catalog().values()
    items = [item for entry in entries for item in entry.extensions]
    assert len({entry.add_on.sid for entry in entries}) == len(entries)
    assert len({item.sid for item in items}) == len(items)
    for sid, entry in builtin_catalog().items():
        assert {item.available_add_on_sid for item in entry.extensions} == {sid}


def test_builtin_variety() -> None:
    """Sizes, products, prices and schemas vary; names are unique."""
    entries = builtin_catalog().values()
    assert {len(entry.extensions) for entry in entries} == {2, 3, 4, 5, 6, 7, 8}
    items = [item for entry in entries for item in entry.extensions]
    assert len({entry.add_on.friendly_name for entry in entries}) == 150
    assert len({item.product_name for item in items}) == 9
    assert len({entry.add_on.pricing_type for entry in entries}) >= 8
    assert any(entry.add_on.configuration_schema is None for entry in entries)


def test_json_round_trip() -> None:
    """The JSON text of a catalogue makes an equal one."""
    catalog = builtin_catalog()
    assert Catalog.from_json(catalog.to_json()) == catalog


def test_from_json(tmp_path: Path) -> None:
    """A catalogue is read from a file, text, bytes or parsed JSON; URLs are ignored."""
    document = {
        "available_add_ons": [
            {
                "sid": XB,
                "friendly_name": "One",
                "url": "https://marketplace.twilio.com/ignored",
                "links": {"extensions": "https://marketplace.twilio.com/ignored"},
                "unknown": 1,
                "extensions": [{"sid": XF, "unique_name": "voice-incoming"}],
            }
        ]
    }
    text = json.dumps(document)
    file = tmp_path / "catalog.json"
    file.write_text(text)
    extensions = (Extension(XF, XB, unique_name="voice-incoming"),)
    expected = Catalog([CatalogEntry(AvailableAddOn(XB, "One"), extensions)])
    for source in (file, text, text.encode(), document):
        assert Catalog.from_json(source) == expected


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "object"),
        ({"available_add_ons": [None]}, r"\$\.available_add_ons\[0\]"),
        ({"available_add_ons": [{"sid": XB, "friendly_name": 3}]}, "friendly_name"),
        ({"available_add_ons": [{"sid": XB, "extensions": [{"sid": 5}]}]}, r"extensions\[0\]\.sid"),
        ({"available_add_ons": [{"sid": "XB1"}]}, "XB1"),
        ({"available_add_ons": [{"sid": XB, "extensions": [{"sid": XB}]}]}, XB),
        ({"available_add_ons": [{"sid": XB}, {"sid": XB}]}, "two add-ons"),
    ],
)
def test_from_invalid_json(document: Any, message: str) -> None:
    """If the JSON is not a catalogue, the error says where."""
    with pytest.raises(ValueError, match=message):
        Catalog.from_json(json.dumps(document))


def test_build_defaults() -> None:
    """Built entries have new SIDs, and no extensions by default."""
    first, second = add_on(extensions=3), add_on()
    assert first.add_on.sid != second.add_on.sid
    assert len({item.sid for item in first.extensions}) == 3
    assert second.extensions == ()


def test_build_fields() -> None:
    """Built entries have the given fields."""
    entry = add_on(XB, friendly_name="Mine", extensions=[extension(XF, unique_name="own")])
    assert (entry.add_on.sid, entry.add_on.friendly_name) == (XB, "Mine")
    (only,) = entry.extensions
    assert (only.sid, only.unique_name, only.available_add_on_sid) == (XF, "own", XB)
    assert (entry.extension(XF), entry.extension(XB)) == (only, None)
