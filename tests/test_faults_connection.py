"""Connections that fail, break or hang, over sockets."""

import asyncio
import itertools
import json
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest
import trustme
from leaks import secrets_in
from wire import (
    CLOSE,
    CREDENTIALS,
    EXTENSION,
    RESET,
    STALL,
    Answer,
    Wire,
    answer,
    answers_in_turn,
    chunked,
    drip,
    extension,
    failure,
    fetch,
    head,
    quick,
    recovered,
)

from marketplace_async import (
    CertificateError,
    ConnectionFailedError,
    RequestTimeoutError,
    RetryEvent,
    RetryPolicy,
    SessionClosedError,
    Timeout,
    open_session,
)

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())
BODY = json.dumps(extension()).encode()
CHUNKED = head(Transfer_Encoding="chunked")
AUTHORITY = trustme.CA()
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def served_as(*names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(*names, **options).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # takes contexts of pyOpenSSL too
    return context


@asynccontextmanager
async def trusting() -> AsyncGenerator[aiohttp.ClientSession]:
    """A pool that trusts the certificates made here."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # takes contexts of pyOpenSSL too
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        yield http


# Connecting


async def test_refused() -> None:
    """A refused connection is retried."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with open_session(CREDENTIALS, base_url=url, retry=quick(3)) as session:
        error = await failure(session)
    assert isinstance(error, ConnectionFailedError)
    assert error.attempts == 3


async def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without an address is a failed connection."""
    unknown = mock.Mock(side_effect=socket.gaierror(socket.EAI_NONAME, "Name not known"))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    url = "https://marketplace.invalid"
    async with open_session(CREDENTIALS, base_url=url, retry=quick(2)) as session:
        error = await failure(session)
    assert isinstance(error, ConnectionFailedError)
    assert (error.attempts, "marketplace.invalid" in str(error)) == (2, True)


async def test_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If aiohttp has other credentials for the host, the error says so and is not retried."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        aiohttp.ClientSession(trust_env=True) as http,
        open_session(CREDENTIALS, base_url="https://localhost:9", http=http) as session,
    ):
        error = await failure(session)
    assert isinstance(error, ConnectionFailedError)
    assert error.attempts == 1
    assert "netrc" in str(error)


@pytest.fixture
def unreachable() -> Iterator[str]:
    """The URL of a socket whose backlog is full."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listening:
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.settimeout(0)
            client.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for client in waiting:
            client.close()


async def test_connect_timeout(unreachable: str) -> None:
    """Connecting and the TLS handshake have a timeout of their own."""
    async with Wire(answers_in_turn(), greeting=(STALL,)) as wire:
        for url in unreachable, wire.url.replace("http:", "https:"):
            settings: dict[str, Any] = {"retry": quick(2), "timeout": Timeout(connect=0.05)}
            async with open_session(CREDENTIALS, base_url=url, **settings) as session:
                error = await failure(session)
            assert isinstance(error, RequestTimeoutError)
            assert str(error).startswith("connecting took longer than 0.05 s")
            assert error.attempts == 2


async def test_dns_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not respond ends the call at its deadline."""
    asked, over = threading.Event(), threading.Event()

    def lookup(*args: object, **kwargs: object) -> list[object]:
        asked.set()
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    try:
        url = "https://marketplace.invalid"
        async with open_session(CREDENTIALS, base_url=url, timeout=0.1) as session:
            assert isinstance(await failure(session), RequestTimeoutError)
            assert asked.is_set()
    finally:
        over.set()


# TLS

CERTIFICATES: dict[str, tuple[Callable[[], ssl.SSLContext], bool]] = {
    "unknown": (lambda: served_as("localhost"), False),
    "another host": (lambda: served_as("elsewhere.example"), True),
    "expired": (lambda: served_as("localhost", not_before=YESTERDAY, not_after=YESTERDAY), True),
}


@pytest.mark.parametrize("certificate", CERTIFICATES)
async def test_certificate(certificate: str) -> None:
    """A certificate that is not trusted is not retried, a trusted one is accepted."""
    context, trusted = CERTIFICATES[certificate]
    async with (
        Wire(lambda _: HEALTHY, tls=context()) as wrong,
        Wire(lambda _: HEALTHY, tls=served_as("localhost")) as right,
        trusting() as http,
    ):
        async with wrong.session(**({"http": http} if trusted else {})) as session:
            error = await failure(session)
        assert isinstance(error, CertificateError)
        assert (error.attempts, wrong.requests) == (1, [])
        async with right.session(http=http) as session:
            assert await fetch(session) == EXTENSION


@pytest.mark.parametrize("greeting", [head(400), (RESET,), (CLOSE,)])
async def test_handshake(greeting: Answer) -> None:
    """A failed handshake is retried."""
    async with Wire(answers_in_turn(), greeting=greeting) as wire:
        url = wire.url.replace("http:", "https:")
        async with wire.session(base_url=url, retry=quick(2)) as session:
            error = await failure(session)
    assert type(error) is ConnectionFailedError
    assert error.attempts == 2


# Responses that hang

ENDLESS: dict[str, Callable[[], Answer]] = {
    "nothing": lambda: (STALL,),
    "half the headers": lambda: (head()[:-2], STALL),
    "early hints": lambda: (itertools.repeat(head(103)),),
    "half a body": lambda: (head(Content_Length=9), b"{", STALL),
    "half an error": lambda: (head(404, Content_Length=9), b"{", STALL),
    "status line": lambda: (b"HTTP/1.1 200 ", drip(b"A" * 8000)),
    "body": lambda: (head(), itertools.repeat(b" ")),
    "chunks": lambda: (CHUNKED, itertools.repeat(b"1\r\n \r\n")),
    "chunk extension": lambda: (CHUNKED, b"1;", itertools.repeat(b"a")),
}


@pytest.mark.parametrize("endless", ENDLESS)
async def test_endless(endless: str) -> None:
    """A response that never ends is ended by the deadline of the call, or of the attempt."""
    answers = answers_in_turn(ENDLESS[endless](), then=HEALTHY)
    async with Wire(answers) as wire, wire.session(timeout=0.1) as session, asyncio.timeout(5):
        error = await failure(session)
        assert await recovered(session)
    assert isinstance(error, RequestTimeoutError)
    assert str(error).startswith("the call took longer than 0.1 s")
    assert error.attempts == 1
    answers = answers_in_turn(ENDLESS[endless](), then=HEALTHY)
    async with Wire(answers) as wire, wire.session(timeout=Timeout(attempt=0.1)) as session:
        if endless == "half an error":
            assert "HTTP 404" in str(await failure(session))
        assert await fetch(session) == EXTENSION


@pytest.mark.parametrize("names", [[], ["localhost"]], ids=["http", "https"])
async def test_close_while_hanging(names: list[str]) -> None:
    """Closing does not wait for a server that does not respond."""
    async with (
        Wire(lambda _: (STALL,), tls=served_as(*names) if names else None) as wire,
        trusting() as http,
        asyncio.timeout(10),
    ):
        async with wire.session(http=http) as session:
            call = asyncio.create_task(fetch(session))
            await wire.until(lambda: wire.requests)
        with pytest.raises(SessionClosedError):
            await call


# Responses that are cut or broken

CUTS: dict[str, Answer] = {
    "reset": (RESET,),
    "closed": (CLOSE,),
    "closed in the headers": (HEALTHY[:30], CLOSE),
    "reset in the body": (HEALTHY[:-9], RESET),
    "closed in the body": (HEALTHY[:-9], CLOSE),
    "too short": (answer(extension(), Content_Length=9_999), CLOSE),
    "no length, closed": (head() + BODY[:-9], CLOSE),
    "no last chunk": (CHUNKED + chunked(b"{}"), CLOSE),
    "huge chunk": CHUNKED + b"f" * 17 + b"\r\n",
    "two lengths": head(Content_Length="9\r\nContent-Length: 8"),
    "TLS": b"\x15\x03\x01\x00\x02\x02\x0a",
    "no colon": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "long header": head(A="a" * 9_000),
    "headers": (head()[:-2], itertools.repeat(b"A: a\r\n" * 100)),
    "trailers": (CHUNKED + b"0\r\n", itertools.repeat(b"A: a\r\n" * 100)),
    "no gzip": answer(extension(), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("cut", CUTS)
async def test_cut(cut: str) -> None:
    """A response that is cut or broken is retried, and raised after the last attempt."""
    events: list[RetryEvent] = []
    answers = answers_in_turn(*[CUTS[cut]] * 4, then=HEALTHY)  # aiohttp may repeat a request
    async with Wire(answers) as wire, wire.session(on_retry=events.append) as session:
        assert await fetch(session) == EXTENSION
    assert events
    assert not any(secrets_in(str(event.error)) for event in events)
    async with Wire(lambda _: CUTS[cut]) as wire, wire.session(retry=quick(2)) as session:
        error = await failure(session)
    assert error.attempts == 2
    assert len(str(error)) < 700
    assert str(error).isprintable()


# Connections that are kept alive


async def test_keep_alive() -> None:
    """Successive calls share a connection, unless the server has closed it."""
    async with Wire(lambda _: HEALTHY) as wire:
        async with wire.session(retry=RetryPolicy.off()) as session:
            for _ in range(3):
                await fetch(session)
        assert [request.connection for request in wire.requests] == [1, 1, 1]
    async with Wire(lambda _: (HEALTHY, CLOSE)) as wire:
        async with wire.session(retry=RetryPolicy.off()) as session:
            for _ in range(3):
                await fetch(session)
                await wire.all_closed()
        assert len(wire.requests) == 3


async def test_unrequested_response() -> None:
    """A response that was not requested is not returned for another resource."""
    async with Wire(lambda _: HEALTHY) as wire, wire.session() as session:
        for unrequested in (answer(extension(7)), head(100), head(408, Content_Length=0)):
            assert await fetch(session) == EXTENSION
            await wire.say(unrequested)
        assert await fetch(session) == EXTENSION


# Proxies


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """The proxy in the environment; it rejects all requests."""
    async with Wire(lambda _: answer(b"", 403, Connection="close")) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield proxy


async def test_no_proxy(proxy: Wire) -> None:
    """Proxies of the environment are not used."""
    async with Wire(answers_in_turn(HEALTHY)) as wire, wire.session() as session:
        assert await fetch(session) == EXTENSION
    tls = served_as("localhost")
    async with Wire(answers_in_turn(), tls=tls) as wire, wire.session() as session:
        assert isinstance(await failure(session), CertificateError)
    assert not proxy.connections


@pytest.mark.parametrize("through", ["environment", "argument"])
async def test_proxy(proxy: Wire, through: str) -> None:
    """A proxy sees no credentials."""
    url, by_environment = "https://marketplace.invalid", through == "environment"
    settings: dict[str, Any] = {} if by_environment else {"proxy": proxy.url}
    async with (
        aiohttp.ClientSession(trust_env=by_environment) as http,
        open_session(CREDENTIALS, base_url=url, http=http, retry=quick(2), **settings) as session,
    ):
        assert isinstance(await failure(session), ConnectionFailedError)
    assert [request.method for request in proxy.requests] == ["CONNECT"] * 2
    assert not secrets_in(str(proxy.requests))
    assert not any("authorization" in request.headers for request in proxy.requests)
