import asyncio
import gzip
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from marketplace_async.models import Extension
from marketplace_async.sandbox import Catalog, Sandbox, add_on
from marketplace_async.settings import Credentials

ADD_ONS = "/v1/AvailableAddOns"
SAMPLE = f"{ADD_ONS}/XB{32 * 'a'}"
EXTENSIONS = f"{SAMPLE}/Extensions"
EXTENSION = f"{EXTENSIONS}/XF{32 * 'a'}"
RESOURCES = (ADD_ONS, SAMPLE, EXTENSIONS, EXTENSION)


@attrs.frozen
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def authorization(credentials: Credentials) -> dict[str, str]:
    encoded = aiohttp.encode_basic_auth(credentials.username, credentials.password)
    return {"Authorization": encoded}


async def ask(sandbox: Sandbox, path: str, method: str = "GET", **headers: str) -> Reply:
    """Ask with the sandbox's credentials, through a bare client that decompresses nothing."""
    url = path if "://" in path else sandbox.url + path
    sent = {**authorization(sandbox.credentials), "Accept-Encoding": "identity", **headers}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.request(method, url, headers=sent) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


# Resources


async def test_an_extension_is_answered_as_documented(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, EXTENSION)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == {
        "sid": "XF" + 32 * "a",
        "available_add_on_sid": "XB" + 32 * "a",
        "friendly_name": "Incoming Voice Call",
        "product_name": "Programmable Voice",
        "unique_name": "voice-incoming",
        "url": sandbox.url + EXTENSION,
    }


async def test_an_add_on_is_answered_as_documented(sandbox: Sandbox) -> None:
    assert (await ask(sandbox, SAMPLE)).json == {
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


async def test_a_list_holds_what_a_fetch_gives(sandbox: Sandbox) -> None:
    for listing, key, resource in (
        (ADD_ONS, "available_add_ons", SAMPLE),
        (EXTENSIONS, "extensions", EXTENSION),
    ):
        listed = (await ask(sandbox, listing)).json[key]
        assert listed[0] == (await ask(sandbox, resource)).json


async def test_walking_the_pages_gives_the_catalogue_forward_and_backward(
    sandbox: Sandbox,
) -> None:
    async def walk(url: str, towards: str) -> list[Any]:
        pages = [(await ask(sandbox, url)).json]
        while following := pages[-1]["meta"][towards]:
            pages.append((await ask(sandbox, following)).json)
        return pages

    def sids(pages: list[Any]) -> list[list[str]]:
        return [[item["sid"] for item in page["available_add_ons"]] for page in pages]

    pages = await walk(f"{ADD_ONS}?PageSize=40", "next_page_url")
    assert [len(page) for page in sids(pages)] == [40, 40, 40, 30]
    assert list(chain.from_iterable(sids(pages))) == list(sandbox.catalog)
    backward = await walk(pages[-1]["meta"]["url"], "previous_page_url")
    assert sids(backward) == sids(pages)[::-1]


async def test_every_add_on_lists_its_extensions(sandbox: Sandbox) -> None:
    for sid, entry in list(sandbox.catalog.items())[::30]:
        listed = (await ask(sandbox, f"{ADD_ONS}/{sid}/Extensions")).json["extensions"]
        assert [item["sid"] for item in listed] == [item.sid for item in entry.extensions]


class OnDemand(Sequence[Extension]):
    """A million extensions of which none is held; counts those that were made."""

    made = 0

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: Any) -> Any:
        self.made += 1
        return Extension(f"XF{index:032x}", "XB" + 32 * "1")


async def test_extensions_made_on_demand_are_made_for_one_page_alone() -> None:
    extensions = OnDemand()
    entry = add_on(extensions=extensions)
    async with Sandbox(Catalog([entry])) as sandbox:
        listing = f"{ADD_ONS}/{entry.add_on.sid}/Extensions?PageSize=1000"
        page = (await ask(sandbox, listing)).json
        page = (await ask(sandbox, page["meta"]["next_page_url"])).json
    assert page["extensions"][0]["sid"] == f"XF{1000:032x}"
    assert extensions.made == 2000


@pytest.fixture
def description() -> Any:
    file = os.environ.get("MARKETPLACE_API_DESCRIPTION")
    if not file:
        pytest.skip("MARKETPLACE_API_DESCRIPTION does not name Twilio's OpenAPI description")
    return json.loads(Path(file).read_text())


