"""The sandbox's scripted and random faults, requested with a plain client."""

import asyncio
import gzip
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from marketplace_async.sandbox import Sandbox

ADD_ONS = "/v1/AvailableAddOns"
ADD_ON = f"{ADD_ONS}/XB{32 * 'a'}"
EXTENSION = f"{ADD_ON}/Extensions/XF{32 * 'a'}"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


async def get(sandbox: Sandbox, path: str = EXTENSION) -> tuple[aiohttp.ClientResponse, bytes]:
    """Send one request on a new connection."""
    credentials = sandbox.credentials
    header = aiohttp.encode_basic_auth(credentials.username, credentials.password)
    async with (
        aiohttp.ClientSession(headers={"Authorization": header}) as http,
        http.get(sandbox.url + path, allow_redirects=False) as response,
    ):
        return response, await response.read()


async def outcome(sandbox: Sandbox, path: str = EXTENSION) -> int | str:
    """Return the status of a response, or the name of the client's error."""
    try:
        response, _ = await get(sandbox, path)
    except aiohttp.ClientError as error:
        return type(error).__name__
    return response.status


async def outcomes(sandbox: Sandbox, count: int) -> list[int | str]:
    return [await outcome(sandbox) for _ in range(count)]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, 20001, "Bad Request"),
        (401, 20003, "Unauthorized"),
        (404, 20404, "Not Found"),
        (429, 20429, "Too Many Requests"),
        (503, 20503, "Service Unavailable"),
        (520, 20520, "Unknown error"),
    ],
)
async def test_fail(sandbox: Sandbox, status: int, code: int, message: str) -> None:
    """A failure has the usual error code and message of its status."""
    sandbox.fail_next(status)
    response, _ = await get(sandbox)
    assert response.status == status
    assert await response.json() == {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }


async def test_fail_details(sandbox: Sandbox) -> None:
    """A failure can have its own code, message and Retry-After."""
    sandbox.fail_next(429, code=20003, message="Slow down", retry_after=1.5)
    response, _ = await get(sandbox)
    body = await response.json()
    assert response.headers["Retry-After"] == "1.5"
    assert (body["code"], body["message"]) == (20003, "Slow down")


async def test_fail_body(sandbox: Sandbox) -> None:
    """A failure can have any body and headers."""
    body = "<html>ä</html>"
    sandbox.fail_next(302, body=body, headers={"content-type": "text/html", "Location": "/x"})
    response, received = await get(sandbox)
    assert (response.status, received.decode()) == (302, body)
    assert response.headers.getall("Content-Type") == ["text/html"]
    assert response.headers["Location"] == "/x"


async def test_fail_compressed_body(sandbox: Sandbox) -> None:
    """If a body has a Content-Encoding, it is not compressed again."""
    packed = gzip.compress(random.Random(0).randbytes(5000))
    sandbox.fail_next(200, body=packed, headers={"Content-Encoding": "gzip"})
    assert (await get(sandbox))[1] == gzip.decompress(packed)


async def test_order(sandbox: Sandbox) -> None:
    """Faults happen in the order in which they were scripted, as many times as requested."""
    sandbox.fail_next(times=2)
    sandbox.truncate_next()
    sandbox.fail_next(429)
    assert await outcomes(sandbox, 5) == [503, 503, "ClientPayloadError", 429, 200]


async def test_path(sandbox: Sandbox) -> None:
    """If a fault has a path, other requests skip it and use the next one."""
    sandbox.fail_next(path="/Extensions/")
    sandbox.fail_next(500)
    assert [await outcome(sandbox, ADD_ON) for _ in range(2)] == [500, 200]
    assert await outcomes(sandbox, 2) == [503, 200]


async def test_drop(sandbox: Sandbox) -> None:
    """If the connection is dropped, there is no response."""
    sandbox.drop_next(times=2)  # aiohttp's client repeats the request once
    assert await outcomes(sandbox, 2) == ["ServerDisconnectedError", 200]
    assert [request.status for request in sandbox.requests] == [None, None, 200]


@pytest.mark.parametrize("path", [EXTENSION, ADD_ONS], ids=["plain", "compressed"])
async def test_truncate(sandbox: Sandbox, path: str) -> None:
    """If the body is truncated, the connection closes before its end."""
    sandbox.truncate_next()
    assert await outcome(sandbox, path) == "ClientPayloadError"
    assert [request.status for request in sandbox.requests] == [200]


async def test_delay(sandbox: Sandbox) -> None:
    """A delayed response comes after the delay and the latency."""
    sandbox.latency = 0.05
    sandbox.delay_next(0.05)
    start = asyncio.get_running_loop().time()
    assert await outcome(sandbox) == 200
    assert asyncio.get_running_loop().time() - start >= 0.1


async def test_before_authentication(sandbox: Sandbox) -> None:
    """Faults happen before credentials are checked."""
    sandbox.fail_next()
    async with aiohttp.ClientSession() as http:
        statuses = [(await http.get(sandbox.url + EXTENSION)).status for _ in range(2)]
    assert statuses == [503, 401]


@pytest.mark.parametrize("argument", [{"times": 0}, {"status": 199}, {"status": 600}])
def test_invalid_argument(argument: dict[str, Any]) -> None:
    """If an argument is out of range, the error names it."""
    with pytest.raises(ValueError, match=next(iter(argument))):
        Sandbox().fail_next(**argument)


async def test_random_kinds(sandbox: Sandbox) -> None:
    """Random faults are of seven kinds; those of gateways are HTML."""
    sandbox.failure_rate = 1.0
    kinds: Counter[Any] = Counter()
    for _ in range(100):
        try:
            response, _ = await get(sandbox)
            kinds[response.status, response.content_type] += 1
        except aiohttp.ClientError as error:
            kinds[type(error)] += 1
    assert set(kinds) == {
        (429, "application/json"),
        (500, "application/json"),
        (502, "text/html"),
        (503, "application/json"),
        (504, "text/html"),
        aiohttp.ClientPayloadError,
        aiohttp.ServerDisconnectedError,
    }


async def test_random_seed() -> None:
    """If the seed is the same, the same share of requests fails in the same way."""

    async def statuses(seed: int) -> list[int | None]:
        async with Sandbox(failure_rate=0.5, seed=seed) as sandbox:
            await outcomes(sandbox, 30)
            return [request.status for request in sandbox.requests]

    first = await statuses(7)
    assert first == await statuses(7) != await statuses(8)
    assert 10 < first.count(200) < 30


async def test_scripted_before_random() -> None:
    """Scripted faults come before random ones."""
    async with Sandbox(failure_rate=1.0) as sandbox:
        sandbox.fail_next(418)
        assert await outcome(sandbox) == 418
