"""The sandbox against the vendor's own client, synchronous and asynchronous."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sandbox import Sandbox, builtin_catalog
from marketplace_async.settings import CANONICAL_ORIGIN

pytest.importorskip("twilio", reason="twilio is not installed")

from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

# It authenticates in a way that aiohttp means to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ADD_ON_SID, EXTENSION_SID = "XB" + 32 * "a", "XF" + 32 * "a"


def at(sandbox: Sandbox, url: str) -> str:
    """Turn a URL of Twilio's into the sandbox's."""
    asked = URL(url, encoded=True)
    assert asked.origin() == CANONICAL_ORIGIN
    return sandbox.url + asked.raw_path_qs


class HttpClient(TwilioHttpClient):
    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self.sandbox = sandbox

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super().request(method, at(self.sandbox, url), *args, **kwargs)


class AsyncHttpClient(AsyncTwilioHttpClient):
    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self.sandbox = sandbox

    async def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return await super().request(method, at(self.sandbox, url), *args, **kwargs)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(public_base_url=str(CANONICAL_ORIGIN)) as running:
        yield running


@pytest.fixture
async def asynchronous(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with AsyncHttpClient(sandbox) as http:
        yield Client(sandbox.credentials.username, sandbox.credentials.password, http_client=http)


@pytest.fixture
def synchronous(sandbox: Sandbox) -> Client:
    return Client(
        sandbox.credentials.username,
        sandbox.credentials.password,
        http_client=HttpClient(sandbox),
    )


def add_on(given: Any) -> AvailableAddOn:
    assert given.url == f"{CANONICAL_ORIGIN}/v1/AvailableAddOns/{given.sid}"
    assert given.links == {"extensions": f"{given.url}/Extensions"}
    return AvailableAddOn(
        given.sid,
        given.friendly_name,
        given.description,
        given.pricing_type,
        given.configuration_schema,
    )


def extension(given: Any) -> Extension:
    parent = f"{CANONICAL_ORIGIN}/v1/AvailableAddOns/{given.available_add_on_sid}"
    assert given.url == f"{parent}/Extensions/{given.sid}"
    return Extension(
        given.sid,
        given.available_add_on_sid,
        given.friendly_name,
        given.product_name,
        given.unique_name,
    )


EXPECTED = [(entry.add_on, entry.extensions) for entry in builtin_catalog().values()]
PAGE_SIZES = [7, 50, 1000]


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_the_synchronous_client_pages_through_the_whole_catalogue(
    synchronous: Client, page_size: int
):
    def read() -> Any:
        add_ons = synchronous.marketplace.v1.available_add_ons
        return [
            (add_on(found), tuple(map(extension, add_ons(found.sid).extensions.list(page_size=3))))
            for found in add_ons.stream(page_size=page_size)
        ]

    assert await asyncio.to_thread(read) == EXPECTED


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_the_asynchronous_client_pages_through_the_whole_catalogue(
    asynchronous: Client, page_size: int
):
    add_ons = asynchronous.marketplace.v1.available_add_ons
    read = []
    async for found in await add_ons.stream_async(page_size=page_size):
        extensions = await add_ons(found.sid).extensions.list_async(page_size=3)
        read.append((add_on(found), tuple(map(extension, extensions))))
    assert read == EXPECTED


async def test_the_synchronous_client_turns_pages_back(synchronous: Client):
    def read() -> list[list[str]]:
        page: Any = synchronous.marketplace.v1.available_add_ons.page(page_size=60)
        forward, backward = [page], []
        while page := page.next_page():
            forward.append(page)
        page = forward[-1]
        while page := page.previous_page():
            backward.append([item.sid for item in page])
        assert backward[::-1] == [[item.sid for item in page] for page in forward[:-1]]
        return backward

    assert len(await asyncio.to_thread(read)) == 2


async def test_the_synchronous_client_fetches(synchronous: Client):
    def read() -> Any:
        handle = synchronous.marketplace.v1.available_add_ons(ADD_ON_SID)
        return add_on(handle.fetch()), extension(handle.extensions(EXTENSION_SID).fetch())

    entry = builtin_catalog()[ADD_ON_SID]
    assert await asyncio.to_thread(read) == (entry.add_on, entry.extensions[0])


async def test_the_asynchronous_client_fetches(asynchronous: Client):
    handle = asynchronous.marketplace.v1.available_add_ons(ADD_ON_SID)
    entry = builtin_catalog()[ADD_ON_SID]
    assert add_on(await handle.fetch_async()) == entry.add_on
    found = await handle.extensions(EXTENSION_SID).fetch_async()
    assert extension(found) == entry.extensions[0]


async def test_the_vendors_client_understands_the_errors(asynchronous: Client):
    handle = asynchronous.marketplace.v1.available_add_ons("XB" + 32 * "0")
    with pytest.raises(TwilioRestException) as caught:
        await handle.fetch_async()
    assert (caught.value.status, caught.value.code) == (404, 20404)

    stranger = Client("stranger", "wrong", http_client=asynchronous.http_client)
    with pytest.raises(TwilioRestException) as caught:
        await stranger.marketplace.v1.available_add_ons(ADD_ON_SID).fetch_async()
    assert (caught.value.status, caught.value.code) == (401, 20003)