@pytest.mark.parametrize(
    ("path", "template"),
    [
        (ADD_ONS, ADD_ONS),
        (SAMPLE, f"{ADD_ONS}/{{Sid}}"),
        (EXTENSIONS, f"{ADD_ONS}/{{AvailableAddOnSid}}/Extensions"),
        (EXTENSION, f"{ADD_ONS}/{{AvailableAddOnSid}}/Extensions/{{Sid}}"),
    ],
)
async def test_every_answer_has_the_fields_of_the_api_description(
    sandbox: Sandbox, description: Any, path: str, template: str
) -> None:
    def fields(schema: Any) -> Any:
        if ref := schema.get("$ref"):
            schema = description["components"]["schemas"][ref.rpartition("/")[2]]
        if schema.get("type") == "array":
            return [fields(schema["items"])]
        if "properties" in schema:
            return {name: fields(of) for name, of in schema["properties"].items()}
        return ...

    def shape(value: Any, of: Any) -> Any:
        if of is ...:
            return ...
        if isinstance(value, list):
            return [shape(value[0], of[0])]
        return {name: shape(part, of.get(name, ...)) for name, part in value.items()}

    answer = description["paths"][template]["get"]["responses"]["200"]
    expected = fields(answer["content"]["application/json"]["schema"])
    assert shape((await ask(sandbox, path)).json, expected) == expected


# Errors


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/Listings",
        "/v2/AvailableAddOns",
        f"{ADD_ONS}/",
        f"{ADD_ONS}/XB{32 * '0'}",
        f"{ADD_ONS}/XB{32 * 'A'}",
        f"{ADD_ONS}/XB1",
        f"{ADD_ONS}/XB{32 * '0'}/Extensions",
        f"{SAMPLE}/Usage",
        f"{EXTENSIONS}/",
        f"{EXTENSIONS}/XF{32 * '0'}",
        f"{EXTENSIONS}/XF{32 * 'a'}/more",
        f"{ADD_ONS}/XB{32 * '0'}/Extensions/XF{32 * 'a'}",
        f"{ADD_ONS}/%0A",
        f"{ADD_ONS}/%22%7B",
    ],
)
async def test_what_is_not_there_is_answered_with_20404(sandbox: Sandbox, path: str) -> None:
    reply = await ask(sandbox, path)
    assert (reply.status, reply.json["code"], reply.json["status"]) == (404, 20404, 404)
    assert reply.json["more_info"] == "https://www.twilio.com/docs/errors/20404"


async def test_a_404_names_the_resource(sandbox: Sandbox) -> None:
    message = (await ask(sandbox, f"{ADD_ONS}/XB{32 * '0'}")).json["message"]
    assert message == f"The requested resource /AvailableAddOns/XB{32 * '0'} was not found"


@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_answered_with_20004(
    sandbox: Sandbox, path: str, method: str
) -> None:
    reply = await ask(sandbox, path, method)
    assert (reply.status, reply.json["code"]) == (405, 20004)
    assert reply.headers["Allow"] == "GET"


async def test_even_head_is_not_allowed(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, EXTENSION, "HEAD")
    assert (reply.status, reply.body) == (405, b"")


def basic(text: str) -> str:
    return aiohttp.encode_basic_auth(*text.split(":", 1))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic not-base64",
        "Bearer token",
        basic(f"AC{32 * 'a'}:wrong"),
        basic(f"AC{32 * 'b'}:sandbox"),
        basic(f"AC{32 * 'a'}:"),
        basic(f"AC{32 * 'a'}:sandbox") + "x",
    ],
)
@pytest.mark.parametrize("path", [EXTENSION, "/nowhere"])
async def test_without_the_right_credentials_the_answer_is_20003(
    sandbox: Sandbox, header: str, path: str
) -> None:
    reply = await ask(sandbox, path, Authorization=header)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="Twilio API"'
    assert reply.json == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


async def test_the_name_of_the_scheme_may_be_in_any_case(sandbox: Sandbox) -> None:
    header = authorization(sandbox.credentials)["Authorization"]
    assert (
        await ask(sandbox, EXTENSION, Authorization=header.swapcase()[:5] + header[5:])
    ).status == 200


async def test_only_the_given_credentials_are_accepted() -> None:
    async with Sandbox(credentials=Credentials("SK1", "pässword")) as sandbox:
        assert (await ask(sandbox, EXTENSION)).status == 200
        default = authorization(Sandbox().credentials)
        assert (await ask(sandbox, EXTENSION, **default)).status == 401


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("PageSize=0", 20001),
        ("PageSize=ten", 20001),
        ("PageSize=1001", 20007),
        ("Page=1", 20001),
        ("Page=x", 20001),
        ("PageToken=1", 21481),
    ],
)
@pytest.mark.parametrize("path", [ADD_ONS, EXTENSIONS])
async def test_a_wrong_page_is_answered_with_400(
    sandbox: Sandbox, path: str, query: str, code: int
) -> None:
    reply = await ask(sandbox, f"{path}?{query}")
    assert (reply.status, reply.json["code"], reply.json["status"]) == (400, code, 400)


