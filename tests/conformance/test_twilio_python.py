"""Twilio's own clients, synchronous and asynchronous, use the sandbox."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sandbox import Sandbox, builtin_catalog

rest = pytest.importorskip("twilio.rest", reason="twilio is not installed")
sync_http = pytest.importorskip("twilio.http.http_client")
async_http = pytest.importorskip("twilio.http.async_http_client")
exceptions = pytest.importorskip("twilio.base.exceptions")

# They authenticate in a way that aiohttp deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ORIGIN = URL("https://marketplace.twilio.com")
ADD_ON_SID, EXTENSION_SID = "XB" + 32 * "a", "XF" + 32 * "a"


def at(sandbox: Sandbox, url: str) -> str:
    """Return the sandbox's URL for a URL of Twilio."""
    requested = URL(url, encoded=True)
    assert requested.origin() == ORIGIN
    return sandbox.url + requested.raw_path_qs


def pointed_at(sandbox: Sandbox, http: Any) -> Any:
    """Send the requests of an HTTP client of Twilio to the sandbox."""
    request = http.request

    def request_of_sandbox(method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return request(method, at(sandbox, url), *args, **kwargs)

    http.request = request_of_sandbox
    return http


def client(sandbox: Sandbox, http: Any) -> Any:
    credentials = sandbox.credentials
    return rest.Client(credentials.username, credentials.password, http_client=http)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(public_base_url=str(ORIGIN)) as running:
        yield running


@pytest.fixture
async def asynchronous(sandbox: Sandbox) -> AsyncIterator[Any]:
    async with async_http.AsyncTwilioHttpClient() as http:
        yield client(sandbox, pointed_at(sandbox, http))


@pytest.fixture
def synchronous(sandbox: Sandbox) -> Any:
    return client(sandbox, pointed_at(sandbox, sync_http.TwilioHttpClient()))


def add_on(found: Any) -> AvailableAddOn:
    assert found.url == f"{ORIGIN}/v1/AvailableAddOns/{found.sid}"
    assert found.links == {"extensions": f"{found.url}/Extensions"}
    return AvailableAddOn(
        found.sid,
        found.friendly_name,
        found.description,
        found.pricing_type,
        found.configuration_schema,
    )


def extension(found: Any) -> Extension:
    parent = f"{ORIGIN}/v1/AvailableAddOns/{found.available_add_on_sid}"
    assert found.url == f"{parent}/Extensions/{found.sid}"
    return Extension(
        found.sid,
        found.available_add_on_sid,
        found.friendly_name,
        found.product_name,
        found.unique_name,
    )


EXPECTED = [(entry.add_on, entry.extensions) for entry in builtin_catalog().values()]
PAGE_SIZES = [7, 50, 1000]


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_stream(synchronous: Any, page_size: int) -> None:
    """The synchronous client of Twilio lists the whole catalogue."""

    def read() -> Any:
        add_ons = synchronous.marketplace.v1.available_add_ons
        return [
            (add_on(found), tuple(map(extension, add_ons(found.sid).extensions.list(page_size=3))))
            for found in add_ons.stream(page_size=page_size)
        ]

    assert await asyncio.to_thread(read) == EXPECTED


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_stream_async(asynchronous: Any, page_size: int) -> None:
    """The asynchronous client of Twilio lists the whole catalogue."""
    add_ons = asynchronous.marketplace.v1.available_add_ons
    read: list[Any] = []
    async for found in await add_ons.stream_async(page_size=page_size):
        extensions = await add_ons(found.sid).extensions.list_async(page_size=3)
        read.append((add_on(found), tuple(map(extension, extensions))))
    assert read == EXPECTED


async def test_previous_pages(synchronous: Any) -> None:
    """Previous pages are the pages of the way forward."""

    def read() -> list[list[str]]:
        page: Any = synchronous.marketplace.v1.available_add_ons.page(page_size=60)
        forward: list[Any] = [page]
        backward: list[list[str]] = []
        while page := page.next_page():
            forward.append(page)
        page = forward[-1]
        while page := page.previous_page():
            backward.append([item.sid for item in page])
        assert backward[::-1] == [[item.sid for item in page] for page in forward[:-1]]
        return backward

    assert len(await asyncio.to_thread(read)) == 2


async def test_fetch(synchronous: Any) -> None:
    """The synchronous client fetches an Add-on and an Extension."""

    def read() -> Any:
        handle = synchronous.marketplace.v1.available_add_ons(ADD_ON_SID)
        return add_on(handle.fetch()), extension(handle.extensions(EXTENSION_SID).fetch())

    entry = builtin_catalog()[ADD_ON_SID]
    assert await asyncio.to_thread(read) == (entry.add_on, entry.extensions[0])


async def test_fetch_async(asynchronous: Any) -> None:
    """The asynchronous client fetches an Add-on and an Extension."""
    handle = asynchronous.marketplace.v1.available_add_ons(ADD_ON_SID)
    entry = builtin_catalog()[ADD_ON_SID]
    assert add_on(await handle.fetch_async()) == entry.add_on
    found = await handle.extensions(EXTENSION_SID).fetch_async()
    assert extension(found) == entry.extensions[0]


async def test_errors(asynchronous: Any) -> None:
    """Errors of the sandbox have the status and code that the client reads."""
    handle = asynchronous.marketplace.v1.available_add_ons("XB" + 32 * "0")
    with pytest.raises(exceptions.TwilioRestException) as caught:
        await handle.fetch_async()
    assert (caught.value.status, caught.value.code) == (404, 20404)

    stranger = rest.Client("stranger", "wrong", http_client=asynchronous.http_client)
    with pytest.raises(exceptions.TwilioRestException) as caught:
        await stranger.marketplace.v1.available_add_ons(ADD_ON_SID).fetch_async()
    assert (caught.value.status, caught.value.code) == (401, 20003)
