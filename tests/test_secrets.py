"""Credentials are sent in one header of each request and are shown nowhere.

The tests of faults use the same checks, with the fixture ``nothing_leaks``.
"""

import asyncio
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from leaks import SECRETS, chain, secrets_in, texts_of
from wire import (
    ADD_ON,
    CLOSE,
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
)

from marketplace_async import (
    AdaptiveLimiter,
    ConnectionFailedError,
    Credentials,
    MarketplaceError,
    RetryPolicy,
    Timeout,
    open_session,
)

HEALTHY = answer(extension())
AUTHORIZATION = aiohttp.encode_basic_auth(CREDENTIALS.username, CREDENTIALS.password)


def shown(error: BaseException) -> Iterator[str]:
    """Yield what a log or an error tracker shows: texts, and tracebacks with local variables."""
    for link in chain(error, set()):
        yield from (str(link), repr(link), repr(vars(link)))
        report = traceback.TracebackException.from_exception(link, capture_locals=True)
        yield "".join(report.format())


def assert_hidden(error: BaseException) -> None:
    for text in shown(error):
        assert not secrets_in(text), text


# The checks themselves


@pytest.mark.parametrize("number", range(len(SECRETS)))
@pytest.mark.parametrize("place", ["argument", "attribute", "cause", "context", "local"])
def test_check(place: str, number: int) -> None:
    """The checks find a secret wherever an exception shows it."""
    with pytest.raises(RuntimeError) as caught:
        exec(  # noqa: S102  # as foreign code: locals of test modules are not searched
            {
                "argument": "raise RuntimeError(secret())",
                "attribute": "e = RuntimeError(); e.secret = secret(); raise e",
                "cause": "raise RuntimeError from ValueError(secret())",
                "context": "try: raise ValueError(secret())\nexcept ValueError: raise RuntimeError",
                "local": "text = secret(); raise RuntimeError",
            }[place],
            {"secret": lambda: SECRETS[number]},
            {},
        )
    assert any(secrets_in(text) for _, text in texts_of(caught.value))
    assert any(map(secrets_in, shown(caught.value)))


# Sending


async def test_one_header() -> None:
    """Each request has the credentials in its Authorization header and nowhere else."""
    async with (
        Wire(lambda request: answer(page([1]) if "?" in request.target else extension())) as wire,
        wire.session() as session,
    ):
        await fetch(session)
        await session.available_add_ons(ADD_ON).extensions.list(limit=1)
    for request in wire.requests:
        headers = dict(request.headers)
        assert headers.pop("authorization") == AUTHORIZATION
        assert not secrets_in(request.target)
        assert not secrets_in(str(headers))


# Objects and construction


async def test_objects() -> None:
    """No object of the library shows the credentials."""
    async with Wire(lambda _: answer(page([1]))) as wire:
        limiter = AdaptiveLimiter()
        session = wire.session(limiter=limiter)
        handle = session.available_add_ons(ADD_ON)
        pager = handle.extensions.list(limit=1)
        fan_out = session.extensions_across([ADD_ON])
        objects: list[object] = [CREDENTIALS, Timeout(), RetryPolicy(), limiter, session, fan_out]
        objects += [session.available_add_ons, handle, handle.extensions, pager, pager.pages()]
        async with session, fan_out:
            objects += [handle.extensions(EXTENSION), limiter.statistics(), session.statistics()]
            objects += [page async for page in pager.pages()]
            objects += [outcome async for outcome in fan_out]
            for value in objects:
                for text in (repr(value), str(value), f"{value}"):
                    assert text
                    assert not secrets_in(text)


CONSTRUCTIONS: dict[str, Callable[[], object]] = {
    "line end": lambda: Credentials("SK1", CREDENTIALS.password + "\n"),
    "colon": lambda: Credentials("SK1:" + CREDENTIALS.password, "x"),
    "NUL": lambda: Credentials(CREDENTIALS.password + "\x00", "x"),
    "list": lambda: Credentials("SK1", [CREDENTIALS.password]),  # type: ignore[arg-type]
    "no user name": lambda: Credentials("", CREDENTIALS.password),
    "swapped": lambda: Credentials(CREDENTIALS.password, CREDENTIALS.username),
    "tuple": lambda: open_session(("SK1", CREDENTIALS.password)),  # type: ignore[arg-type]
    "wrong timeout": lambda: open_session(CREDENTIALS, timeout=0),
    "wrong region": lambda: open_session(CREDENTIALS, region="."),
    "base URL": lambda: open_session(base_url=f"https://SK1:{CREDENTIALS.password}@localhost"),
    "no origin": lambda: open_session(CREDENTIALS, base_url=f"https://a/{CREDENTIALS.password}"),
    "proxy": lambda: open_session(CREDENTIALS, proxy=f"ftp://SK1:{CREDENTIALS.password}@localhost"),
}


