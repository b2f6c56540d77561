"""The client uses Prism, a mock server generated from Twilio's API description."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from marketplace_async import (
    AuthenticationError,
    AvailableAddOn,
    Credentials,
    Extension,
    InvalidResponseError,
    InvalidSidError,
    MarketplaceSession,
    RetryPolicy,
    open_session,
)

XB, XF = "XB" + 32 * "a", "XF" + 32 * "a"
ORIGIN = "https://marketplace.twilio.com"
CREDENTIALS = Credentials("AC" + 32 * "a", "any password")

EXTENSION = Extension(
    sid=XF,
    available_add_on_sid=XB,
    friendly_name="Incoming Voice Call",
    product_name="Programmable Voice",
    unique_name="voice-incoming",
    url=f"{ORIGIN}/v1/AvailableAddOns/{XB}/Extensions/{XF}",
)
ADD_ON = AvailableAddOn(
    sid=XB,
    friendly_name="VoiceBase High Accuracy Transcription",
    description="Automatic Transcription and Keyword Extract...",
    pricing_type="per minute",
    configuration_schema={
        "type": "object",
        "properties": {"bad_words": {"type": "boolean"}},
        "required": ["bad_words"],
    },
    url=f"{ORIGIN}/v1/AvailableAddOns/{XB}",
    links={"extensions": f"{ORIGIN}/v1/AvailableAddOns/{XB}/Extensions"},
)


@pytest.fixture(scope="module")
def mock(description: Path, prism: Callable[..., str], free_port: Callable[[], int]) -> str:
    return prism(free_port(), "mock", str(description))


def marketplace_at(url: str, http: aiohttp.ClientSession | None = None) -> MarketplaceSession:
    return open_session(CREDENTIALS, base_url=url, http=http, retry=RetryPolicy.off())


@pytest.fixture
async def marketplace(mock: str) -> AsyncIterator[MarketplaceSession]:
    async with marketplace_at(mock) as session:
        yield session


@pytest.fixture
async def empty(mock: str) -> AsyncIterator[MarketplaceSession]:
    """A session that prefers the examples of empty lists."""
    async with (
        aiohttp.ClientSession(headers={"Prefer": "example=readEmpty"}) as http,
        marketplace_at(mock, http) as session,
    ):
        yield session


async def test_fetch_extension(marketplace: MarketplaceSession) -> None:
    """The example of an Extension is read."""
    assert await marketplace.available_add_ons(XB).extensions(XF).fetch() == EXTENSION


async def test_fetch_add_on(marketplace: MarketplaceSession) -> None:
    """The example of an Available Add-on is read."""
    assert await marketplace.available_add_ons(XB).fetch() == ADD_ON


async def test_list_extensions(marketplace: MarketplaceSession) -> None:
    """The example of a listing of Extensions is read."""
    extensions = marketplace.available_add_ons(XB).extensions
    assert await extensions.list(page_size=1000) == [EXTENSION]
    assert await extensions.list().first() == EXTENSION


async def test_list_add_ons(marketplace: MarketplaceSession) -> None:
    """The example of a listing of Add-ons is read."""
    assert await marketplace.available_add_ons.list(limit=20) == [ADD_ON]


async def test_page_meta(marketplace: MarketplaceSession) -> None:
    """The `meta` of the example is read."""
    (page,) = [page async for page in marketplace.available_add_ons(XB).extensions.list().pages()]
    assert (page.meta.page, page.meta.page_size, page.meta.key) == (0, 50, "extensions")
    assert page.meta.next_page_url is None


async def test_empty_lists(empty: MarketplaceSession) -> None:
    """The examples of empty listings have no items."""
    assert await empty.available_add_ons(XB).extensions.list() == []
    assert await empty.available_add_ons.list().first() is None


async def test_fan_out(marketplace: MarketplaceSession) -> None:
    """Many listings at a time are read."""
    async with marketplace.extensions_across([XB] * 40) as outcomes:
        read = [outcome.unwrap() async for outcome in outcomes]
    assert read == [(EXTENSION,)] * 40


async def test_lost_credentials(mock: str) -> None:
    """If the credentials do not arrive, the call ends in AuthenticationError."""

    async def lose_credentials(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        del request.headers["Authorization"]
        return await handler(request)

    async with (
        aiohttp.ClientSession(middlewares=[lose_credentials]) as http,
        marketplace_at(mock, http) as marketplace,
    ):
        with pytest.raises(AuthenticationError) as caught:
            await marketplace.available_add_ons(XB).extensions(XF).fetch()
    assert caught.value.status == 401


@pytest.mark.parametrize("page_size", [1, 1000])
async def test_page_sizes(marketplace: MarketplaceSession, page_size: int) -> None:
    """The smallest and the largest page size are valid."""
    assert await marketplace.available_add_ons.list(page_size=page_size) == [ADD_ON]


@pytest.mark.parametrize("sid", ["XB" + 16 * "aF", "XB" + 32 * "0"])
async def test_valid_sids(marketplace: MarketplaceSession, sid: str) -> None:
    """If the description allows a SID, it is sent; the mock responds with its example."""
    with pytest.raises(InvalidResponseError, match=f"about {XB}, not {sid}"):
        await marketplace.available_add_ons(sid).fetch()


@pytest.mark.parametrize("sid", ["XB1", "XB" + 31 * "a", "XB" + 33 * "a", "XB" + 32 * "g", XF])
async def test_invalid_sids(mock: str, marketplace: MarketplaceSession, sid: str) -> None:
    """If the description rejects a SID, it is not sent."""
    header = aiohttp.encode_basic_auth(CREDENTIALS.username, CREDENTIALS.password)
    async with (
        aiohttp.ClientSession(headers={"Authorization": header}) as http,
        http.get(f"{mock}/v1/AvailableAddOns/{sid}") as response,
    ):
        assert response.status == 422
    with pytest.raises(InvalidSidError):
        marketplace.available_add_ons(sid)
