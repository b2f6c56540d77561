import asyncio
import gzip
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from marketplace_async.sandbox import Catalog, Sandbox, add_on
from marketplace_async.sandbox.faults import Cut, FaultInjector

ADD_ON = f"/v1/AvailableAddOns/XB{32 * 'a'}"
EXTENSION = f"{ADD_ON}/Extensions/XF{32 * 'a'}"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


class Client:
    """A bare client on a connection of its own for each request."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.header = aiohttp.encode_basic_auth(
            sandbox.credentials.username, sandbox.credentials.password
        )

    async def get(self, path: str = EXTENSION) -> tuple[aiohttp.ClientResponse, bytes]:
        async with (
            aiohttp.ClientSession(headers={"Authorization": self.header}) as http,
            http.get(self.sandbox.url + path, allow_redirects=False) as response,
        ):
            return response, await response.read()

    async def outcome(self, path: str = EXTENSION) -> int | type[Exception]:
        try:
            response, _ = await self.get(path)
        except aiohttp.ClientError as error:
            return type(error)
        return response.status


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client(sandbox)


async def outcomes(client: Client, count: int, path: str = EXTENSION) -> list[Any]:
    return [await client.outcome(path) for _ in range(count)]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, 20001, "Bad Request"),
        (401, 20003, "Unauthorized"),
        (403, 20003, "Forbidden"),
        (404, 20404, "Not Found"),
        (429, 20429, "Too Many Requests"),
        (500, 20500, "Internal Server Error"),
        (503, 20503, "Service Unavailable"),
    ],
)
async def test_a_failure_has_the_usual_code_and_message_of_its_status(
    sandbox: Sandbox, client: Client, status: int, code: int, message: str
) -> None:
    sandbox.fail_next(status)
    response, _ = await client.get()
    assert response.status == status
    assert await response.json() == {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    assert response.headers["Twilio-Request-Id"].startswith("RQ")


async def test_a_failure_is_over_after_the_given_number_of_times(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.fail_next(times=2)
    assert await outcomes(client, 3) == [503, 503, 200]


async def test_code_message_and_retry_after_of_a_failure_can_be_given(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.fail_next(429, code=20003, message="Slow down", retry_after=1.5)
    response, _ = await client.get()
    assert response.headers["Retry-After"] == "1.5"
    body = await response.json()
    assert (body["code"], body["message"]) == (20003, "Slow down")


@pytest.mark.parametrize("body", ["<html>ä</html>", "<html>ä</html>".encode()])
async def test_body_and_headers_of_a_failure_can_be_given(
    sandbox: Sandbox, client: Client, body: str | bytes
) -> None:
    sandbox.fail_next(302, body=body, headers={"content-type": "text/html", "Location": "/x"})
    response, received = await client.get()
    assert (response.status, received.decode()) == (302, "<html>ä</html>")
    assert response.headers.getall("Content-Type") == ["text/html"]
    assert response.headers["Location"] == "/x"


async def test_a_body_given_encoded_is_not_encoded_again(sandbox: Sandbox, client: Client) -> None:
    packed = gzip.compress(random.Random(0).randbytes(5000))
    sandbox.fail_next(200, body=packed, headers={"Content-Encoding": "gzip"})
    _, received = await client.get()
    assert received == gzip.decompress(packed)


async def test_an_answer_that_looks_right_can_be_wrong(sandbox: Sandbox, client: Client) -> None:
    sandbox.fail_next(200, body="{}")
    response, received = await client.get()
    assert (response.status, received) == (200, b"{}")


async def test_faults_come_one_after_another(sandbox: Sandbox, client: Client) -> None:
    sandbox.fail_next(500)
    sandbox.truncate_next()
    sandbox.fail_next(429)
    assert await outcomes(client, 4) == [500, aiohttp.ClientPayloadError, 429, 200]


async def test_a_fault_can_wait_for_a_path(sandbox: Sandbox, client: Client) -> None:
    sandbox.fail_next(path="/Extensions/")
    assert await client.outcome(ADD_ON) == 200
    assert await outcomes(client, 2, EXTENSION) == [503, 200]


async def test_a_fault_that_waits_for_a_path_holds_up_no_other(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.fail_next(path="/Extensions/")
    sandbox.fail_next(500)
    assert await client.outcome(ADD_ON) == 500
    assert await client.outcome(EXTENSION) == 503


async def test_a_dropped_connection_gives_no_answer(sandbox: Sandbox, client: Client) -> None:
    sandbox.drop_next(times=2)  # aiohttp asks twice before it gives up
    assert await client.outcome() is aiohttp.ServerDisconnectedError
    assert [request.status for request in sandbox.requests] == [None, None]
    assert await client.outcome() == 200


async def test_a_truncated_body_is_half_of_the_right_one(sandbox: Sandbox, client: Client) -> None:
    _, whole = await client.get()
    sandbox.truncate_next()
    async with (
        aiohttp.ClientSession(headers={"Authorization": client.header}) as http,
        http.get(sandbox.url + EXTENSION) as response,
    ):
        assert response.content_length == len(whole)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readexactly(len(whole))
    assert [request.status for request in sandbox.requests] == [200, 200]


async def test_a_truncated_body_can_be_a_compressed_one() -> None:
    async with Sandbox(Catalog([add_on() for _ in range(50)])) as sandbox:
        client = Client(sandbox)
        sandbox.truncate_next()
        assert await client.outcome("/v1/AvailableAddOns") is aiohttp.ClientPayloadError


async def test_a_delay_is_waited_for_and_answered(sandbox: Sandbox, client: Client) -> None:
    sandbox.delay_next(0.05)
    before = asyncio.get_running_loop().time()
    response, _ = await client.get()
    assert asyncio.get_running_loop().time() - before >= 0.05
    assert response.status == 200
    (request,) = sandbox.requests
    assert request.status == 200


async def test_faults_come_before_the_check_of_the_credentials(
    sandbox: Sandbox, client: Client
) -> None:
    client.header = "none"
    sandbox.fail_next()
    assert await outcomes(client, 2) == [503, 401]


@pytest.mark.parametrize("times", [0, -1])
def test_no_times_is_refused(times: int) -> None:
    sandbox = Sandbox()
    for ask in (sandbox.fail_next, sandbox.drop_next, sandbox.truncate_next):
        with pytest.raises(ValueError, match="times"):
            ask(times=times)
    with pytest.raises(ValueError, match="times"):
        sandbox.delay_next(1, times=times)


@pytest.mark.parametrize("status", [0, 100, 199, 600, -503])
def test_what_is_no_status_of_an_answer_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        Sandbox().fail_next(status)


async def test_a_status_without_a_name_can_be_answered(sandbox: Sandbox, client: Client) -> None:
    sandbox.fail_next(520)
    response, _ = await client.get()
    body = await response.json()
    assert (body["status"], body["code"], body["message"]) == (520, 20520, "Unknown error")


def drawn(seed: int, rate: float, count: int = 2000) -> list[Any]:
    injector = FaultInjector(seed)
    return [injector.draw(rate) for _ in range(count)]


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    assert drawn(1, 0.5) == drawn(1, 0.5)
    assert drawn(1, 0.5) != drawn(2, 0.5)


def test_the_rate_is_the_share_of_requests_that_fail() -> None:
    assert not any(drawn(0, 0.0))
    assert all(drawn(0, 1.0))
    assert 0.15 < sum(fault is not None for fault in drawn(0, 0.2)) / 2000 < 0.25


def test_random_faults_are_of_every_kind() -> None:
    kinds = Counter(fault.cut or (fault.answer and fault.answer.status) for fault in drawn(0, 1.0))
    assert set(kinds) == {429, 500, 502, 503, 504, Cut.BEFORE_ANSWER, Cut.IN_BODY}
    assert min(kinds.values()) > 200


async def test_a_share_of_requests_fails_the_same_way_in_each_sandbox() -> None:
    seen: list[list[int | None]] = []
    for _ in range(2):
        async with Sandbox(failure_rate=0.5, seed=7) as sandbox:
            await outcomes(Client(sandbox), 40)
            seen.append([request.status for request in sandbox.requests])
    assert seen[0] == seen[1]
    assert {200, 503} < set(seen[0])


async def test_scripted_faults_go_before_random_ones() -> None:
    async with Sandbox(failure_rate=1.0) as sandbox:
        sandbox.fail_next(418)
        assert await Client(sandbox).outcome() == 418


async def test_gateways_answer_in_html(sandbox: Sandbox) -> None:
    sandbox.failure_rate = 1.0
    client = Client(sandbox)
    types: dict[int, str] = {}
    async with aiohttp.ClientSession(headers={"Authorization": client.header}) as http:
        for _ in range(40):
            try:
                async with http.get(sandbox.url + EXTENSION) as response:
                    types[response.status] = response.content_type
                    await response.read()
            except aiohttp.ClientError:
                continue
    assert (types[502], types[504], types[500]) == ("text/html", "text/html", "application/json")
