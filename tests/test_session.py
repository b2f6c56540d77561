"""A session: its arguments, its states, and the sharing of its connections."""

import asyncio
import copy
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from anyio.from_thread import start_blocking_portal
from leftovers import all_blocked, leaves_nothing
from scripted_api import (
    ADD_ON,
    CREDENTIALS,
    EXTENSION,
    NEVER,
    ScriptedApi,
    fetch,
    page,
)
from virtual_time import VirtualTimeLoop, in_virtual_time

from marketplace_async import (
    AdaptiveLimiter,
    InvalidSidError,
    MarketplaceError,
    MarketplaceSession,
    NotFoundError,
    RequestTimeoutError,
    RetryPolicy,
    SessionClosedError,
    open_session,
)
from marketplace_async.sandbox import Catalog, Sandbox, add_on


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog([add_on(extensions=number % 4) for number in range(30)])


@pytest.fixture
async def sandbox(catalog: Catalog) -> AsyncIterator[Sandbox]:
    async with Sandbox(catalog) as sandbox:
        yield sandbox


def on(sandbox: Sandbox, **settings: Any) -> MarketplaceSession:
    """Return a session on a sandbox that hardly waits between attempts."""
    settings.setdefault("retry", RetryPolicy(wait_initial=0.001, wait_max=0.002))
    return open_session(sandbox.credentials, base_url=sandbox.url, **settings)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def first_sid(session: MarketplaceSession) -> str | None:
    found = await session.available_add_ons.list().first()
    return None if found is None else found.sid


# Arguments


