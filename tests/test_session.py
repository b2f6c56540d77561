"""A session from its making to its end, and what is made of its settings."""

import asyncio
import logging
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from leftovers import all_blocked, leaves_nothing
from scripted_api import (
    ADD_ON,
    CREDENTIALS,
    EXTENSION,
    FOUND,
    NEVER,
    ScriptedApi,
    Steady,
    error,
    fetch,
    page,
)
from virtual_time import VirtualTimeLoop

from marketplace_async import (
    AdaptiveLimiter,
    AvailableAddOn,
    ConnectionFailedError,
    Credentials,
    Extension,
    InvalidSidError,
    MarketplaceError,
    MarketplaceSession,
    MissingCredentialsError,
    NotFoundError,
    Outcome,
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
    """A session with a sandbox that hardly waits between attempts."""
    settings.setdefault("retry", RetryPolicy(wait_initial=0.001, wait_max=0.002))
    return open_session(sandbox.credentials, base_url=sandbox.url, **settings)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def first_sid(session: MarketplaceSession) -> str | None:
    found = await session.available_add_ons.list().first()
    return None if found is None else found.sid


# Making one


def test_it_is_made_without_event_loop_and_without_input_or_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a session that is not entered opens nothing")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(aiohttp, "ClientSession", refuse)
    session = open_session(CREDENTIALS)
    handle = session.available_add_ons(ADD_ON).extensions(EXTENSION.sid)
    assert handle.sid == EXTENSION.sid
    session.available_add_ons(ADD_ON).extensions.list(limit=5, prefetch=2)


def test_it_may_be_made_first_and_entered_in_a_loop_that_begins_later() -> None:
    session = open_session(CREDENTIALS)

    @leaves_nothing
    async def use() -> None:
        async with ScriptedApi(FOUND), session:
            assert await fetch(session) == EXTENSION

    use()


def test_without_credentials_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "API_SECRET", "ACCOUNT_SID", "AUTH_TOKEN"):
        monkeypatch.delenv(f"TWILIO_{name}", raising=False)
    with pytest.raises(MissingCredentialsError) as caught:
        open_session()
    for name in ("API_KEY", "API_SECRET", "ACCOUNT_SID", "AUTH_TOKEN"):
        assert f"TWILIO_{name}" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_response_bytes": 0}, ValueError),
        ({"max_response_bytes": 1.5}, TypeError),
        ({"base_url": "http://marketplace.twilio.com"}, ValueError),
        ({"base_url": "https://localhost", "region": "ie1"}, ValueError),
        ({"edge": "../"}, ValueError),
    ],
    ids=str,
)
def test_settings_out_of_bounds_are_refused_when_it_is_made(
    settings: dict[str, Any], expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        open_session(CREDENTIALS, **settings)


def test_it_shows_where_it_talks_to_and_its_state_and_no_secret() -> None:
    session = open_session(CREDENTIALS, region="ie1")

    async def shown() -> list[str]:
        texts = [repr(session)]
        async with session:
            texts.append(repr(session))
        return [*texts, repr(session)]

    assert asyncio.run(shown()) == [
        f"<MarketplaceSession at https://marketplace.ie1.twilio.com, {state}>"
        for state in ("new", "open", "closed")
    ]


# Opening and closing


async def test_start_and_close_work_without_async_with_and_may_be_repeated(
    sandbox: Sandbox,
) -> None:
    session = on(sandbox)
    assert await session.start() is session
    assert await session.start() is session
    assert await first_sid(session)
    await session.close()
    await session.close()
    assert len(sandbox.requests) == 1


@leaves_nothing
async def test_starting_what_is_started_changes_nothing_for_calls_under_way() -> None:
    async with ScriptedApi(NEVER) as api, api.session() as session:
        call = asyncio.create_task(end_of(fetch(session)))
        await all_blocked()
        await session.start()
        await session.close()
        assert await call == "SessionClosedError at 1 after 1"


async def test_closing_one_that_was_never_started_is_harmless() -> None:
    session = open_session(CREDENTIALS)
    await session.close()
    await session.close()
    with pytest.raises(SessionClosedError):
        await session.start()


async def test_a_session_that_was_entered_by_start_may_be_entered_again_and_ends_once(
    sandbox: Sandbox,
) -> None:
    session = await on(sandbox).start()
    async with session as entered:
        assert entered is session
        assert await first_sid(session)
    with pytest.raises(SessionClosedError):
        await first_sid(session)


CALLS: list[Callable[[MarketplaceSession], Awaitable[object]]] = [
    lambda session: session.available_add_ons(ADD_ON).fetch(),
    fetch,
    lambda session: session.available_add_ons.list().to_list(),
    lambda session: session.available_add_ons(ADD_ON).extensions.list().first(),
    lambda session: anext(aiter(session.available_add_ons.list(prefetch=2))),
]
each_call = pytest.mark.parametrize("call", CALLS, ids=["add-on", "extension", "to_list", "first",
                                                        "prefetch"])  # fmt: skip


@each_call
async def test_before_it_is_open_a_call_says_how_to_open_it(
    call: Callable[[MarketplaceSession], Awaitable[object]], sandbox: Sandbox
) -> None:
    session = on(sandbox)
    with pytest.raises(SessionClosedError, match="async with or await start"):
        await call(session)
    assert not sandbox.requests


@each_call
async def test_after_it_is_closed_a_call_says_so(
    call: Callable[[MarketplaceSession], Awaitable[object]], sandbox: Sandbox
) -> None:
    async with on(sandbox) as session:
        pass
    with pytest.raises(SessionClosedError, match="the session is closed"):
        await call(session)
    assert not sandbox.requests


async def test_what_is_closed_is_not_opened_again(sandbox: Sandbox) -> None:
    async with on(sandbox) as session:
        pass
    with pytest.raises(SessionClosedError, match="make another"):
        await session.start()
    with pytest.raises(SessionClosedError, match="make another"):
        async with session:
            pass


async def test_in_another_event_loop_a_call_is_refused(sandbox: Sandbox) -> None:
    async with on(sandbox) as session:
        for call in CALLS:
            with pytest.raises(SessionClosedError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, awaiting(call, session))
        assert not sandbox.requests
        assert await first_sid(session)


async def awaiting(
    call: Callable[[MarketplaceSession], Awaitable[object]], session: MarketplaceSession
) -> object:
    return await call(session)


async def test_an_exception_in_the_block_passes_and_closes_the_session(sandbox: Sandbox) -> None:
    session = on(sandbox)
    with pytest.raises(LookupError, match="of the caller"):
        async with session:
            raise LookupError("of the caller")
    with pytest.raises(SessionClosedError):
        await first_sid(session)


def test_the_error_of_a_closed_session_is_a_runtime_error_too_and_survives_pickling() -> None:
    closed = SessionClosedError("the session is closed")
    assert isinstance(closed, RuntimeError)
    assert str(pickle.loads(pickle.dumps(closed))) == str(closed)  # noqa: S301  # made here


async def test_any_number_of_tasks_share_a_session(sandbox: Sandbox, catalog: Catalog) -> None:
    async with on(sandbox) as session:

        async def name(sid: str) -> str | None:
            return (await session.available_add_ons(sid).fetch()).friendly_name

        names = await asyncio.gather(*(name(sid) for sid in [*catalog] * 4))
    assert names == [entry.add_on.friendly_name for entry in catalog.values()] * 4


async def test_connections_are_kept_for_later_calls(sandbox: Sandbox) -> None:
    connections: list[str] = []
    trace = aiohttp.TraceConfig()

    async def created(*args: object) -> None:
        connections.append("created")

    async def reused(*args: object) -> None:
        connections.append("reused")

    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    async with on(sandbox, trace_configs=[trace]) as session:
        for _ in range(3):
            await first_sid(session)
        with pytest.raises(NotFoundError):
            await session.available_add_ons("XB" + 32 * "0").fetch()
        await first_sid(session)
    assert connections == ["created", *["reused"] * 4]


async def test_only_the_limiter_bounds_what_is_in_flight(sandbox: Sandbox) -> None:
    sandbox.latency = 60
    async with on(sandbox, limiter=asyncio.Semaphore(150)) as session:
        calls = [asyncio.create_task(first_sid(session)) for _ in range(160)]
        await until(lambda: len(sandbox.requests) == 150)
    await asyncio.gather(*calls, return_exceptions=True)
    assert sandbox.peak_concurrency == len(sandbox.requests) == 150


# Closing while calls are under way. In each case the session is left as soon as everybody waits.


async def end_of(call: Awaitable[object]) -> str:
    """How a call ended, and when."""
    now = asyncio.get_running_loop().time
    try:
        await call
    except MarketplaceError as error:
        return f"{type(error).__name__} at {now():g} after {error.attempts}"
    return f"done at {now():g}"


@leaves_nothing
async def test_closing_ends_a_call_that_waits_for_its_answer() -> None:
    async with ScriptedApi(NEVER) as api:
        async with api.session() as session:
            call = asyncio.create_task(end_of(fetch(session)))
            await all_blocked()
        assert await call == "SessionClosedError at 1 after 1"


@leaves_nothing
async def test_closing_ends_calls_that_queue_in_the_limiter() -> None:
    limiter = AdaptiveLimiter(start=1, ceiling=1)
    async with ScriptedApi(NEVER) as api:
        async with api.session(limiter=limiter) as session:
            calls = [asyncio.create_task(end_of(fetch(session))) for _ in range(3)]
            await all_blocked()
            assert limiter.statistics().waiting == 2
        ends = await asyncio.gather(*calls)
    assert ends == [f"SessionClosedError at 1 after {attempts}" for attempts in (1, 0, 0)]
    assert limiter.statistics().in_flight == limiter.statistics().waiting == 0


@leaves_nothing
async def test_closing_ends_a_call_that_waits_for_its_next_attempt() -> None:
    async with ScriptedApi(error(500)) as api:
        async with api.session(retry=Steady(wait_initial=9)) as session:
            call = asyncio.create_task(end_of(fetch(session)))
            await all_blocked()
        assert await call == "SessionClosedError at 1 after 1"


@leaves_nothing
async def test_closing_ends_calls_that_sit_out_a_pause() -> None:
    async with ScriptedApi(error(429, Retry_After=9)) as api:
        async with api.session() as session:
            calls = [asyncio.create_task(end_of(fetch(session))) for _ in range(3)]
            await all_blocked()
            assert len(api.requests) == 1
        ends = await asyncio.gather(*calls)
    assert ends == [f"SessionClosedError at 1 after {attempts}" for attempts in (1, 0, 0)]


@leaves_nothing
async def test_closing_ends_calls_that_stand_by_in_an_outage() -> None:
    retried: list[object] = []
    async with ScriptedApi(*[error(503)] * 8) as api:
        async with api.session(
            retry=Steady(wait_initial=9), limiter=asyncio.Semaphore(8), on_retry=retried.append
        ) as session:
            calls = [asyncio.create_task(end_of(fetch(session))) for _ in range(8)]
            await all_blocked()
            assert len(retried) == 5
        ends = await asyncio.gather(*calls)
    assert ends == ["SessionClosedError at 1 after 1"] * 8


@leaves_nothing
async def test_closing_ends_a_listing_that_reads_ahead() -> None:
    url = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions?Page=1"
    async with ScriptedApi(page(EXTENSION.sid, next_page_url=url), NEVER) as api:
        async with api.session() as session:
            items = aiter(session.available_add_ons(ADD_ON).extensions.list(prefetch=3))
            assert (await anext(items)).sid == EXTENSION.sid
            await all_blocked()
            assert len(api.requests) == 2
        with pytest.raises(SessionClosedError):
            await anext(items)


@leaves_nothing
async def test_closing_gives_every_input_of_a_fan_out_its_error() -> None:
    async with ScriptedApi(then=NEVER) as api:
        async with api.session() as session:
            outcomes = session.extensions_across([ADD_ON] * 10)
            first = asyncio.create_task(anext(outcomes))
            await all_blocked()
        errors = [(await first).error] + [outcome.error async for outcome in outcomes]
    assert [type(error) for error in errors] == [SessionClosedError] * 10


@leaves_nothing
async def test_closing_leaves_no_timer() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    async with ScriptedApi(FOUND, NEVER) as api:
        async with api.session() as session:
            await fetch(session)
            call = asyncio.create_task(end_of(fetch(session)))
            await all_blocked()
            assert loop.timers()
        await call
    assert loop.timers() == []


@leaves_nothing
async def test_a_closed_session_names_the_request_that_it_ended() -> None:
    async with ScriptedApi(NEVER) as api:
        async with api.session() as session:
            call = asyncio.create_task(fetch(session))
            await all_blocked()
        with pytest.raises(SessionClosedError, match="closed under the call") as caught:
            await call
    assert caught.value.url
    assert caught.value.url.endswith(EXTENSION.sid)


@leaves_nothing
async def test_a_call_may_close_its_own_session() -> None:
    async def close(_: object) -> None:
        await session.close()

    async with (
        ScriptedApi() as api,
        api.session() as session,
        session.fan_out(close, [1]) as outcomes,
    ):
        assert [outcome async for outcome in outcomes] == [Outcome(1, None, None)]


async def test_closing_with_calls_on_real_connections_leaves_nothing_open(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    sandbox.latency = 60
    async with on(sandbox, limiter=asyncio.Semaphore(4)) as session:
        calls = [asyncio.create_task(first_sid(session)) for _ in range(10)]
        await until(lambda: len(sandbox.requests) == 4)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in ended] == [SessionClosedError] * 10
    # What served them ends as soon as the server notices that they are gone.
    await until(lambda: asyncio.all_tasks() <= before)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# The caller's own aiohttp session


async def test_a_pool_of_the_callers_is_used_and_left_open(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession(headers={"X-Caller": "me"}) as http:
        for _ in range(2):
            async with on(sandbox, http=http) as session:
                assert await first_sid(session)
            assert not http.closed
        async with http.get(sandbox.url, headers={"Authorization": "none"}) as response:
            assert response.status == 401
    assert [request.headers["X-Caller"] for request in sandbox.requests] == ["me"] * 3


async def test_two_sessions_share_a_pool_and_keep_their_credentials_apart(
    sandbox: Sandbox,
) -> None:
    async with (
        aiohttp.ClientSession() as http,
        on(sandbox, http=http) as right,
        open_session(CREDENTIALS, base_url=sandbox.url, http=http) as wrong,
    ):
        assert await first_sid(right)
        with pytest.raises(MarketplaceError, match="HTTP 401"):
            await first_sid(wrong)
        assert await first_sid(right)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "https://elsewhere.example/api/"},
        {"raise_for_status": True},
        {"cookies": {"flavour": "chocolate"}},
        {"headers": {"Authorization": "Basic bm9ib2R5Og==", "Accept-Encoding": "zstd"}},
        {"auto_decompress": False},
        {"timeout": aiohttp.ClientTimeout(total=1e-9)},
        {"read_bufsize": 1},
        {"requote_redirect_url": False},
        {"skip_auto_headers": ["User-Agent", "Accept"]},
        {"version": aiohttp.HttpVersion10},
    ],
    ids=lambda settings: next(iter(settings)),
)
async def test_the_settings_of_the_callers_pool_do_no_harm(
    settings: dict[str, Any], sandbox: Sandbox, catalog: Catalog
) -> None:
    sandbox.fail_next(503)
    sandbox.fail_next(400, message="No such thing", path="Extensions")
    async with aiohttp.ClientSession(**settings) as http, on(sandbox, http=http) as session:
        listed = await session.available_add_ons.list().to_list()
        with pytest.raises(MarketplaceError, match="HTTP 400, code 20001: No such thing"):
            await fetch(session)
    assert [listing.sid for listing in listed] == [*catalog]


