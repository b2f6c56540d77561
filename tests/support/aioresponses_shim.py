"""aioresponses, mended for aiohttp 3.14.

`aioresponses` 0.7.9 makes responses without the ``stream_writer`` that aiohttp now asks for.
`test_requests.py` has a test that fails as soon as it does, and then this module can go.
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
    """Answer the requests of all aiohttp sessions as the `aioresponses` that is given says."""
    with mock.patch("aioresponses.core.ClientResponse", _Response), aioresponses() as mocked:
        yield mocked