def test_no_io(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a session and creating handles needs no event loop and does no I/O."""

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError

    for owner, name in ((socket, "socket"), (socket, "getaddrinfo"), (aiohttp, "ClientSession")):
        monkeypatch.setattr(owner, name, type(name, (), {"__init__": fail}))
    session = open_session(CREDENTIALS)
    assert session.available_add_ons(ADD_ON).extensions(EXTENSION.sid).sid == EXTENSION.sid
    session.available_add_ons(ADD_ON).extensions.list(limit=5, prefetch=True)


WRONG_TYPES: dict[str, list[Any]] = {
    "credentials": [("SK1", "secret"), "SK1:secret", type(CREDENTIALS)],
    "base_url": [1, b"https://localhost", True],
    "region": [1, ["ie1"]],
    "edge": [1, b"dublin"],
    "retry": [3, None, RetryPolicy],
    "limiter": [5, "x", AdaptiveLimiter, True],
    "timeout": [None, "5", True, aiohttp.ClientTimeout()],
    "max_response_bytes": ["x", 1.5, True, None],
    "http": ["x", aiohttp.ClientSession, True],
    "proxy": [3128, b"http://localhost"],
    "trace_configs": [None, 5, aiohttp.TraceConfig(), [aiohttp.TraceConfig]],
    "on_retry": ["x", 5],
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_type(name: str) -> None:
    """If an argument has a wrong type, the TypeError names it."""
    for value in WRONG_TYPES[name]:
        arguments: dict[str, Any] = {"credentials": CREDENTIALS, name: value}
        with pytest.raises(TypeError, match=rf"\b{name} must be "):
            open_session(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_response_bytes", 0),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("proxy", "localhost:3128"),
        ("proxy", "http://"),
        ("proxy", "socks5://localhost:1080"),
    ],
)
def test_wrong_value(name: str, value: Any) -> None:
    """If an argument is out of bounds, it is a ValueError."""
    with pytest.raises(ValueError, match=r"must be"):
        open_session(CREDENTIALS, **{name: value})


def test_fan_out_arguments() -> None:
    """If an argument of a fan-out is wrong, the error names it."""
    session: Any = open_session(CREDENTIALS)
    for add_ons in (ADD_ON, session.available_add_ons(ADD_ON), 5, None):
        with pytest.raises(TypeError, match=r"^add_ons must be an iterable"):
            session.extensions_across(add_ons)
    with pytest.raises(TypeError, match=r"^max_in_flight must be"):
        session.extensions_across([], max_in_flight=True)


@in_virtual_time
async def test_timeout_number() -> None:
    """A number as timeout is the total of a call in seconds."""
    async with ScriptedApi(NEVER) as api, api.session(timeout=2) as session:
        with pytest.raises(RequestTimeoutError) as caught:
            await fetch(session)
    assert asyncio.get_running_loop().time() == caught.value.seconds == 2


def test_repr() -> None:
    """A session is shown in one line, with its server and state."""
    session = open_session(CREDENTIALS, region="ie1")

    async def shown() -> list[str]:
        texts = [repr(session)]
        async with session:
            texts.append(repr(session))
        return [*texts, repr(session)]

    assert asyncio.run(shown()) == [
        f"<MarketplaceSession at https://marketplace.dublin.ie1.twilio.com, {state}>"
        for state in ("not started", "open", "closed")
    ]


def test_pickle() -> None:
    """A session, and what belongs to it, cannot be pickled or copied."""
    session = open_session(CREDENTIALS)
    handle = session.available_add_ons(ADD_ON)
    for value in (session, handle, handle.extensions, handle.extensions.list()):
        for function in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="hold credentials and cannot be pickled"):
                function(value)


# Opening and closing


async def test_start_close(sandbox: Sandbox) -> None:
    """Start and close replace the context manager; a second time, both do nothing."""
    session, unstarted = on(sandbox), open_session(CREDENTIALS)
    await unstarted.close()
    assert await session.start() is session
    assert await session.start() is session
    async with session as entered:
        assert entered is session
        assert await first_sid(session)
    await session.close()
    for closed in (session, unstarted):
        with pytest.raises(SessionClosedError, match="open another one"):
            await closed.start()


CALLS: dict[str, Callable[[MarketplaceSession], Awaitable[object]]] = {
    "add-on": lambda session: session.available_add_ons(ADD_ON).fetch(),
    "extension": fetch,
    "list": lambda session: session.available_add_ons.list().to_list(),
    "first": lambda session: session.available_add_ons(ADD_ON).extensions.list().first(),
    "prefetch": lambda session: anext(aiter(session.available_add_ons.list(prefetch=True))),
    "fan-out": lambda session: session.extensions_across([ADD_ON]).__aenter__(),
    "statistics": lambda session: asyncio.to_thread(session.statistics),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_not_open(
    call: Callable[[MarketplaceSession], Awaitable[object]], sandbox: Sandbox
) -> None:
    """If the session is not open, the error of a call tells how to open it."""
    session = on(sandbox)
    with pytest.raises(SessionClosedError, match="use async with or await start"):
        await call(session)
    async with session:
        pass
    with pytest.raises(SessionClosedError, match="the session is closed; open another one"):
        await call(session)
    assert not sandbox.requests


async def test_other_loop(sandbox: Sandbox) -> None:
    """If a call is made in another event loop, the error tells what to do instead."""
    async with on(sandbox) as session:
        for call in CALLS.values():

            async def awaiting(call: Callable[..., Awaitable[object]] = call) -> object:
                return await call(session)

            with pytest.raises(SessionClosedError, match=r"another event loop.*blocking_portal"):
                await asyncio.to_thread(asyncio.run, awaiting())
        assert not sandbox.requests
        assert await first_sid(session)


def test_portal() -> None:
    """Synchronous code can use a session through anyio's blocking portal."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox()) as sandbox,
        portal.wrap_async_context_manager(on(sandbox)) as session,
    ):
        assert portal.call(first_sid, session) == portal.call(first_sid, session)
        with pytest.raises(SessionClosedError, match="blocking_portal"):
            asyncio.run(first_sid(session))


