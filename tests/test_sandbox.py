"""The sandbox's resources, pages, URLs, limits and lifetime, requested with a plain client."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from marketplace_async import Credentials, open_session
from marketplace_async.sandbox import Sandbox

ADD_ONS = "/v1/AvailableAddOns"
SAMPLE = f"{ADD_ONS}/XB{32 * 'a'}"
EXTENSIONS = f"{SAMPLE}/Extensions"
EXTENSION = f"{EXTENSIONS}/XF{32 * 'a'}"


def basic(username: str, password: str) -> str:
    return aiohttp.encode_basic_auth(username, password)


async def send(
    sandbox: Sandbox, path: str, method: str = "GET", **headers: str
) -> aiohttp.ClientResponse:
    """Send a request with the sandbox's credentials."""
    url = path if "://" in path else sandbox.url + path
    authorization = basic(sandbox.credentials.username, sandbox.credentials.password)
    sent = {"Authorization": authorization, "Accept-Encoding": "identity", **headers}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, headers=sent) as response,
    ):
        await response.read()
        return response


async def get(sandbox: Sandbox, path: str, **headers: str) -> Any:
    return await (await send(sandbox, path, **headers)).json()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


# Resources


async def test_fetch_extension(sandbox: Sandbox) -> None:
    """An extension has the documented fields."""
    assert await get(sandbox, EXTENSION) == {
        "sid": "XF" + 32 * "a",
        "available_add_on_sid": "XB" + 32 * "a",
        "friendly_name": "Incoming Voice Call",
        "product_name": "Programmable Voice",
        "unique_name": "voice-incoming",
        "url": sandbox.url + EXTENSION,
    }


async def test_fetch_add_on(sandbox: Sandbox) -> None:
    """An add-on has the documented fields."""
    assert await get(sandbox, SAMPLE) == {
        "sid": "XB" + 32 * "a",
        "friendly_name": "VoiceBase High Accuracy Transcription",
        "description": "Automatic Transcription and Keyword Extract...",
        "pricing_type": "per minute",
        "configuration_schema": {
            "type": "object",
            "properties": {"bad_words": {"type": "boolean"}},
            "required": ["bad_words"],
        },
        "url": sandbox.url + SAMPLE,
        "links": {"extensions": sandbox.url + EXTENSIONS},
    }


async def test_list(sandbox: Sandbox) -> None:
    """A list has the same items as a fetch, and a `meta`."""
    add_ons, extensions = await get(sandbox, ADD_ONS), await get(sandbox, EXTENSIONS)
    assert add_ons["available_add_ons"][0] == await get(sandbox, SAMPLE)
    assert extensions["extensions"][0] == await get(sandbox, EXTENSION)
    url = f"{sandbox.url}{EXTENSIONS}?PageSize=50&Page=0"
    assert extensions["meta"] == {
        "page": 0,
        "page_size": 50,
        "first_page_url": url,
        "previous_page_url": None,
        "url": url,
        "next_page_url": None,
        "key": "extensions",
    }


# Pages


async def sids_of_pages(sandbox: Sandbox, url: str, field: str) -> list[list[str]]:
    """Return the SIDs of a page, and of all pages that this field of the `meta` leads to."""
    page = await get(sandbox, url)
    sids = [item["sid"] for item in page["available_add_ons"]]
    following = page["meta"][field]
    return [sids, *(await sids_of_pages(sandbox, following, field) if following else [])]


@pytest.mark.parametrize("size", [40, 50, 149, 1000])
async def test_pages(sandbox: Sandbox, size: int) -> None:
    """All pages hold all items in order, forward and backward."""
    pages = await sids_of_pages(sandbox, f"{ADD_ONS}?PageSize={size}", "next_page_url")
    assert [sid for page in pages for sid in page] == [*sandbox.catalog]
    assert {len(page) for page in pages[:-1]} <= {size}
    last = str(sandbox.requests[-1].url)
    assert await sids_of_pages(sandbox, last, "previous_page_url") == pages[::-1]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("PageSize=0", 20001),
        ("PageSize=ten", 20001),
        (f"PageSize={5000 * '9'}", 20001),
        ("PageSize=1001", 20007),
        ("Page=1", 20001),
        ("Page=-1", 20001),
        ("PageToken=", 21481),
        ("PageToken=1", 21481),
        ("PageToken=PAx", 21481),
    ],
)
async def test_invalid_page(sandbox: Sandbox, query: str, code: int) -> None:
    """If the query names no page, the status is 400."""
    body = await get(sandbox, f"{ADD_ONS}?{query}")
    assert (body["status"], body["code"]) == (400, code)


# Errors


