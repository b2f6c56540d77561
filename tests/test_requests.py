"""The shape of requests: where they go, and what goes with them."""

import asyncio
import base64
import re
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from aioresponses_shim import mocked_responses
from leftovers import leaves_nothing
from scripted_api import (
    ADD_ON,
    CREDENTIALS,
    EXTENSION,
    FOUND,
    Answer,
    Request,
    ScriptedApi,
    fetch,
    page,
)
from yarl import URL

import marketplace_async
from marketplace_async import Credentials, MarketplaceSession, Timeout, open_session
from marketplace_async.sandbox import Sandbox

TWILIO = "https://marketplace.twilio.com"
VARIABLES = ("API_KEY", "API_SECRET", "ACCOUNT_SID", "AUTH_TOKEN", "REGION", "EDGE")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"TWILIO_{name}", raising=False)


def request_of(session: MarketplaceSession) -> Request:
    """The request that fetching an Extension makes."""
    made: list[Request] = []

    @leaves_nothing
    async def make() -> None:
        async with ScriptedApi(FOUND) as api, session:
            await fetch(session)
        made.extend(api.requests)

    make()
    (request,) = made
    return request


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


# The double itself


async def test_aioresponses_still_needs_its_mend() -> None:
    """Once this fails, `aioresponses_shim` is of no more use."""
    with aioresponses() as mocked:
        mocked.get(TWILIO)  # pyright: ignore[reportUnknownMemberType]  # as in scripted_api
        async with aiohttp.ClientSession() as http:
            with pytest.raises(TypeError, match="stream_writer"):
                await http.get(TWILIO)


async def test_mended_it_answers() -> None:
    with mocked_responses() as mocked:
        mocked.get(TWILIO, body=b"well", status=201)  # pyright: ignore[reportUnknownMemberType]  # as above
        async with aiohttp.ClientSession() as http, http.get(TWILIO) as response:
            assert (response.status, await response.text()) == (201, "well")


# Where requests go


@pytest.mark.parametrize(
    ("settings", "environment", "host"),
    [
        ({}, {}, "marketplace.twilio.com"),
        ({"region": "ie1"}, {}, "marketplace.ie1.twilio.com"),
        ({"edge": "dublin"}, {}, "marketplace.dublin.us1.twilio.com"),
        ({"region": "ie1", "edge": "dublin"}, {}, "marketplace.dublin.ie1.twilio.com"),
        ({}, {"REGION": "ie1"}, "marketplace.ie1.twilio.com"),
        ({}, {"EDGE": "dublin"}, "marketplace.dublin.us1.twilio.com"),
        ({}, {"REGION": "ie1", "EDGE": "dublin"}, "marketplace.dublin.ie1.twilio.com"),
        ({"region": "au1"}, {"REGION": "ie1"}, "marketplace.au1.twilio.com"),
        ({"base_url": "https://api.example"}, {"REGION": "ie1"}, "api.example"),
    ],
    ids=str,
)
def test_requests_go_to_the_host_that_region_and_edge_make(
    settings: dict[str, Any],
    environment: dict[str, str],
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"TWILIO_{name}", value)
    request = request_of(open_session(CREDENTIALS, **settings))
    assert request.url.origin() == URL(f"https://{host}")


@leaves_nothing
async def test_each_verb_asks_for_the_path_of_its_resource() -> None:
    add_on = FOUND.body.replace(EXTENSION.sid.encode(), ADD_ON.encode())
    answers = (
        FOUND,
        Answer(add_on),
        page(),
        Answer(page().body.replace(b'"extensions": []', b'"available_add_ons": []')),
    )
    async with ScriptedApi(*answers) as api, api.session() as session:
        handle = session.available_add_ons(ADD_ON)
        await handle.extensions(EXTENSION.sid).fetch()
        await handle.fetch()
        await handle.extensions.list(page_size=7).to_list()
        await session.available_add_ons.list().to_list()
    assert [str(request.url) for request in api.requests] == [
        f"{TWILIO}/v1/AvailableAddOns/{ADD_ON}/Extensions/{EXTENSION.sid}",
        f"{TWILIO}/v1/AvailableAddOns/{ADD_ON}",
        f"{TWILIO}/v1/AvailableAddOns/{ADD_ON}/Extensions?PageSize=7",
        f"{TWILIO}/v1/AvailableAddOns",
    ]