def test_loops_in_turn() -> None:
    """A session of an ended event loop can be closed in the next one, but not used."""
    session = open_session(CREDENTIALS)
    asyncio.run(session.start())
    with pytest.raises(SessionClosedError, match="another event loop"):
        asyncio.run(first_sid(session))
    asyncio.run(session.close())
    assert repr(session).endswith("closed>")


# Connections


async def test_only_limiter(sandbox: Sandbox) -> None:
    """Only the limiter bounds the number of requests; closing ends them on real connections."""
    before = asyncio.all_tasks()
    sandbox.latency = 60
    async with on(sandbox, limiter=asyncio.Semaphore(150)) as session:
        calls = [asyncio.create_task(first_sid(session)) for _ in range(160)]
        await until(lambda: len(sandbox.requests) == 150)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in ended] == [SessionClosedError] * 160
    assert sandbox.peak_concurrency == len(sandbox.requests) == 150
    # The tasks of the server end as soon as it notices that the connections are gone.
    await until(lambda: asyncio.all_tasks() <= before)


# Closing while calls are under way


@leaves_nothing
async def test_close_names_request() -> None:
    """The error of a call that was ended names its request; no timer is left."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    async with ScriptedApi(NEVER) as api:
        async with api.session() as session:
            call = asyncio.create_task(fetch(session))
            await all_blocked()
            await session.start()
            assert loop.timers()
        with pytest.raises(SessionClosedError, match="closed during the call") as caught:
            await call
    assert caught.value.url
    assert caught.value.url.endswith(EXTENSION.sid)
    assert loop.timers() == []


@leaves_nothing
async def test_close_ends_prefetch() -> None:
    """Closing ends a listing that requests its next page."""
    url = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions?Page=1"
    async with ScriptedApi(page(EXTENSION.sid, next_page_url=url), NEVER) as api:
        async with api.session() as session:
            items = aiter(session.available_add_ons(ADD_ON).extensions.list(prefetch=True))
            assert (await anext(items)).sid == EXTENSION.sid
            await all_blocked()
            assert len(api.requests) == 2
        with pytest.raises(SessionClosedError):
            await anext(items)


@leaves_nothing
async def test_close_ends_fan_out() -> None:
    """Closing ends every input of a fan-out with an error."""
    async with (
        ScriptedApi(then=NEVER) as api,
        api.session() as session,
        session.extensions_across([ADD_ON] * 30) as outcomes,
    ):
        await all_blocked()
        await session.close()
        errors = [type(outcome.error) async for outcome in outcomes]
    assert errors == [SessionClosedError] * 30


# The caller's own aiohttp session


async def test_http_stays_open(sandbox: Sandbox) -> None:
    """The caller's aiohttp session is used and stays open; credentials stay apart."""
    async with aiohttp.ClientSession(headers={"X-Caller": "me"}) as http:
        async with (
            on(sandbox, http=http) as right,
            open_session(CREDENTIALS, base_url=sandbox.url, http=http) as wrong,
        ):
            assert await first_sid(right)
            with pytest.raises(MarketplaceError, match="HTTP 401"):
                await first_sid(wrong)
            assert await first_sid(right)
        assert not http.closed
    assert [request.headers["X-Caller"] for request in sandbox.requests] == ["me"] * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "https://elsewhere.example/api/"},
        {"raise_for_status": True},
        {"cookies": {"flavour": "chocolate"}},
        {"headers": {"Authorization": "Basic bm9ib2R5Og==", "Accept-Encoding": "zstd"}},
        {"timeout": aiohttp.ClientTimeout(total=1e-9)},
        {"read_bufsize": 1},
        {"skip_auto_headers": ["User-Agent", "Accept"]},
        {"version": aiohttp.HttpVersion10},
    ],
    ids=lambda settings: next(iter(settings)),
)
async def test_http_settings(settings: dict[str, Any], sandbox: Sandbox, catalog: Catalog) -> None:
    """The settings of the caller's aiohttp session do no harm."""
    sandbox.fail_next(503)
    sandbox.fail_next(400, message="No such thing", path="Extensions")
    async with aiohttp.ClientSession(**settings) as http, on(sandbox, http=http) as session:
        listed = await session.available_add_ons.list()
        with pytest.raises(MarketplaceError, match="HTTP 400, code 20001: No such thing"):
            await fetch(session)
    assert [listing.sid for listing in listed] == [*catalog]


