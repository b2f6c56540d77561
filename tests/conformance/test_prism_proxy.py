"""The client uses the sandbox through Prism, which checks each request and response."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import attrs
import pytest

from marketplace_async import MarketplaceSession, RetryPolicy, ServerError, open_session
from marketplace_async.sandbox import Sandbox, builtin_catalog

XB, XF = "XB" + 32 * "a", "XF" + 32 * "a"


class Proxy(NamedTuple):
    url: str
    upstream_port: int


@pytest.fixture(scope="module")
def proxy(description: Path, prism: Callable[..., str], free_port: Callable[[], int]) -> Proxy:
    upstream_port = free_port()
    upstream = f"http://127.0.0.1:{upstream_port}"
    # --errors: a violation of the description becomes a 500.
    url = prism(free_port(), "proxy", "--errors", str(description), upstream)
    return Proxy(url, upstream_port)


@pytest.fixture
async def sandbox(proxy: Proxy) -> AsyncIterator[Sandbox]:
    async with Sandbox(port=proxy.upstream_port, public_base_url=proxy.url) as running:
        yield running


@pytest.fixture
async def marketplace(proxy: Proxy, sandbox: Sandbox) -> AsyncIterator[MarketplaceSession]:
    async with open_session(
        sandbox.credentials, base_url=proxy.url, retry=RetryPolicy.off()
    ) as session:
        yield session


@pytest.mark.parametrize("page_size", [40, 1000])
async def test_list_add_ons(marketplace: MarketplaceSession, proxy: Proxy, page_size: int) -> None:
    """Listing all Add-ons violates nothing."""
    listed = await marketplace.available_add_ons.list(page_size=page_size)
    expected = [entry.add_on for entry in builtin_catalog().values()]
    assert [attrs.evolve(add_on, url=None, links=None) for add_on in listed] == expected
    assert all(add_on.url == f"{proxy.url}/v1/AvailableAddOns/{add_on.sid}" for add_on in listed)


async def test_list_extensions(marketplace: MarketplaceSession) -> None:
    """Listing all Extensions violates nothing."""
    read = {}
    async with marketplace.extensions_across(builtin_catalog(), max_in_flight=8) as outcomes:
        async for outcome in outcomes:
            extensions = outcome.unwrap()
            read[outcome.input] = tuple(attrs.evolve(item, url=None) for item in extensions)
    assert read == {sid: entry.extensions for sid, entry in builtin_catalog().items()}


async def test_pages(marketplace: MarketplaceSession) -> None:
    """Following pages and resuming from one violates nothing."""
    extensions = marketplace.available_add_ons(XB).extensions
    first, second = [page async for page in extensions.list(page_size=1).pages()]
    resumed = await extensions.list(resume_from=first.next_page_url)
    assert resumed == list(second.items)
    assert second.next_page_url is None


async def test_fetch(marketplace: MarketplaceSession) -> None:
    """Fetching single resources violates nothing."""
    entry = builtin_catalog()[XB]
    handle = marketplace.available_add_ons(XB)
    assert attrs.evolve(await handle.fetch(), url=None, links=None) == entry.add_on
    found = await handle.extensions(XF).fetch()
    assert attrs.evolve(found, url=None) == entry.extensions[0]


async def test_violation(marketplace: MarketplaceSession, sandbox: Sandbox) -> None:
    """If a response violates the description, Prism turns it into a 500."""
    sandbox.fail_next(200, body='{"sid": "XF1"}')
    with pytest.raises(ServerError) as caught:
        await marketplace.available_add_ons(XB).extensions(XF).fetch()
    assert caught.value.status == 500
    assert sandbox.requests[-1].status == 200
