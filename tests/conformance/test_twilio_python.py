"""The sandbox against the vendor's own client, synchronous and asynchronous."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from marketplace_async.models import AvailableAddOn, Extension
from marketplace_async.sandbox import Sandbox, builtin_catalog
from marketplace_async.settings import CANONICAL_ORIGIN

# Not typed, and so Any.
rest = pytest.importorskip("twilio.rest", reason="twilio is not installed")
sync_http = pytest.importorskip("twilio.http.http_client")
async_http = pytest.importorskip("twilio.http.async_http_client")
exceptions = pytest.importorskip("twilio.base.exceptions")

# It authenticates in a way that aiohttp means to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ADD_ON_SID, EXTENSION_SID = "XB" + 32 * "a", "XF" + 32 * "a"


def at(sandbox: Sandbox, url: str) -> str:
    """Turn a URL of Twilio's into the sandbox's."""
    asked = URL(url, encoded=True)
    assert asked.origin() == CANONICAL_ORIGIN
    return sandbox.url + asked.raw_path_qs


def pointed_at(sandbox: Sandbox, http: Any) -> Any:
    """Let an HTTP client of the vendor's, sync or async, ask the sandbox in Twilio's place."""
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
    async with Sandbox(public_base_url=str(CANONICAL_ORIGIN)) as running:
        yield running


@pytest.fixture
async def asynchronous(sandbox: Sandbox) -> AsyncIterator[Any]:
    async with async_http.AsyncTwilioHttpClient() as http:
        yield client(sandbox, pointed_at(sandbox, http))


@pytest.fixture
def synchronous(sandbox: Sandbox) -> Any:
    return client(sandbox, pointed_at(sandbox, sync_http.TwilioHttpClient()))


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
    synchronous: Any, page_size: int
) -> None:
    def read() -> Any:
        add_ons = synchronous.marketplace.v1.available_add_ons
        return [
            (add_on(found), tuple(map(extension, add_ons(found.sid).extensions.list(page_size=3))))
            for found in add_ons.stream(page_size=page_size)
        ]

    assert await asyncio.to_thread(read) == EXPECTED


@pytest.mark.parametrize("page_size", PAGE_SIZES)
async def test_the_asynchronous_client_pages_through_the_whole_catalogue(
    asynchronous: Any, page_size: int
) -> None:
    add_ons = asynchronous.marketplace.v1.available_add_ons
    read: list[Any] = []
    async for found in await add_ons.stream_async(page_size=page_size):
        extensions = await add_ons(found.sid).extensions.list_async(page_size=3)
        read.append((add_on(found), tuple(map(extension, extensions))))
    assert read == EXPECTED


async def test_the_synchronous_client_turns_pages_back(synchronous: Any) -> None:
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


async def test_the_synchronous_client_fetches(synchronous: Any) -> None:
    def read() -> Any:
        handle = synchronous.marketplace.v1.available_add_ons(ADD_ON_SID)
        return add_on(handle.fetch()), extension(handle.extensions(EXTENSION_SID).fetch())

    entry = builtin_catalog()[ADD_ON_SID]
    assert await asyncio.to_thread(read) == (entry.add_on, entry.extensions[0])


async def test_the_asynchronous_client_fetches(asynchronous: Any) -> None:
    handle = asynchronous.marketplace.v1.available_add_ons(ADD_ON_SID)
    entry = builtin_catalog()[ADD_ON_SID]
    assert add_on(await handle.fetch_async()) == entry.add_on
    found = await handle.extensions(EXTENSION_SID).fetch_async()
    assert extension(found) == entry.extensions[0]


async def test_the_vendors_client_understands_the_errors(asynchronous: Any) -> None:
    handle = asynchronous.marketplace.v1.available_add_ons("XB" + 32 * "0")
    with pytest.raises(exceptions.TwilioRestException) as caught:
        await handle.fetch_async()
    assert (caught.value.status, caught.value.code) == (404, 20404)

    stranger = rest.Client("stranger", "wrong", http_client=asynchronous.http_client)
    with pytest.raises(exceptions.TwilioRestException) as caught:
        await stranger.marketplace.v1.available_add_ons(ADD_ON_SID).fetch_async()
    assert (caught.value.status, caught.value.code) == (401, 20003)