async def test_a_pool_that_the_caller_has_closed_is_a_closed_session(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as http:
        session = await on(sandbox, http=http).start()
        assert await first_sid(session)
    with pytest.raises(SessionClosedError, match="the aiohttp session is closed"):
        await first_sid(session)
    await session.close()


def test_a_pool_of_another_event_loop_is_refused_when_the_session_is_opened() -> None:
    async def pool() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def refused(http: aiohttp.ClientSession) -> None:
        session = open_session(CREDENTIALS, http=http)
        with pytest.raises(SessionClosedError, match="aiohttp session belongs to another event"):
            await session.start()
        await session.close()

    with asyncio.Runner() as other:
        http = other.run(pool())
        asyncio.run(refused(http))
        assert not http.closed
        other.run(http.close())


async def test_a_pool_with_other_credentials_for_the_host_says_so_and_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else")
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        aiohttp.ClientSession(trust_env=True) as http,
        open_session(CREDENTIALS, base_url="https://localhost:9", http=http) as session,
    ):
        with pytest.raises(
            ConnectionFailedError, match="other credentials for this host"
        ) as caught:
            await fetch(session)
    assert caught.value.attempts == 1


async def test_trace_configs_go_with_a_pool_of_its_own_only() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ValueError, match="give them to the aiohttp session"):
            open_session(CREDENTIALS, http=http, trace_configs=[aiohttp.TraceConfig()])