@pytest.mark.parametrize(
    "path",
    [
        "/v1/Listings",
        f"{ADD_ONS}/",
        f"{ADD_ONS}/XB{32 * '0'}",
        f"{ADD_ONS}/XB{32 * '0'}/Extensions",
        f"{SAMPLE}/Usage",
        f"{EXTENSIONS}/XF{32 * '0'}",
        f"{EXTENSION}/more",
    ],
)
async def test_not_found(sandbox: Sandbox, path: str) -> None:
    """If the path names no resource, the status is 404, and the message names the path."""
    assert await get(sandbox, path) == {
        "code": 20404,
        "message": f"The requested resource {path.removeprefix('/v1')} was not found",
        "more_info": "https://www.twilio.com/docs/errors/20404",
        "status": 404,
    }


@pytest.mark.parametrize("path", [ADD_ONS, SAMPLE, EXTENSIONS, EXTENSION])
async def test_method_not_allowed(sandbox: Sandbox, path: str) -> None:
    """If the method is not GET, the status is 405."""
    response = await send(sandbox, path, "POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET")
    assert (await response.json())["code"] == 20004


@pytest.mark.parametrize(
    "header", ["", "Basic", "Bearer x", basic("SK" + 32 * "a", "x"), basic("SK1", "sandbox")]
)
@pytest.mark.parametrize("path", [EXTENSION, "/nowhere"])
async def test_wrong_credentials(sandbox: Sandbox, header: str, path: str) -> None:
    """If the credentials are wrong, the status is 401."""
    response = await send(sandbox, path, Authorization=header)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="Twilio API"'
    body = await response.json()
    assert (body["code"], body["message"]) == (20003, "Authenticate")


async def test_own_credentials() -> None:
    """If credentials are passed, only they are accepted; the case of the scheme is ignored."""
    async with Sandbox(credentials=Credentials("SK1", "pässword")) as sandbox:
        header = basic("SK1", "pässword").replace("Basic", "bASIC")
        assert (await send(sandbox, EXTENSION, Authorization=header)).status == 200
        header = basic("SK" + 32 * "a", "sandbox")
        assert (await send(sandbox, EXTENSION, Authorization=header)).status == 401


async def test_response_headers(sandbox: Sandbox) -> None:
    """Each response has its own request ID, and the number of concurrent requests."""
    responses = [await send(sandbox, path) for path in (EXTENSION, ADD_ONS, "/nowhere")]
    ids = {response.headers["Twilio-Request-Id"] for response in responses}
    assert len(ids) == 3
    assert all(re.fullmatch("RQ[0-9a-f]{32}", request_id) for request_id in ids)
    assert {response.headers["Twilio-Concurrent-Requests"] for response in responses} == {"1"}


