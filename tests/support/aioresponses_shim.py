"""aioresponses, repaired for aiohttp 3.14.

`aioresponses` 0.7.9 omits aiohttp's argument ``stream_writer``. When `test_requests.py` finds that
a newer one does not, this module can be deleted.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from aiohttp import ClientResponse
from aioresponses import aioresponses

__all__ = ["mocked_responses"]


class _Response(ClientResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=mock.Mock(), **kwargs)


@contextmanager
def mocked_responses() -> Generator[aioresponses]:
    """Replace the responses of all aiohttp sessions by those of the yielded `aioresponses`."""
    with mock.patch("aioresponses.core.ClientResponse", _Response), aioresponses() as mocked:
        yield mocked