async def test_unknown_parameters_are_ignored(sandbox: Sandbox) -> None:
    assert (await ask(sandbox, f"{EXTENSIONS}?Surprise=1")).status == 200


# Headers, bodies, addresses


async def test_every_answer_has_an_id_of_its_own_and_the_concurrency(sandbox: Sandbox) -> None:
    replies = [await ask(sandbox, path) for path in (EXTENSION, ADD_ONS, "/nowhere")]
    replies.append(await ask(sandbox, EXTENSION, Authorization="none"))
    ids = {reply.headers["Twilio-Request-Id"] for reply in replies}
    assert len(ids) == 4
    assert all(re.fullmatch("RQ[0-9a-f]{32}", id_) for id_ in ids)
    assert {reply.headers["Twilio-Concurrent-Requests"] for reply in replies} == {"1"}


async def test_a_large_body_is_compressed_for_who_asks_for_it(sandbox: Sandbox) -> None:
    plain = await ask(sandbox, ADD_ONS)
    packed = await ask(sandbox, ADD_ONS, **{"Accept-Encoding": "gzip, deflate"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 4
    assert gzip.decompress(packed.body) == plain.body


async def test_a_small_body_is_sent_as_it_is(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, EXTENSION, **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in reply.headers


@pytest.mark.parametrize("address", ["https://proxy.example", "https://proxy.example/"])
async def test_behind_a_proxy_urls_begin_with_its_address(address: str) -> None:
    async with Sandbox(public_base_url=address) as sandbox:
        page = (await ask(sandbox, f"{ADD_ONS}?PageSize=1")).json
        assert page["meta"]["next_page_url"].startswith(f"https://proxy.example{ADD_ONS}?")
        assert page["available_add_ons"][0]["url"] == f"https://proxy.example{SAMPLE}"
        following = page["meta"]["next_page_url"].removeprefix("https://proxy.example")
        assert (await ask(sandbox, following)).json["meta"]["page"] == 1


# What the tests of users look at


async def test_requests_are_listed_in_the_order_of_arrival_with_their_status(
    sandbox: Sandbox,
) -> None:
    await ask(sandbox, f"{EXTENSIONS}?PageSize=7", **{"X-Mine": "yes"})
    await ask(sandbox, "/nowhere", "POST")
    first, second = sandbox.requests
    assert (first.method, first.path, first.status) == ("GET", EXTENSIONS, 200)
    assert first.query == {"PageSize": "7"}
    assert first.headers["x-mine"] == "yes"
    assert (second.method, second.path, second.status) == ("POST", "/nowhere", 404)


async def test_nothing_shown_or_listed_holds_the_credentials() -> None:
    async with Sandbox(credentials=Credentials("SK1", "p4ssw0rd")) as sandbox:
        await ask(sandbox, EXTENSION)
        (request,) = sandbox.requests
        shown = repr((sandbox, request, dict(request.headers), attrs.asdict(request)))
        assert "p4ssw0rd" not in shown
        assert authorization(sandbox.credentials)["Authorization"] not in shown
        assert "Authorization" not in request.headers


async def test_a_request_is_listed_before_it_is_answered(sandbox: Sandbox) -> None:
    sandbox.delay_next(3600)
    asking = asyncio.create_task(ask(sandbox, EXTENSION))
    await until(lambda: bool(sandbox.requests))
    assert sandbox.requests[0].status is None
    asking.cancel()
    await asyncio.wait([asking])


async def test_the_latest_10_000_requests_are_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marketplace_async.sandbox.received._REMEMBERED", 2)
    for number in range(4):
        await ask(sandbox, f"/{number}")
    assert [request.path for request in sandbox.requests] == ["/2", "/3"]


async def test_clear_forgets_requests_peak_and_faults(sandbox: Sandbox) -> None:
    await ask(sandbox, EXTENSION)
    sandbox.fail_next()
    sandbox.clear()
    assert (sandbox.requests, sandbox.peak_concurrency) == ([], 0)
    assert (await ask(sandbox, EXTENSION)).status == 200


async def test_a_request_that_was_forgotten_does_not_come_back(sandbox: Sandbox) -> None:
    sandbox.delay_next(0.01)
    asking = asyncio.create_task(ask(sandbox, EXTENSION))
    await until(lambda: bool(sandbox.requests))
    sandbox.clear()
    assert (await asking).status == 200
    assert sandbox.requests == []


# Load


async def held(sandbox: Sandbox, count: int) -> list[asyncio.Task[Reply]]:
    """Start requests that stay unanswered."""
    sandbox.delay_next(3600, times=count)
    known = len(sandbox.requests)
    tasks = [asyncio.create_task(ask(sandbox, EXTENSION)) for _ in range(count)]
    await until(lambda: len(sandbox.requests) == known + count)
    return tasks


async def release(tasks: list[asyncio.Task[Reply]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_beyond_the_limit_requests_are_refused_at_once() -> None:
    async with Sandbox(max_concurrent=2, latency=0.01) as sandbox:
        holding = await held(sandbox, 2)
        sandbox.latency = 3600
        reply = await ask(sandbox, EXTENSION)
        assert (reply.status, reply.json["code"]) == (429, 20429)
        assert reply.json["message"] == "Too Many Requests"
        assert "Retry-After" not in reply.headers
        assert reply.headers["Twilio-Concurrent-Requests"] == "3"
        assert sandbox.peak_concurrency == 3
        await release(holding)


async def test_a_refusal_can_say_when_to_come_back() -> None:
    async with Sandbox(max_concurrent=1, retry_after=2) as sandbox:
        holding = await held(sandbox, 1)
        assert (await ask(sandbox, EXTENSION)).headers["Retry-After"] == "2"
        await release(holding)


async def test_the_limit_can_be_changed_while_it_runs() -> None:
    async with Sandbox(max_concurrent=1) as sandbox:
        holding = await held(sandbox, 1)
        sandbox.max_concurrent = 2
        assert (await ask(sandbox, EXTENSION)).status == 200
        await release(holding)


async def test_a_client_that_leaves_frees_its_place() -> None:
    async with Sandbox(max_concurrent=1) as sandbox:
        await release(await held(sandbox, 1))
        async with asyncio.timeout(10):
            while (await ask(sandbox, EXTENSION)).status == 429:
                pass


async def test_latency_is_waited_for() -> None:
    async with Sandbox(latency=0.05) as sandbox:
        before = asyncio.get_running_loop().time()
        assert (await ask(sandbox, EXTENSION)).status == 200
        assert asyncio.get_running_loop().time() - before >= 0.05


@pytest.mark.parametrize(
    "setting", [{"latency": -1}, {"max_concurrent": 0}, {"failure_rate": 1.1}, {"failure_rate": -1}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Sandbox(**setting)


# Start and end


async def test_it_listens_from_start_to_close_and_both_may_be_repeated() -> None:
    sandbox = Sandbox()
    assert await sandbox.start() is sandbox
    url = sandbox.url
    await sandbox.start()
    assert sandbox.url == url
    assert (await ask(sandbox, EXTENSION)).status == 200
    await sandbox.close()
    await sandbox.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(sandbox, url + EXTENSION)


async def test_started_again_it_listens_at_the_same_port() -> None:
    sandbox = Sandbox()
    async with sandbox:
        url = sandbox.url
    async with sandbox:
        assert sandbox.url == url
        assert (await ask(sandbox, EXTENSION)).status == 200


async def test_it_has_no_url_while_it_does_not_run() -> None:
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="does not run"):
        _ = sandbox.url
    assert repr(sandbox) == "<Sandbox, not running>"


async def test_a_port_in_use_is_an_error_that_leaves_nothing_behind(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await Sandbox(port=port).start()


@pytest.mark.parametrize("wait", ["latency", "delay"])
async def test_closing_does_not_wait_for_requests_that_wait(
    wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marketplace_async.sandbox.server._SHUTDOWN_SECONDS", 3600)
    tasks_before = asyncio.all_tasks()
    sandbox = await Sandbox(latency=3600 if wait == "latency" else 0).start()
    if wait == "delay":
        sandbox.delay_next(3600, times=3)
    asking = [asyncio.create_task(ask(sandbox, EXTENSION)) for _ in range(3)]
    await until(lambda: len(sandbox.requests) == 3)
    async with asyncio.timeout(5):
        await sandbox.close()
        replies = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(reply, aiohttp.ClientError) for reply in replies)
    assert asyncio.all_tasks() == tasks_before


async def test_closing_does_not_wait_for_idle_connections(sandbox: Sandbox) -> None:
    tasks_before = asyncio.all_tasks()
    async with aiohttp.ClientSession(headers=authorization(sandbox.credentials)) as http:
        async with http.get(sandbox.url + EXTENSION) as response:
            await response.read()
        async with asyncio.timeout(5):
            await sandbox.close()
    assert asyncio.all_tasks() <= tasks_before


async def test_closing_does_not_wait_for_a_client_that_does_not_read() -> None:
    tasks_before = asyncio.all_tasks()
    big = Catalog([add_on(friendly_name=1_000_000 * "x") for _ in range(50)])
    async with Sandbox(big) as sandbox:
        host, port = sandbox.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        header = authorization(sandbox.credentials)["Authorization"]
        writer.write(
            f"GET {ADD_ONS} HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\n\r\n".encode()
        )
        await reader.readexactly(1)
        async with asyncio.timeout(5):
            await sandbox.close()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert asyncio.all_tasks() == tasks_before
