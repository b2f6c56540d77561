"""Requests: the headers that go with them, and what they leave behind."""

import base64
import re

import aiohttp
import pytest
from aioresponses import aioresponses
from aioresponses_shim import mocked_responses
from scripted_api import FOUND, ScriptedApi, fetch

import marketplace_async
from marketplace_async import Credentials, open_session
from marketplace_async.sandbox import Sandbox


async def test_shim_needed() -> None:
    """If this fails, `aioresponses_shim` is no longer needed."""
    with aioresponses() as mocked:
        mocked.get("https://a.example")  # pyright: ignore[reportUnknownMemberType]  # as in scripted_api
        async with aiohttp.ClientSession() as http:
            with pytest.raises(TypeError, match="stream_writer"):
                await http.get("https://a.example")
    with mocked_responses() as mocked:
        mocked.get("https://a.example", status=201)  # pyright: ignore[reportUnknownMemberType]  # as above
        async with aiohttp.ClientSession() as http, http.get("https://a.example") as response:
            assert response.status == 201


async def test_headers(marketplace_sandbox: Sandbox) -> None:
    """A request has the headers that it needs and no others, and cookies are not kept."""
    marketplace_sandbox.fail_next(503, headers={"Set-Cookie": "flavour=chocolate; Path=/"})
    # aiohttp never keeps cookies of a host without a name.
    url = marketplace_sandbox.url.replace("127.0.0.1", "localhost")
    async with open_session(marketplace_sandbox.credentials, base_url=url) as session:
        await session.available_add_ons.list(limit=1)
    first, second = (dict(request.headers) for request in marketplace_sandbox.requests)
    assert first == second
    agent = first.pop("User-Agent")
    assert re.fullmatch(
        rf"marketplace-async/{re.escape(marketplace_async.__version__)} Python/3\.\d+\.\d+\S*",
        agent,
    )
    assert first == {
        "Host": url.removeprefix("http://"),
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
    }


async def test_authorization() -> None:
    """The credentials are sent as UTF-8, and a caller's aiohttp session does not keep them."""
    credentials = Credentials("Zoë", "p:å s%20s")
    async with aiohttp.ClientSession() as http:
        async with ScriptedApi(FOUND) as api, open_session(credentials, http=http) as session:
            await fetch(session)
        assert "Authorization" not in http.headers
        assert http.auth is None
    encoded = base64.b64encode("Zoë:p:å s%20s".encode()).decode()
    assert api.requests[0].headers["Authorization"] == f"Basic {encoded}"