async def test_compression(sandbox: Sandbox) -> None:
    """If the client accepts gzip, a large body is compressed, and a small one is not."""
    plain = await send(sandbox, ADD_ONS)
    packed = await send(sandbox, ADD_ONS, **{"Accept-Encoding": "gzip, deflate"})
    small = await send(sandbox, EXTENSION, **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in {*plain.headers, *small.headers}
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 4
    assert await packed.json() == await plain.json()


# URLs


async def urls(sandbox: Sandbox, origin: str = "", **headers: str) -> list[str]:
    page = await get(sandbox, f"{origin}{ADD_ONS}?PageSize=1", **headers)
    item, meta = page["available_add_ons"][0], page["meta"]
    return [item["url"], item["links"]["extensions"], meta["url"], meta["next_page_url"]]


async def test_urls_have_host(sandbox: Sandbox) -> None:
    """URLs begin with the host that the client requested."""
    for origin in (sandbox.url, sandbox.url.replace("127.0.0.1", "localhost")):
        async with open_session(sandbox.credentials, base_url=origin) as session:
            items = await session.available_add_ons.list(page_size=100).to_list()
        assert [item.sid for item in items] == [*sandbox.catalog]
        assert all(str(item.url).startswith(f"{origin}{ADD_ONS}/XB") for item in items)


@pytest.mark.parametrize("host", ["marketplace_mock:80", "Sandbox.internal", "[fd00::1]:8080"])
async def test_urls_of_container(sandbox: Sandbox, host: str) -> None:
    """URLs begin with the Host header, even if this is not the sandbox's address."""
    assert all(url.startswith(f"http://{host}/v1/") for url in await urls(sandbox, Host=host))


@pytest.mark.parametrize("host", ["", "a b", "x/y", "user@x", "x:port", "[::1", "ü"])
async def test_urls_without_host(sandbox: Sandbox, host: str) -> None:
    """If the Host header is empty or invalid, URLs begin with the sandbox's address."""
    assert all(url.startswith(f"{sandbox.url}/v1/") for url in await urls(sandbox, Host=host))


@pytest.mark.parametrize(
    ("host", "name"),
    [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1")],  # noqa: S104
)
async def test_url(host: str, name: str) -> None:
    """The sandbox's URL has brackets for IPv6, and never means all interfaces."""
    try:
        sandbox = await Sandbox(host=host).start()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with sandbox:
        assert sandbox.url.startswith(f"http://{name}:")
        assert all(url.startswith(f"{sandbox.url}/v1/") for url in await urls(sandbox))


async def test_public_base_url() -> None:
    """If there is a public base URL, URLs begin with it."""
    async with Sandbox(public_base_url="https://proxy.example/") as sandbox:
        assert all(url.startswith("https://proxy.example/v1/") for url in await urls(sandbox))


# Received requests


async def test_requests(sandbox: Sandbox) -> None:
    """Requests are recorded in order, without credentials, until `clear`."""
    await send(sandbox, f"{EXTENSIONS}?PageSize=7", **{"X-Mine": "yes"})
    await send(sandbox, "/nowhere", "POST")
    first, second = sandbox.requests
    assert (first.method, first.path, first.status) == ("GET", EXTENSIONS, 200)
    assert (dict(first.query), first.headers["x-mine"]) == ({"PageSize": "7"}, "yes")
    assert (second.method, second.path, second.status) == ("POST", "/nowhere", 404)
    assert "Authorization" not in first.headers
    sandbox.fail_next()
    sandbox.clear()
    assert (sandbox.requests, sandbox.peak_concurrency) == ([], 0)
    assert (await send(sandbox, EXTENSION)).status == 200


# Concurrency


async def waiting(sandbox: Sandbox, count: int) -> asyncio.Future[Any]:
    """Start requests that get no response."""
    sandbox.delay_next(3600, times=count)
    requests = asyncio.gather(
        *(send(sandbox, EXTENSION) for _ in range(count)), return_exceptions=True
    )
    async with asyncio.timeout(10):
        while len(sandbox.requests) < count:
            await asyncio.sleep(0)
    return requests


async def test_max_concurrent() -> None:
    """If too many requests are concurrent, more are rejected at once, until one is done."""
    async with Sandbox(max_concurrent=2, latency=0.01) as sandbox:
        requests = await waiting(sandbox, 2)
        assert [request.status for request in sandbox.requests] == [None, None]
        sandbox.latency = 3600
        response = await send(sandbox, EXTENSION)
        assert (response.status, (await response.json())["code"]) == (429, 20429)
        assert "Retry-After" not in response.headers
        assert response.headers["Twilio-Concurrent-Requests"] == "3"
        assert sandbox.peak_concurrency == 3
        sandbox.latency, sandbox.retry_after = 0, 2
        assert (await send(sandbox, EXTENSION)).headers["Retry-After"] == "2"
        requests.cancel()
        async with asyncio.timeout(10):
            while (await send(sandbox, EXTENSION)).status == 429:
                pass


# Start and close


@pytest.mark.parametrize(
    ("setting", "value"),
    [("catalog", []), ("latency", -1), ("max_concurrent", 0), ("failure_rate", 1.1)],
)
def test_invalid_setting(setting: str, value: Any) -> None:
    """If a setting is invalid, the error names it."""
    with pytest.raises((TypeError, ValueError), match=setting):
        Sandbox(**{setting: value})


async def test_start_and_close() -> None:
    """`start` and `close` can be repeated; the next start uses the same port, if it is free."""
    sandbox = Sandbox()
    assert await sandbox.start() is await sandbox.start() is sandbox
    url = sandbox.url
    assert (await send(sandbox, EXTENSION)).status == 200
    await sandbox.close()
    await sandbox.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    with pytest.raises(aiohttp.ClientConnectorError):
        await send(sandbox, url + EXTENSION)
    async with sandbox:
        assert sandbox.url == url
        assert (await send(sandbox, EXTENSION)).status == 200
        with pytest.raises(OSError, match="address already in use"):
            await Sandbox(port=int(url.rpartition(":")[2])).start()


async def test_close_while_busy(sandbox: Sandbox) -> None:
    """`close` does not wait for responses, nor for idle connections."""
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as http:
        await (await http.get(sandbox.url)).read()
        sandbox.clear()
        requests = await waiting(sandbox, 3)
        async with asyncio.timeout(5):
            await sandbox.close()
            assert all(isinstance(error, aiohttp.ClientError) for error in await requests)
    assert asyncio.all_tasks() <= before