@pytest.mark.parametrize("construct", CONSTRUCTIONS.values(), ids=CONSTRUCTIONS)
def test_construction(construct: Callable[[], object]) -> None:
    """If an argument is rejected, neither the error nor a local variable shows a secret."""
    with pytest.raises((ValueError, TypeError)) as caught:
        construct()
    assert_hidden(caught.value)


@pytest.mark.parametrize("get", [Credentials.from_env, open_session])
@pytest.mark.parametrize("change", ["missing", "line end", "swapped"])
def test_environment(
    change: str, get: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the credentials in the environment are wrong, no variable of it is shown."""
    monkeypatch.setenv("OTHER_SECRET", SECRETS[1])
    monkeypatch.delenv("TWILIO_API_SECRET", raising=False)
    monkeypatch.setenv("TWILIO_API_KEY", CREDENTIALS.username)
    if change == "line end":
        monkeypatch.setenv("TWILIO_API_SECRET", CREDENTIALS.password + "\n")
    elif change == "swapped":
        monkeypatch.setenv("TWILIO_API_KEY", CREDENTIALS.password)
        monkeypatch.setenv("TWILIO_API_SECRET", CREDENTIALS.username)
    with pytest.raises((ValueError, MarketplaceError), match="TWILIO_API_SECRET") as caught:
        get()
    assert_hidden(caught.value)
    assert not any("OTHER_SECRET" in text for text in shown(caught.value))
    assert "OTHER_SECRET" in os.environ


# Calls


CALLS: dict[str, tuple[Answer, dict[str, Any]]] = {
    "rejected": (error(401), {}),
    "server error": (error(503), {}),
    "no HTTP": (b"no HTTP\r\n\r\n", {}),
    "no JSON": (answer(b"<html>"), {}),
    "cut": ((HEALTHY[:-9], CLOSE), {}),
    "timeout": ((STALL,), {"timeout": Timeout(total=0.1, attempt=0.04)}),
}


@pytest.mark.usefixtures("nothing_leaks")
@pytest.mark.parametrize(("response", "settings"), CALLS.values(), ids=CALLS)
async def test_failed_call(response: Answer, settings: dict[str, Any]) -> None:
    """If a call fails, no exception, log or local variable shows the credentials."""
    async with Wire(lambda _: response) as wire, wire.session(**settings) as session:
        assert_hidden(await failure(session))


@pytest.mark.usefixtures("nothing_leaks")
async def test_cancelled_call() -> None:
    """If a call is cancelled at any point, no local variable shows the credentials."""
    async with Wire(lambda _: (STALL,)) as wire, wire.session() as session:
        for rounds in range(0, 40, 3):
            call = asyncio.create_task(fetch(session))
            for _ in range(rounds):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            assert_hidden(caught.value)


@pytest.mark.usefixtures("nothing_leaks")
async def test_tracing() -> None:
    """A trace gets the header, but neither it nor an exception shows the value."""
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
        assert_hidden(getattr(params, "exception", ValueError()))
    assert seen[0].headers["Authorization"] == AUTHORIZATION


# Servers that echo


def authorization(request: Request) -> str:
    return request.headers["authorization"]


ECHOES: dict[str, Callable[[Request], Answer]] = {
    "message": lambda request: answer(
        {"message": f"{request.headers} {CREDENTIALS.password}"}, 400
    ),
    "params": lambda request: answer({"params": {"a": authorization(request)}}, 400),
    "more_info": lambda _: answer({"more_info": f"https://a/{CREDENTIALS.password}"}, 401),
    "text": lambda request: answer(f"GET {authorization(request)}".encode(), 500),
    "item": lambda _: answer({**page([1]), "extensions": [{"sid": 1, "a": CREDENTIALS.password}]}),
}


@pytest.mark.usefixtures("nothing_leaks")
@pytest.mark.parametrize("respond", ECHOES.values(), ids=ECHOES)
async def test_echo(respond: Callable[[Request], Answer]) -> None:
    """If a server echoes the credentials, errors do not show them."""
    async with Wire(respond) as wire, wire.session(retry=RetryPolicy.off()) as session:
        with pytest.raises(MarketplaceError) as caught:
            await session.available_add_ons(ADD_ON).extensions.list()
    assert_hidden(caught.value)
    assert not secrets_in(pickle.dumps(caught.value, 0).decode("latin-1"))
