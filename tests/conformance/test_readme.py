"""The statements of the README about Twilio's asynchronous client."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from wire import ADD_ON, CREDENTIALS, STALL, Answer, Request, Wire, answer, error, page

rest = pytest.importorskip("twilio.rest", reason="twilio is not installed")
async_http = pytest.importorskip("twilio.http.async_http_client")
exceptions = pytest.importorskip("twilio.base.exceptions")

# It authenticates in a way that aiohttp deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# A name that never resolves: RFC 6761.
ELSEWHERE = "https://elsewhere.invalid/v1/AvailableAddOns"


@contextlib.asynccontextmanager
async def twilio_client(
    respond: Callable[[Request], Answer], **settings: Any
) -> AsyncGenerator[tuple[Any, list[tuple[str, Any]]], None]:
    """Yield Twilio's client, and the list of its requests: URL and credentials."""
    requests: list[tuple[str, Any]] = []
    async with Wire(respond) as wire, async_http.AsyncTwilioHttpClient(**settings) as http:
        request = http.request

        async def request_of_wire(method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            requests.append((url, kwargs.get("auth")))
            path = url.split("/", 3)[3]
            return await request(method, f"{wire.url}/{path}", *args, **kwargs)

        http.request = request_of_wire
        client = rest.Client(CREDENTIALS.username, CREDENTIALS.password, http_client=http)
        yield client.marketplace.v1.available_add_ons, requests


async def test_no_timeout() -> None:
    """If the server never responds, the call never ends."""
    async with twilio_client(lambda _: (STALL,), timeout=0.1) as (add_ons, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(add_ons(ADD_ON).fetch_async(), 2)


async def test_429() -> None:
    """A 429 is an error at once, whatever the number of retries."""
    rejection = error(429, Retry_After=1)
    async with twilio_client(lambda _: rejection, max_retries=3) as (add_ons, requests):
        with pytest.raises(exceptions.TwilioRestException):
            await add_ons(ADD_ON).fetch_async()
    assert len(requests) == 1


async def test_foreign_page() -> None:
    """If the next page is on another host, the credentials are sent there."""
    first = page([1], next_page_url=ELSEWHERE)
    async with twilio_client(lambda _: answer(first)) as (add_ons, requests):
        await add_ons(ADD_ON).extensions.list_async(limit=2)
    assert requests[1] == (ELSEWHERE, (CREDENTIALS.username, CREDENTIALS.password))


async def test_cycle() -> None:
    """If the pages form a cycle, they are read for ever."""
    itself = page([1], next_page_url=page()["meta"]["url"])
    async with twilio_client(lambda _: answer(itself)) as (add_ons, requests):
        found = await add_ons(ADD_ON).extensions.list_async(limit=200)
    assert len(found) == len(requests) == 200


async def test_sid() -> None:
    """A path in the place of a SID is requested."""
    async with twilio_client(lambda _: answer({})) as (add_ons, requests):
        await add_ons("../../2010-04-01/Accounts").fetch_async()
    assert "/../../2010-04-01/Accounts" in requests[0][0]


async def test_wrong_shape() -> None:
    """A response of a wrong shape becomes an object with missing fields."""
    async with twilio_client(lambda _: answer({"sid": 7})) as (add_ons, _):
        found = await add_ons(ADD_ON).fetch_async()
    assert (found.sid, found.friendly_name) == (7, None)