async def test_a_trace_sees_each_attempt(sandbox: Sandbox) -> None:
    statuses: list[int] = []
    trace = aiohttp.TraceConfig()

    async def ended(_: object, __: object, end: aiohttp.TraceRequestEndParams) -> None:
        statuses.append(end.response.status)

    trace.on_request_end.append(ended)
    sandbox.fail_next(503, times=2)
    async with on(sandbox, trace_configs=[trace]) as session:
        await first_sid(session)
    assert statuses == [503, 503, 200]


# Fanning out over the API


def as_listed(catalog: Catalog) -> dict[str, list[str]]:
    return {sid: [item.sid for item in entry.extensions] for sid, entry in catalog.items()}


def collected(outcomes: list[Outcome[Any, tuple[Extension, ...]]]) -> dict[str, list[str]]:
    return {
        outcome.input if isinstance(outcome.input, str) else outcome.input.sid: [
            item.sid for item in outcome.unwrap()
        ]
        for outcome in outcomes
    }


@pytest.mark.parametrize("what", ["SIDs", "models", "handles", "a mixture", "a pager"])
async def test_extensions_across_add_ons_are_those_of_the_catalogue(
    what: str, sandbox: Sandbox, catalog: Catalog
) -> None:
    async with on(sandbox) as session:
        sids = [*catalog]
        models = [entry.add_on for entry in catalog.values()]
        handles = [session.available_add_ons(sid) for sid in sids]
        inputs: dict[str, Any] = {
            "SIDs": sids,
            "models": models,
            "handles": handles,
            "a mixture": [*sids[:10], *models[10:20], *handles[20:]],
            "a pager": session.available_add_ons.list(page_size=7, prefetch=1),
        }
        async with session.extensions_across(inputs[what]) as outcomes:
            found = [outcome async for outcome in outcomes]
    assert len(found) == len(catalog)
    assert collected(found) == as_listed(catalog)
    if what == "a pager":
        assert all(isinstance(outcome.input, AvailableAddOn) for outcome in found)


