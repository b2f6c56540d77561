import json
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import pytest

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sandbox import (
    Catalog,
    CatalogEntry,
    add_on,
    builtin_catalog,
    extension,
)
from marketplace_async.sids import available_add_on_sid, extension_sid

XB, XF = "XB" + 32 * "1", "XF" + 32 * "2"


class OnDemand(Sequence[Extension]):
    """A million extensions of which none is held; counts those that were made."""

    def __init__(self) -> None:
        self.made = 0

    def __len__(self) -> int:
        return 1_000_000

    @overload
    def __getitem__(self, index: int) -> Extension: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Extension]: ...
    def __getitem__(self, index: int | slice) -> Extension | Sequence[Extension]:
        assert isinstance(index, int)
        if not 0 <= index < len(self):
            raise IndexError(index)
        self.made += 1
        return Extension(f"XF{index:032x}", XB)


def test_the_builtin_catalogue_has_150_add_ons_with_2_to_8_extensions_each() -> None:
    catalog = builtin_catalog()
    assert len(catalog) == 150
    assert {len(entry.extensions) for entry in catalog.values()} == set(range(2, 9))


def test_the_builtin_catalogue_begins_with_the_sample_of_twilios_documentation() -> None:
    sid, entry = next(iter(builtin_catalog().items()))
    assert sid == "XB" + 32 * "a"
    assert entry.add_on.friendly_name == "VoiceBase High Accuracy Transcription"
    assert entry.extensions[0] == Extension(
        "XF" + 32 * "a", sid, "Incoming Voice Call", "Programmable Voice", "voice-incoming"
    )


def test_every_sid_of_the_builtin_catalogue_is_well_formed_and_unique() -> None:
    entries = builtin_catalog().values()
    sids = [available_add_on_sid(entry.add_on.sid) for entry in entries]
    sids += [extension_sid(item.sid) for entry in entries for item in entry.extensions]
    assert len(sids) == len(set(sids))


def test_every_builtin_extension_names_its_add_on() -> None:
    for sid, entry in builtin_catalog().items():
        assert {item.available_add_on_sid for item in entry.extensions} == {sid}


def test_the_builtin_catalogue_is_varied() -> None:
    entries = builtin_catalog().values()
    items = [item for entry in entries for item in entry.extensions]
    assert len({entry.add_on.friendly_name for entry in entries}) == 150
    assert len({item.product_name for item in items}) >= 9
    assert len({item.unique_name for item in items}) >= 20
    assert len({entry.add_on.pricing_type for entry in entries}) >= 8
    assert any(entry.add_on.configuration_schema is None for entry in entries)


def test_the_builtin_catalogue_is_the_same_in_every_release() -> None:
    last = list(builtin_catalog())[-1]
    assert last == "XB7ee78e97fbfaddc9616efcf040dcb27d"


def test_a_catalogue_survives_json() -> None:
    catalog = builtin_catalog()
    assert Catalog.from_json(catalog.to_json()) == catalog


DOCUMENT = {
    "available_add_ons": [
        {
            "sid": XB,
            "friendly_name": "One",
            "url": "https://marketplace.twilio.com/ignored",
            "links": {"extensions": "https://marketplace.twilio.com/ignored"},
            "surprise": 1,
            "extensions": [{"sid": XF, "unique_name": "voice-incoming"}],
        }
    ]
}


def test_a_catalogue_is_made_from_a_file_text_bytes_or_what_they_parse_to(tmp_path: Path) -> None:
    text = json.dumps(DOCUMENT)
    file = tmp_path / "catalog.json"
    file.write_text(text)
    expected = Catalog(
        [CatalogEntry(AvailableAddOn(XB, "One"), [Extension(XF, XB, unique_name="voice-incoming")])]
    )
    for source in (file, text, text.encode(), DOCUMENT):
        assert Catalog.from_json(source) == expected


def listed(fields: str) -> str:
    return f'{{"available_add_ons": [{{"sid": "{XB}", {fields}}}]}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", r"expected an object, got an array @ \$"),
        ("{}", r"\$\.available_add_ons"),
        ('{"available_add_ons": {}}', r"expected an array.*\$\.available_add_ons"),
        ('{"available_add_ons": [null]}', r"\$\.available_add_ons\[0\]"),
        ('{"available_add_ons": [{}]}', r"\$\.available_add_ons\[0\]\.sid"),
        (listed('"friendly_name": 3'), r"\$\.available_add_ons\[0\]\.friendly_name"),
        (listed('"extensions": null'), r"\$\.available_add_ons\[0\]\.extensions"),
        (listed('"extensions": [{"sid": 5}]'), r"\.extensions\[0\]\.sid"),
        ('{"available_add_ons": [{"sid": "XB1"}]}', "'XB1' is not the SID of an Available Add-on"),
        (listed(f'"extensions": [{{"sid": "{XB}"}}]'), "is not the SID of an Extension"),
        (listed(f'"extensions": [{{"sid": "{XF}"}}, {{"sid": "{XF}"}}]'), "two extensions"),
        (
            listed(f'"extensions": [{{"sid": "{XF}", "available_add_on_sid": "{XF}"}}]'),
            "names another add-on",
        ),
        (f'{{"available_add_ons": [{{"sid": "{XB}"}}, {{"sid": "{XB}"}}]}}', "two add-ons"),
    ],
)
def test_text_that_is_no_catalogue_is_refused_by_saying_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Catalog.from_json(text)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Catalog.from_json(tmp_path / "none.json")


def test_built_entries_have_fresh_well_formed_sids() -> None:
    first, second = add_on(extensions=3), add_on(extensions=3)
    extensions = [*first.extensions, *second.extensions]
    assert available_add_on_sid(first.add_on.sid) != second.add_on.sid
    assert len({extension_sid(item.sid) for item in extensions}) == 6


def test_a_built_entry_is_as_it_was_asked_for() -> None:
    entry = add_on(XB, friendly_name="Mine", extensions=[extension(XF, unique_name="own")])
    assert (entry.add_on.sid, entry.add_on.friendly_name) == (XB, "Mine")
    (only,) = entry.extensions
    assert (only.sid, only.unique_name, only.available_add_on_sid) == (XF, "own", XB)


def test_a_built_entry_has_no_extensions_unless_asked() -> None:
    assert len(add_on().extensions) == 0


def test_an_extension_is_found_by_its_sid() -> None:
    entry = add_on(extensions=3)
    assert entry.extension(entry.extensions[2].sid) is entry.extensions[2]
    assert entry.extension(XF) is None


def test_an_extension_made_on_demand_is_found_by_its_sid() -> None:
    extensions = OnDemand()
    found = add_on(extensions=extensions).extension(f"XF{9:032x}")
    assert found == extensions[9]
    assert extensions.made < 20


def test_extensions_made_on_demand_are_not_made_early() -> None:
    extensions = OnDemand()
    assert add_on(extensions=extensions).extensions is extensions
    assert extensions.made == 0


def test_a_catalogue_says_its_size_not_its_contents() -> None:
    assert repr(builtin_catalog()) == "<Catalog of 150 add-ons>"