# With which credentials


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"API_KEY": "SK1", "API_SECRET": "two"}, ("SK1", "two")),
        ({"ACCOUNT_SID": "AC3", "AUTH_TOKEN": "four"}, ("AC3", "four")),
        (
            {"API_KEY": "SK1", "API_SECRET": "two", "ACCOUNT_SID": "AC3", "AUTH_TOKEN": "four"},
            ("SK1", "two"),
        ),
        ({"API_KEY": "SK1", "ACCOUNT_SID": "AC3", "AUTH_TOKEN": "four"}, ("AC3", "four")),
    ],
    ids=["key", "account", "the key is preferred", "half a key is none"],
)
def test_credentials_of_the_environment_go_with_the_request(
    environment: dict[str, str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"TWILIO_{name}", value)
    assert request_of(open_session()).headers["Authorization"] == basic(*expected)


def test_credentials_that_are_given_go_before_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWILIO_API_KEY", "SK1")
    monkeypatch.setenv("TWILIO_API_SECRET", "two")
    request = request_of(open_session(CREDENTIALS))
    assert request.headers["Authorization"] == basic(CREDENTIALS.username, CREDENTIALS.password)


def test_credentials_may_hold_any_printable_text() -> None:
    request = request_of(open_session(Credentials("Zoë", "p:å s%20s")))
    assert request.headers["Authorization"] == basic("Zoë", "p:å s%20s")


async def test_the_credentials_are_not_left_in_the_callers_pool() -> None:
    async with aiohttp.ClientSession() as http:
        async with ScriptedApi(FOUND), open_session(CREDENTIALS, http=http) as session:
            await fetch(session)
        assert "Authorization" not in http.headers
        assert http.auth is None


# What else goes with them


def test_a_request_says_what_it_accepts_and_who_asks_and_nothing_else() -> None:
    headers = request_of(open_session(CREDENTIALS)).headers
    agent = headers.pop("User-Agent")
    del headers["Authorization"]
    assert headers == {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
    version = re.escape(marketplace_async.__version__)
    assert re.fullmatch(rf"marketplace-async/{version} Python/3\.\d+\.\d+\S*", agent)


def test_aiohttp_is_asked_for_one_plain_attempt() -> None:
    request = request_of(open_session(CREDENTIALS, timeout=Timeout(connect=3)))
    options: dict[str, Any] = dict(request.options)
    del options["headers"]
    assert options == {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=3),
        "allow_redirects": False,
        "raise_for_status": False,
        "auto_decompress": False,
    }


@leaves_nothing
async def test_no_header_changes_from_request_to_request() -> None:
    async with ScriptedApi(FOUND, FOUND) as api, api.session() as session:
        await fetch(session)
        await asyncio.sleep(3600)
        await fetch(session)
    first, second = api.requests
    assert first.headers == second.headers


async def test_on_the_wire_there_is_no_more_than_that() -> None:
    async with (
        Sandbox() as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.url) as session,
    ):
        await session.available_add_ons.list(limit=1).to_list()
    (request,) = sandbox.requests
    assert (request.method, request.status) == ("GET", 200)
    names = {name.title() for name in request.headers}
    assert names == {"Host", "Accept", "Accept-Encoding", "User-Agent"}


async def test_cookies_are_not_kept() -> None:
    async with Sandbox() as sandbox:
        sandbox.fail_next(503, headers={"Set-Cookie": "flavour=chocolate; Path=/"})
        # aiohttp never keeps cookies of a host without a name.
        named = sandbox.url.replace("127.0.0.1", "localhost")
        async with open_session(sandbox.credentials, base_url=named) as session:
            await session.available_add_ons.list(limit=1).to_list()
    assert [request.status for request in sandbox.requests] == [503, 200]
    assert "Cookie" not in sandbox.requests[1].headers