async def test_http_closed(sandbox: Sandbox) -> None:
    """If the caller's aiohttp session is closed, the error says so."""
    async with aiohttp.ClientSession() as http:
        session = await on(sandbox, http=http).start()
        assert await first_sid(session)
    with pytest.raises(SessionClosedError, match="the aiohttp session is closed"):
        await first_sid(session)
    await session.close()


def test_http_other_loop() -> None:
    """If the caller's aiohttp session belongs to another event loop, start raises."""

    async def new_http() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with asyncio.Runner() as other:
        http = other.run(new_http())
        session = open_session(CREDENTIALS, http=http)
        with pytest.raises(SessionClosedError, match="aiohttp session belongs to another event"):
            asyncio.run(session.start())
        asyncio.run(session.close())
        assert not http.closed
        other.run(http.close())


async def test_http_contradictions() -> None:
    """The caller's aiohttp session excludes trace_configs, and a proxy excludes plain HTTP."""
    plain, proxy = "http://localhost:9", "http://localhost:3128"
    async with (
        aiohttp.ClientSession() as http,
        aiohttp.ClientSession(proxy=proxy) as proxied,
        aiohttp.ClientSession(trust_env=True) as trusting,
    ):
        with pytest.raises(ValueError, match="pass them to yours"):
            open_session(CREDENTIALS, http=http, trace_configs=[aiohttp.TraceConfig()])
        each: list[dict[str, Any]] = [{"proxy": proxy}, {"http": proxied}, {"http": trusting}]
        for settings in each:
            with pytest.raises(ValueError, match="a proxy could read the credentials"):
                open_session(CREDENTIALS, base_url=plain, **settings)
            open_session(CREDENTIALS, **settings)


# Fan-outs over the API


@pytest.mark.parametrize("kind", ["SIDs", "models", "handles", "pager"])
async def test_extensions_across(kind: str, sandbox: Sandbox, catalog: Catalog) -> None:
    """The Extensions of each Add-on are listed, whatever the Add-ons are passed as."""
    async with on(sandbox) as session:
        inputs: dict[str, Any] = {
            "SIDs": [*catalog, *catalog],
            "models": [entry.add_on for entry in catalog.values()],
            "handles": [session.available_add_ons(sid) for sid in catalog],
            "pager": session.available_add_ons.list(page_size=7, prefetch=True),
        }
        async with session.extensions_across(inputs[kind]) as outcomes:
            found = [(outcome.input, outcome.unwrap()) async for outcome in outcomes]
    assert len(found) == len(catalog) * (2 if kind == "SIDs" else 1)
    queries = [request.query for request in sandbox.requests if "Extensions" in request.path]
    assert {query["PageSize"] for query in queries} == {"1000"}
    for input_, extensions in found:
        sid = input_ if kind == "SIDs" else input_.sid
        assert [item.sid for item in extensions] == [item.sid for item in catalog[sid].extensions]


async def test_invalid_inputs(sandbox: Sandbox, catalog: Catalog) -> None:
    """If an input fails, its outcome has the error and the others their values."""
    unknown = "XB" + 32 * "0"
    sids = [*catalog][:5]
    async with on(sandbox) as session:
        inputs = [*sids, unknown, "XF" + 32 * "a", "../Accounts"]
        async with session.extensions_across(inputs) as outcomes:
            found = {outcome.input: type(outcome.error) async for outcome in outcomes}
    assert found == dict.fromkeys(sids, type(None)) | {
        unknown: NotFoundError,
        "XF" + 32 * "a": InvalidSidError,
        "../Accounts": InvalidSidError,
    }
    assert len(sandbox.requests) == 6
