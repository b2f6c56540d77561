"""What a sandbox serves: Available Add-ons, each with its Extensions."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from marketplace_async.conversion import converter, structurer
from marketplace_async.errors import InvalidResponseError
from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sids import available_add_on_sid, extension_sid

__all__ = ["Catalog", "CatalogEntry", "add_on", "derived_sid", "extension"]


def _settled(extensions: Sequence[Extension]) -> Sequence[Extension]:
    return tuple(extensions) if isinstance(extensions, list) else extensions


def _index(entry: "CatalogEntry") -> Mapping[str, Extension] | None:
    if isinstance(entry.extensions, tuple):
        return {item.sid: item for item in entry.extensions}
    return None


@attrs.frozen
class CatalogEntry:
    """An Available Add-on and its Extensions.

    ``url`` and ``links`` are left ``None``: they depend on the server's address, and the
    server fills them in when it answers.
    """

    add_on: AvailableAddOn
    """The add-on itself."""

    extensions: Sequence[Extension] = attrs.field(default=(), converter=_settled)
    """Its extensions, in the order in which they are listed.

    Any sequence will do. One that makes its items on demand is served a page at a time and
    never held as a whole; fetching a single extension then looks through it in order.
    """

    _by_sid: Mapping[str, Extension] | None = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_index, takes_self=True)
    )

    def extension(self, sid: str) -> Extension | None:
        """Give the extension of this SID, ``None`` if there is none."""
        if self._by_sid is not None:
            return self._by_sid.get(sid)
        return next((item for item in self.extensions if item.sid == sid), None)


class Catalog(Mapping[str, CatalogEntry]):
    """Entries by the SID of their add-on, in the order in which they are listed.

    :raises ValueError: two entries have the same SID.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[CatalogEntry]) -> None:
        self._entries: dict[str, CatalogEntry] = {}
        for entry in entries:
            if entry.add_on.sid in self._entries:
                raise ValueError(f"two add-ons of the catalogue have the SID {entry.add_on.sid}")
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
        """Make a catalogue from a file (a path object), JSON text, or what such text parses to.

        The shape is that of the API's own answers, extensions inside of their add-on::

            {"available_add_ons": [
                {"sid": "XB…", "friendly_name": "…", "extensions": [
                    {"sid": "XF…", "unique_name": "voice-incoming"}
                ]}
            ]}

        Only the SIDs are required. Unknown fields, ``url`` and ``links`` are ignored.

        :raises OSError: the file cannot be read.
        :raises ValueError: the text is not JSON or not of this shape, a SID is malformed or
            given twice, or an extension names another add-on as its own.
        """
        if isinstance(source, os.PathLike):
            source = Path(source).read_bytes()
        elif isinstance(source, str):
            source = source.encode()
        elif isinstance(source, Mapping):
            source = msgspec.json.encode(source)
        try:
            document: _Document = structurer(_Document)(source)
        except InvalidResponseError as error:
            raise ValueError(f"this is no catalogue: {error}") from error
        return cls(map(_entry, document.available_add_ons))

    def to_json(self) -> bytes:
        """Give the JSON text from which `from_json` makes an equal catalogue."""
        return msgspec.json.encode(
            {
                "available_add_ons": [
                    {
                        **_given(entry.add_on),
                        "extensions": [_given(item) for item in entry.extensions],
                    }
                    for entry in self.values()
                ]
            }
        )


@attrs.frozen
class _ListedExtension(Extension):
    available_add_on_sid: str = ""


@attrs.frozen
class _ListedAddOn(AvailableAddOn):
    extensions: tuple[_ListedExtension, ...] = ()


@attrs.frozen
class _Document:
    available_add_ons: tuple[_ListedAddOn, ...]


def _given(model: AvailableAddOn | Extension) -> dict[str, Any]:
    fields: dict[str, Any] = converter.unstructure(model)
    return {name: value for name, value in fields.items() if value is not None}


def _entry(listed: _ListedAddOn) -> CatalogEntry:
    sid = available_add_on_sid(listed.sid)
    extensions: dict[str, Extension] = {}
    for item in listed.extensions:
        if item.available_add_on_sid not in ("", sid):
            raise ValueError(f"{item.sid} is listed under {sid} and names another add-on")
        if item.sid in extensions:
            raise ValueError(f"two extensions of {sid} have the SID {item.sid}")
        extensions[item.sid] = Extension(
            extension_sid(item.sid), sid, item.friendly_name, item.product_name, item.unique_name
        )
    return CatalogEntry(
        AvailableAddOn(
            sid,
            listed.friendly_name,
            listed.description,
            listed.pricing_type,
            listed.configuration_schema,
        ),
        tuple(extensions.values()),
    )


def derived_sid(prefix: str, *names: object) -> str:
    """Give the SID that always belongs to these names: ``prefix`` and 32 hexadecimal digits."""
    text = "/".join(map(str, names))
    return prefix + blake2b(text.encode(), digest_size=16).hexdigest()


_NAMELESS: Final = "XB" + 32 * "0"
_numbers: Final = itertools.count(1)

# The names of Twilio's products; of each the feature that an extension describes.
_USUAL: Final = (
    ("voice-incoming", "Incoming Voice Call", "Programmable Voice"),
    ("messaging-incoming", "Incoming Message", "Programmable Messaging"),
    ("lookup-phone-number", "Phone Number Lookup", "Lookup"),
    ("voice-recording", "Voice Recording", "Programmable Voice"),
    ("conversations-message", "Conversation Message", "Conversations"),
)


def extension(sid: str | None = None, **fields: Any) -> Extension:
    """Build an extension for `add_on`, which makes it its own.

    A SID that is not given is a fresh one; other fields that are not given are plausible.
    """
    number = next(_numbers)
    unique_name, friendly_name, product_name = _USUAL[number % len(_USUAL)]
    usual = Extension(
        sid or derived_sid("XF", number), _NAMELESS, friendly_name, product_name, unique_name
    )
    return attrs.evolve(usual, **fields) if fields else usual


def add_on(
    sid: str | None = None, *, extensions: int | Sequence[Extension] = 0, **fields: Any
) -> CatalogEntry:
    """Build an entry of a `Catalog`.

    A SID that is not given is a fresh one; other fields of the `AvailableAddOn` that are not
    given are plausible. ``extensions`` is how many to make, or the extensions themselves:
    a list or tuple of them is made this add-on's own, any other sequence is taken as it is.
    """
    number = next(_numbers)
    sid = sid or derived_sid("XB", number)
    usual = AvailableAddOn(sid, f"Add-on {number}", "Does what it is asked to.", "per request")
    if isinstance(extensions, int):
        extensions = [extension() for _ in range(extensions)]
    if isinstance(extensions, list | tuple):
        extensions = tuple(attrs.evolve(item, available_add_on_sid=sid) for item in extensions)
    return CatalogEntry(attrs.evolve(usual, **fields) if fields else usual, extensions)
