"""The catalogue of a sandbox: Available Add-ons, each with its Extensions."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sids import require_sid

__all__ = ["Catalog", "CatalogEntry", "add_on", "extension"]


@attrs.frozen
class CatalogEntry:
    """An Available Add-on and its Extensions.

    ``url`` and ``links`` may be ``None``: responses have URLs of their own.
    """

    add_on: AvailableAddOn
    """The add-on."""

    extensions: tuple[Extension, ...] = ()
    """Its extensions, in the order in which they are listed."""

    def extension(self, sid: str) -> Extension | None:
        """Return the extension with this SID, None if there is none."""
        return next((item for item in self.extensions if item.sid == sid), None)


class Catalog(Mapping[str, CatalogEntry]):
    """A mapping of entries by the SID of their add-on, in the order in which they are listed.

    :raises ValueError: two entries have the same SID.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[CatalogEntry]) -> None:
        self._entries: dict[str, CatalogEntry] = {}
        for entry in entries:
            if entry.add_on.sid in self._entries:
                raise ValueError(f"two add-ons have the SID {entry.add_on.sid}")
            self._entries[entry.add_on.sid] = entry

    def __getitem__(self, sid: str) -> CatalogEntry:
        return self._entries[sid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Catalog of {len(self)} add-ons>"

    @classmethod
    def from_json(cls, source: os.PathLike[str] | str | bytes | Mapping[str, Any]) -> "Catalog":
        """Read a catalogue from a file (a path object), JSON text, or parsed JSON.

        The format is that of the API's responses, with the extensions inside their add-on::

            {"available_add_ons": [
                {"sid": "XB…", "friendly_name": "…", "extensions": [
                    {"sid": "XF…", "unique_name": "voice-incoming"}
                ]}
            ]}

        Only the SIDs are required. Unknown fields, ``url`` and ``links`` are ignored.

        :raises OSError: the file cannot be read.
        :raises ValueError: the text is not JSON or does not have this format, a SID is
            invalid, or two add-ons have the same.
        """
        if isinstance(source, Mapping):
            document = msgspec.convert(source, _Document)
        else:
            text = Path(source).read_bytes() if isinstance(source, os.PathLike) else source
            document = msgspec.json.decode(text, type=_Document)
        return cls(map(_entry, document.available_add_ons))

    def to_json(self) -> bytes:
        """Return JSON text from which `from_json` makes an equal catalogue."""
        add_ons = [
            {**entry.add_on.to_dict(), "extensions": [item.to_dict() for item in entry.extensions]}
            for entry in self.values()
        ]
        return msgspec.json.encode({"available_add_ons": add_ons})


class _Extension(msgspec.Struct):
    sid: str
    friendly_name: str | None = None
    product_name: str | None = None
    unique_name: str | None = None


class _AddOn(msgspec.Struct):
    sid: str
    friendly_name: str | None = None
    description: str | None = None
    pricing_type: str | None = None
    configuration_schema: Any = None
    extensions: list[_Extension] = []


class _Document(msgspec.Struct):
    available_add_ons: list[_AddOn]


def _entry(item: _AddOn) -> CatalogEntry:
    sid = require_sid(prefix="XB", value=item.sid)
    return CatalogEntry(
        AvailableAddOn(
            sid, item.friendly_name, item.description, item.pricing_type, item.configuration_schema
        ),
        tuple(
            Extension(
                require_sid(prefix="XF", value=raw.sid),
                sid,
                raw.friendly_name,
                raw.product_name,
                raw.unique_name,
            )
            for raw in item.extensions
        ),
    )


_numbers: Final = itertools.count(1)


def extension(sid: str | None = None, **fields: Any) -> Extension:
    """Build an extension for `add_on`, which sets its ``available_add_on_sid``.

    The default SID is a new one; other fields have plausible defaults.
    """
    number = next(_numbers)
    built = Extension(
        sid or f"XF{number:032x}",
        "XB" + 32 * "0",
        f"Feature {number}",
        "Programmable Voice",
        f"voice-feature-{number}",
    )
    return attrs.evolve(built, **fields)


def add_on(
    sid: str | None = None, *, extensions: int | Iterable[Extension] = 0, **fields: Any
) -> CatalogEntry:
    """Build an entry of a `Catalog`.

    The default SID is a new one; other fields of the `AvailableAddOn` have plausible defaults.
    ``extensions`` is the number of extensions to build, or the extensions themselves; their
    ``available_add_on_sid`` becomes this add-on's.
    """
    number = next(_numbers)
    sid = sid or f"XB{number:032x}"
    built = AvailableAddOn(sid, f"Add-on {number}", "A fictional add-on.", "per request")
    if isinstance(extensions, int):
        extensions = [extension() for _ in range(extensions)]
    return CatalogEntry(
        attrs.evolve(built, **fields),
        tuple(attrs.evolve(item, available_add_on_sid=sid) for item in extensions),
    )