async def test_the_whole_built_in_catalogue_streams_through_faults() -> None:
    async with Sandbox(failure_rate=0.1, seed=3) as sandbox, on(sandbox) as session:
        add_ons = session.available_add_ons.list(prefetch=1)
        async with session.extensions_across(add_ons) as outcomes:
            found = [outcome async for outcome in outcomes]
        assert collected(found) == as_listed(sandbox.catalog)


async def test_an_input_that_fails_yields_its_error_and_loses_no_other(
    sandbox: Sandbox, catalog: Catalog
) -> None:
    unknown = "XB" + 32 * "0"
    sids = [*catalog][:5]
    async with on(sandbox) as session:
        inputs = [*sids, unknown, "XF" + 32 * "a", "../Accounts"]
        async with session.extensions_across(inputs) as outcomes:
            found = {outcome.input: outcome async for outcome in outcomes}
    assert isinstance(found.pop(unknown).error, NotFoundError)
    assert isinstance(found.pop("XF" + 32 * "a").error, InvalidSidError)
    assert isinstance(found.pop("../Accounts").error, InvalidSidError)
    assert collected([*found.values()]) == {sid: as_listed(catalog)[sid] for sid in sids}
    assert len(sandbox.requests) == 6


async def test_a_sid_given_twice_is_answered_twice(sandbox: Sandbox, catalog: Catalog) -> None:
    sid = next(iter(catalog))
    async with on(sandbox) as session:
        found = [outcome.input async for outcome in session.extensions_across([sid, sid])]
    assert found == [sid, sid]


