"""Credentials go into one header of each request, and show nowhere else.

The tests of faults run with the same look-out, the fixture ``nothing_leaks``.
"""

import asyncio
import base64
import contextlib
import copy
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from leaks import SECRETS, secrets_in, texts_of
from wire import (
    ADD_ON,
    CREDENTIALS,
    EXTENSION,
    STALL,
    Answer,
    Request,
    Wire,
    answer,
    answers_in_turn,
    error,
    extension,
    failure,
    fetch,
    page,
    quick,
)

from marketplace_async import (
    AdaptiveLimiter,
    ConnectionFailedError,
    Credentials,
    MarketplaceError,
    MissingCredentialsError,
    RetryEvent,
    RetryPolicy,
    Timeout,
    open_session,
)

HEALTHY = answer(extension())


# The look-out itself


def fail_plainly(secret: str) -> None:
    raise ValueError(secret)


def fail_with_an_attribute(secret: str) -> None:
    failure = ValueError("no")
    failure.secret = secret  # type: ignore[attr-defined]  # as some libraries do
    raise failure


def fail_because(secret: str) -> None:
    try:
        fail_plainly(secret)
    except ValueError as error:
        raise RuntimeError("no") from error


def fail_quietly_because(secret: str) -> None:
    try:
        fail_plainly(secret)
    except ValueError:
        raise RuntimeError("no") from None


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "fail", [fail_plainly, fail_with_an_attribute, fail_because, fail_quietly_because]
)
def test_the_look_out_finds_a_secret_in_an_exception(
    fail: Callable[[str], None], secret: str
) -> None:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        fail(f"<{secret}>")
    assert any(secrets_in(text) for _, text in texts_of(caught.value))


async def test_the_look_out_finds_the_header_that_aiohttp_shows() -> None:
    header = {"Authorization": aiohttp.encode_basic_auth(*vars_of(CREDENTIALS))}
    async with (
        Wire(answers_in_turn(b"no HTTP\r\n\r\n", b"no HTTP\r\n\r\n")) as wire,
        aiohttp.ClientSession(headers=header) as http,
    ):
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await http.get(wire.url)
    places = {place for place, text in texts_of(caught.value) if secrets_in(text)}
    assert "repr of ClientResponseError" in places
    assert any(place.startswith("local headers of ClientSession") for place in places)


def vars_of(credentials: Credentials) -> tuple[str, str]:
    return credentials.username, credentials.password


# What is sent


async def test_each_request_carries_the_credentials_in_its_header_and_nowhere_else() -> None:
    async with (
        Wire(lambda request: answer(page([1]) if "?" in request.target else extension())) as wire,
        wire.session() as session,
    ):
        await fetch(session)
        await session.available_add_ons(ADD_ON).extensions.list(limit=1).to_list()
    expected = aiohttp.encode_basic_auth(*vars_of(CREDENTIALS))
    for request in wire.requests:
        headers = dict(request.headers)
        assert headers.pop("authorization") == expected
        assert not secrets_in(request.target)
        assert not secrets_in(str(headers))


async def test_a_shared_pool_sends_the_credentials_to_nobody_else() -> None:
    async with (
        Wire(lambda _: answer({})) as other,
        Wire(answers_in_turn(HEALTHY)) as wire,
        aiohttp.ClientSession() as http,
        wire.session(http=http) as session,
    ):
        await fetch(session)
        async with http.get(other.url) as response:
            await response.read()
        assert "authorization" in wire.requests[0].headers
        assert "authorization" not in other.requests[0].headers
        assert not secrets_in(repr(http.headers))


# What is shown


async def test_no_object_of_the_library_shows_them() -> None:
    async with Wire(lambda _: answer(page([1]))) as wire:
        limiter = AdaptiveLimiter()
        session = wire.session(limiter=limiter)
        handles = session.available_add_ons(ADD_ON)
        pager = handles.extensions.list(limit=1)
        fan_out = session.extensions_across([ADD_ON])
        shown: list[object] = [CREDENTIALS, Timeout(), RetryPolicy(), session]
        async with session, fan_out:
            shown += [session, limiter, limiter.statistics(), session.available_add_ons, handles]
            shown += [handles.extensions, handles.extensions(EXTENSION), pager, pager.pages()]
            shown += [page async for page in pager.pages()]
            shown += [fan_out, *[outcome async for outcome in fan_out]]
        shown += [session]
    for value in shown:
        for text in (repr(value), str(value), f"{value!a}", f"{value}"):
            assert not secrets_in(text)
            assert text


