"""What the README says of the vendor's asynchronous client is so, or this fails."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from wire import ADD_ON, CREDENTIALS, STALL, Answer, Request, Wire, answer, error, page

rest = pytest.importorskip("twilio.rest", reason="twilio is not installed")
async_http = pytest.importorskip("twilio.http.async_http_client")
exceptions = pytest.importorskip("twilio.base.exceptions")

# It authenticates in a way that aiohttp means to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# Names that must not be resolved (RFC 6761), in the place of Twilio's and somebody else's.
ELSEWHERE = "https://elsewhere.invalid/v1/AvailableAddOns"


@contextlib.asynccontextmanager
async def vendors_client(
    respond: Callable[[Request], Answer], **settings: Any
) -> AsyncGenerator[tuple[Any, list[tuple[str, Any]]], None]:
    """Give the vendor's client, whatever it asks for, and whom, with which credentials."""
    asked: list[tuple[str, Any]] = []
    async with Wire(respond) as wire, async_http.AsyncTwilioHttpClient(**settings) as http:
        request = http.request

        async def request_of_wire(method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            asked.append((url, kwargs.get("auth")))
            path = url.split("/", 3)[3]
            return await request(method, f"{wire.url}/{path}", *args, **kwargs)

        http.request = request_of_wire
        client = rest.Client(CREDENTIALS.username, CREDENTIALS.password, http_client=http)
        yield client.marketplace.v1.available_add_ons, asked


async def test_it_waits_for_ever_for_a_server_that_never_answers() -> None:
    async with vendors_client(lambda _: (STALL,), timeout=0.1) as (add_ons, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(add_ons(ADD_ON).fetch_async(), 2)


async def test_it_takes_a_429_for_an_error_at_once() -> None:
    refusal = error(429, Retry_After=1)
    async with vendors_client(lambda _: refusal, max_retries=3) as (add_ons, asked):
        with pytest.raises(exceptions.TwilioRestException):
            await add_ons(ADD_ON).fetch_async()
    assert len(asked) == 1


async def test_it_asks_another_host_for_the_next_page_with_the_credentials() -> None:
    first = page([1], next_page_url=ELSEWHERE)
    async with vendors_client(lambda _: answer(first)) as (add_ons, asked):
        await add_ons(ADD_ON).extensions.list_async(limit=2)
    assert asked[1] == (ELSEWHERE, (CREDENTIALS.username, CREDENTIALS.password))


async def test_it_reads_a_circle_of_pages_for_ever() -> None:
    itself = page([1], next_page_url=page()["meta"]["url"])
    async with vendors_client(lambda _: answer(itself)) as (add_ons, asked):
        found = await add_ons(ADD_ON).extensions.list_async(limit=200)
    assert len(found) == len(asked) == 200


async def test_it_asks_for_whatever_stands_in_the_place_of_a_sid() -> None:
    async with vendors_client(lambda _: answer({})) as (add_ons, asked):
        await add_ons("../../2010-04-01/Accounts").fetch_async()
    assert "/../../2010-04-01/Accounts" in asked[0][0]


async def test_it_makes_an_object_with_holes_of_an_answer_of_the_wrong_shape() -> None:
    async with vendors_client(lambda _: answer({"sid": 7})) as (add_ons, _):
        found = await add_ons(ADD_ON).fetch_async()
    assert (found.sid, found.friendly_name) == (7, None)