async def test_extensions_of_one_add_on_come_a_thousand_at_a_time() -> None:
    entry = add_on(extensions=2500)
    async with Sandbox(Catalog([entry])) as sandbox, on(sandbox) as session:
        async with session.extensions_across([entry.add_on]) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        assert len(outcome.unwrap()) == 2500
        assert [request.query["PageSize"] for request in sandbox.requests] == ["1000"] * 3


async def test_a_function_is_fanned_out_over_any_inputs(sandbox: Sandbox, catalog: Catalog) -> None:
    async with on(sandbox) as session:

        async def name(sid: str) -> str | None:
            return (await session.available_add_ons(sid).fetch()).friendly_name

        async with session.fan_out(name, catalog, max_in_flight=3) as outcomes:
            names = {outcome.input: outcome.unwrap() async for outcome in outcomes}
    assert names == {sid: entry.add_on.friendly_name for sid, entry in catalog.items()}
    assert sandbox.peak_concurrency <= 3


@pytest.mark.parametrize("max_in_flight", [0, -1])
def test_a_fan_out_without_room_is_refused(max_in_flight: int) -> None:
    session = open_session(CREDENTIALS)
    with pytest.raises(ValueError, match="max_in_flight"):
        session.fan_out(fetch, [session], max_in_flight=max_in_flight)
    with pytest.raises(ValueError, match="max_in_flight"):
        session.extensions_across([ADD_ON], max_in_flight=max_in_flight)


async def test_leaving_a_fan_out_early_leaves_no_task_and_a_session_that_works(
    sandbox: Sandbox, catalog: Catalog
) -> None:
    before = asyncio.all_tasks()
    async with on(sandbox) as session:
        async with session.extensions_across(session.available_add_ons.list()) as outcomes:
            async for _ in outcomes:
                break
        await until(lambda: asyncio.all_tasks() <= before)
        assert await first_sid(session) == next(iter(catalog))


async def test_one_string_is_not_taken_for_many_add_ons() -> None:
    session = open_session(Credentials("SK", "secret"))
    with pytest.raises(TypeError, match="several Add-ons"):
        session.extensions_across("XB" + "a" * 32)