def test_what_holds_credentials_cannot_be_pickled_by_accident() -> None:
    session = open_session(CREDENTIALS)
    handle = session.available_add_ons(ADD_ON)
    for value in (session, handle, handle.extensions, handle.extensions.list()):
        with pytest.raises(TypeError, match="credentials"):
            pickle.dumps(value)
        with pytest.raises(TypeError, match="credentials"):
            copy.deepcopy(value)


def test_settings_can_be_pickled_and_credentials_hold_the_password_then() -> None:
    for value in (Timeout(total=7), RetryPolicy(attempts=7), CREDENTIALS):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  # made on this line


REFUSED: dict[str, Callable[[str], object]] = {
    "a line end": lambda secret: Credentials("SK1", secret + "\n"),
    "a colon": lambda secret: Credentials("SK1:" + secret, "x"),
    "NUL": lambda secret: Credentials(secret + "\x00", "x"),
    "bytes": lambda secret: Credentials("SK1", cast("str", secret.encode())),
    "a list": lambda secret: Credentials("SK1", cast("str", [secret])),
    "no user name": lambda secret: Credentials("", secret),
    "a bad environment": lambda secret: Credentials.from_env(
        {"TWILIO_API_KEY": "a:b", "TWILIO_API_SECRET": secret}
    ),
    "half an environment": lambda secret: Credentials.from_env({"TWILIO_API_SECRET": secret}),
    "a base URL": lambda secret: open_session(
        CREDENTIALS, base_url=f"https://SK1:{secret}@localhost"
    ),
    "no base URL": lambda secret: open_session(CREDENTIALS, base_url=f"https://{secret}@"),
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_refused_as_a_setting_is_not_shown(given: str) -> None:
    with pytest.raises((ValueError, TypeError, MissingCredentialsError)) as caught:
        REFUSED[given](CREDENTIALS.password)
    assert not secrets_in(str(caught.value))
    assert not secrets_in(repr(caught.value))


@pytest.mark.parametrize("password", ["pässwörd", "密码", "pass word", "€", "a" * 5000])
async def test_a_password_of_any_printable_characters_is_sent(password: str) -> None:
    credentials = Credentials("SK1", password)
    async with Wire(answers_in_turn(HEALTHY)) as wire:
        async with open_session(credentials, base_url=wire.url) as session:
            await fetch(session)
        assert wire.requests[0].headers["authorization"].startswith("Basic ")


# What goes through callbacks of the caller


@pytest.mark.usefixtures("nothing_leaks")
async def test_tracing_sees_the_header_but_does_not_show_it() -> None:
    seen: list[Any] = []

    async def see(_: aiohttp.ClientSession, __: SimpleNamespace, params: Any) -> None:
        seen.append(params)

    tracing = aiohttp.TraceConfig()
    for name in dir(tracing):
        if name.startswith("on_"):
            getattr(tracing, name).append(see)
    async with (
        Wire(answers_in_turn(HEALTHY, b"no HTTP\r\n\r\n")) as wire,
        wire.session(trace_configs=[tracing], retry=RetryPolicy.off()) as session,
    ):
        await fetch(session)
        assert isinstance(await failure(session), ConnectionFailedError)
    names = {type(params).__name__ for params in seen}
    assert {"TraceRequestStartParams", "TraceRequestExceptionParams"} <= names
    for params in seen:
        assert not secrets_in(repr(params))
        for place, text in texts_of(getattr(params, "exception", ValueError())):
            assert not secrets_in(text), place
    assert seen[0].headers["Authorization"] == aiohttp.encode_basic_auth(*vars_of(CREDENTIALS))


class BrokenError(Exception):
    """What a callback of the caller raises."""


@pytest.mark.usefixtures("nothing_leaks")
async def test_an_exception_of_a_callback_comes_out_as_it_is_and_shows_nothing() -> None:
    async def fail(*_: object) -> None:
        raise BrokenError

    def fail_at_once(_: RetryEvent) -> None:
        raise BrokenError

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(fail)
    settings: list[dict[str, Any]] = [
        {"trace_configs": [tracing]},
        {"on_retry": fail_at_once},
        {"limiter": contextlib.AsyncExitStack()},
    ]
    settings[2]["limiter"].push_async_callback(fail)
    async with Wire(lambda _: error(503)) as wire:
        for setting in settings:
            async with wire.session(**setting) as session:
                with pytest.raises(BrokenError):
                    await fetch(session)


@pytest.mark.usefixtures("nothing_leaks")
async def test_a_cancelled_call_shows_nothing_of_its_request() -> None:
    async with Wire(lambda _: (STALL,)) as wire, wire.session() as session:
        for rounds in range(0, 40, 3):
            call = asyncio.create_task(fetch(session))
            for _ in range(rounds):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            for place, text in texts_of(caught.value):
                assert not secrets_in(text), place


# What a server sends back


@pytest.mark.usefixtures("nothing_leaks")
@pytest.mark.parametrize("status", [400, 401, 500])
async def test_a_server_that_sends_back_what_it_was_sent_does_not_make_errors_show_it(
    status: int,
) -> None:
    def respond(request: Request) -> Answer:
        told = f"{request.headers}, {CREDENTIALS.password}"
        return answer({"message": told, "more_info": told, "params": {"told": told}}, status)

    async with Wire(respond) as wire, wire.session(retry=quick(2)) as session:
        assert "user-agent" in str(await failure(session))


BASIC_TOKEN = (
    base64.b64encode(f"{CREDENTIALS.username}:{CREDENTIALS.password}".encode()).decode().rstrip("=")
)


def authorization(request: Request) -> str:
    return request.headers["authorization"]


ECHOES: dict[str, Callable[[Request], Answer]] = {
    "escaped padding": lambda request: answer(
        json.dumps({"message": authorization(request)}).replace("=", "\\u003d").encode(), 400
    ),
    "escaped slash": lambda _: answer(
        json.dumps({"message": CREDENTIALS.password}).replace("/", r"\/").encode(), 400
    ),
    "the beginning": lambda request: answer(
        json.dumps({"message": f"cut short: {authorization(request)[:80]}"}).encode(), 400
    ),
    "beginnings in text": lambda _: answer(
        f"{CREDENTIALS.password[:-1]} {CREDENTIALS.password[:9]}".encode(), 400
    ),
    "behind what is shown": lambda _: answer(
        b"x" * (2_000 - 12) + CREDENTIALS.password.encode(), 400
    ),
    "Location": lambda _: answer(b"", 302, Location=f"https://x/?u={CREDENTIALS.password}"),
    "request id": lambda request: answer(b"", 500, Twilio_Request_Id=authorization(request)),
    "encoding": lambda request: answer(b"", Content_Encoding=authorization(request)),
    "page URL": lambda request: answer(
        page([1], f"https://x/?u={CREDENTIALS.password}&t={authorization(request)}")
    ),
    "not HTTP": lambda request: b"GOT " + authorization(request).encode() + b"\r\n\r\n",
}


@pytest.mark.parametrize("respond", ECHOES.values(), ids=ECHOES)
async def test_whatever_way_a_server_sends_it_back_errors_do_not_show_it(
    respond: Callable[[Request], Answer],
) -> None:
    async with Wire(respond) as wire, wire.session(retry=RetryPolicy.off()) as session:
        with pytest.raises(MarketplaceError) as caught:
            await session.available_add_ons(ADD_ON).extensions.list().to_list()
    error = caught.value
    assert "..." in repr((error.args, vars(error)))
    for shown in (str(error), repr(error), repr(vars(error)), pickle.dumps(error, 0).decode()):
        assert not secrets_in(shown)
        assert BASIC_TOKEN[:8] not in shown
        assert CREDENTIALS.password[:8] not in shown
