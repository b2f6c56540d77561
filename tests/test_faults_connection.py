"""What becomes of a call when connecting fails, connections are cut, or nothing more comes."""

import asyncio
import itertools
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import trustme
from leaks import secrets_in
from wire import (
    ADD_ON,
    CLOSE,
    CREDENTIALS,
    EXTENSION,
    RESET,
    STALL,
    Answer,
    Request,
    Wire,
    answer,
    answers_in_turn,
    chunked,
    drip,
    extension,
    failure,
    fetch,
    head,
    page,
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
    UntrustedPageUrlError,
    open_session,
)

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())
AUTHORITY = trustme.CA()


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


# Bad arguments

ODD = [
    "",
    "..",
    "../../2010-04-01/Accounts",
    "\r\nHost: evil",
    "\x00",
    "%2e%2e",
    "\uff11",
    "9" * 9_999,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
async def test_odd_arguments_are_refused_before_any_request(odd: str) -> None:
    async with Wire(answers_in_turn()) as wire, wire.session() as session:
        add_ons = session.available_add_ons
        extensions = add_ons(ADD_ON).extensions
        path = f"{wire.url}/v1/AvailableAddOns/{ADD_ON}/Extensions"
        attempts: list[Callable[[], object]] = [
            lambda: add_ons(odd),
            lambda: add_ons(ADD_ON + odd + "a"),
            lambda: add_ons(ADD_ON[: -len(odd) or None] + odd + "\n"),
            lambda: extensions(odd),
            lambda: extensions(EXTENSION + odd + "a"),
            lambda: extensions.list(resume_from=f"{path}/{odd}x"),
            lambda: extensions.list(resume_from=f"{path}?Page=\n{odd}"),
            lambda: extensions.list(page_size=cast("int", odd)),
            lambda: extensions.list(limit=cast("int", odd)),
            lambda: open_session(CREDENTIALS, base_url=f"{wire.url}/{odd}x"),
            lambda: open_session(CREDENTIALS, region=f"us1.{odd}"),
            lambda: open_session(CREDENTIALS, edge=f"ash{odd}-"),
        ]
        for attempt in attempts:
            with pytest.raises((ValueError, TypeError, UntrustedPageUrlError)) as caught:
                attempt()
            assert str(caught.value).isprintable()
        assert not wire.connections


# Connecting


async def test_a_refused_connection_is_tried_as_often_as_the_policy_says() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with open_session(CREDENTIALS, base_url=url, retry=quick(3)) as session:
        error = await failure(session)
    assert isinstance(error, ConnectionFailedError)
    assert error.attempts == 3


async def test_a_host_without_address_is_a_failed_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_address(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    url = "https://marketplace.invalid"
    async with open_session(CREDENTIALS, base_url=url, retry=quick(2)) as session:
        error = await failure(session)
    assert isinstance(error, ConnectionFailedError)
    assert error.attempts == 2
    assert "marketplace.invalid" in str(error)


async def test_what_aiohttp_refuses_to_send_is_not_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert "Cannot combine AUTHORIZATION header" in str(error)


@pytest.fixture
def unreachable() -> Iterator[str]:
    """The URL of a socket whose queue of waiting connections is full: it takes no further one."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listening:
        address = listening.getsockname()
        waiting = list[socket.socket]()
        for _ in range(3):
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(address)
            waiting.append(client)
        yield f"http://127.0.0.1:{address[1]}"
        for client in waiting:
            client.close()


async def test_connecting_has_a_time_out_of_its_own(unreachable: str) -> None:
    timeout = Timeout(connect=0.05)
    async with open_session(
        CREDENTIALS, base_url=unreachable, retry=quick(2), timeout=timeout
    ) as session:
        error = await failure(session)
    assert isinstance(error, RequestTimeoutError)
    assert str(error).startswith("connecting took longer than 0.05 s")
    assert error.attempts == 2


# TLS


async def test_https_works_with_a_trusted_certificate() -> None:
    async with (
        Wire(answers_in_turn(HEALTHY), tls=served_as("localhost")) as wire,
        trusting() as http,
        wire.session(http=http) as session,
    ):
        assert await fetch(session) == EXTENSION


async def test_a_certificate_of_an_unknown_authority_is_not_tried_twice() -> None:
    async with Wire(answers_in_turn(), tls=served_as("localhost")) as wire:
        async with wire.session() as session:
            error = await failure(session)
        assert isinstance(error, CertificateError)
        assert error.attempts == 1
        assert not wire.requests


YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(lambda: served_as("elsewhere.example"), id="for another host"),
        pytest.param(
            lambda: served_as("localhost", not_before=YESTERDAY, not_after=YESTERDAY), id="expired"
        ),
    ],
)
async def test_a_certificate_that_does_not_fit_is_not_tried_twice(
    certificate: Callable[[], ssl.SSLContext],
) -> None:
    async with Wire(answers_in_turn(), tls=certificate()) as wire:
        async with trusting() as http, wire.session(http=http) as session:
            error = await failure(session)
        assert isinstance(error, CertificateError)
        assert error.attempts == 1
        assert not wire.requests


@pytest.mark.parametrize("greeting", [head(400), (RESET,), (CLOSE,)])
async def test_a_failed_handshake_is_tried_again(greeting: Answer) -> None:
    async with Wire(answers_in_turn(), greeting=greeting) as wire:
        url = wire.url.replace("http:", "https:")
        async with wire.session(base_url=url, retry=quick(2)) as session:
            error = await failure(session)
        assert isinstance(error, ConnectionFailedError)
        assert not isinstance(error, CertificateError)
        assert error.attempts == 2


# Waiting in vain


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param((STALL,), id="no answer"),
        pytest.param((drip(b"HTTP/1.1 2"), STALL), id="half a status line"),
        pytest.param((head()[:-2], STALL), id="headers without end"),
        pytest.param((itertools.repeat(head(103)),), id="early hints for ever"),
        pytest.param((itertools.repeat(b"\r\n"),), id="empty lines for ever"),
        pytest.param((head(Content_Length=9), STALL), id="no body"),
        pytest.param((head(Content_Length=9), b"{", STALL), id="half a body"),
        pytest.param((head(), b"{", STALL), id="a body without length, without end"),
        pytest.param((head(404, Content_Length=9), b"{", STALL), id="half an error"),
        pytest.param((b"HTTP/1.1 200 ", drip(b"A" * 8000)), id="a dripping status line"),
        pytest.param((b"HTTP/1.1 200 OK\r\nA: ", drip(b"A" * 8000)), id="a dripping header"),
        pytest.param((head(), itertools.repeat(b" ")), id="a dripping body"),
        pytest.param(
            (head(Transfer_Encoding="chunked"), itertools.repeat(b"1\r\n \r\n")), id="small chunks"
        ),
        pytest.param(
            (head(Transfer_Encoding="chunked"), itertools.repeat(b"0")), id="a chunk size of zeros"
        ),
        pytest.param(
            (head(Transfer_Encoding="chunked"), b"1;", itertools.repeat(b"a")),
            id="a chunk extension without end",
        ),
    ],
)
async def test_the_whole_call_ends_at_its_deadline_whatever_trickles_in(endless: Answer) -> None:
    loop = asyncio.get_running_loop()
    async with Wire(answers_in_turn(endless, then=HEALTHY)) as wire:
        async with wire.session(timeout=Timeout(total=0.1)) as session:
            began = loop.time()
            error = await failure(session)
            took = loop.time() - began
            assert await recovered(session)
        assert isinstance(error, RequestTimeoutError)
        assert str(error).startswith("the call took longer than 0.1 s")
        assert error.attempts == 1
        assert 0.1 <= took < 5
        await wire.all_closed()


@pytest.mark.parametrize(
    "endless", [(STALL,), (head(Content_Length=9), b"{", STALL), (head(), itertools.repeat(b" "))]
)
async def test_an_attempt_that_takes_too_long_is_followed_by_another(endless: Answer) -> None:
    async with Wire(answers_in_turn(endless, then=HEALTHY)) as wire:
        async with wire.session(timeout=Timeout(attempt=0.1)) as session:
            assert await fetch(session) == EXTENSION
        assert len(wire.requests) >= 2


async def test_attempts_that_take_too_long_end_with_the_call_and_the_error_names_both() -> None:
    async with Wire(answers_in_turn(then=(STALL,))) as wire:
        timeout = Timeout(total=0.25, attempt=0.1)
        async with wire.session(timeout=timeout) as session:
            error = await failure(session)
        assert isinstance(error, RequestTimeoutError)
        assert error.attempts > 1
        assert isinstance(error.last_error, RequestTimeoutError)
        assert "the last attempt: an attempt took longer than 0.1 s" in str(error)


async def test_a_handshake_that_is_never_answered_ends_at_the_time_out_for_connecting() -> None:
    async with Wire(answers_in_turn(), greeting=(STALL,)) as wire:
        url = wire.url.replace("http:", "https:")
        settings = {"base_url": url, "retry": quick(2), "timeout": Timeout(connect=0.05)}
        async with wire.session(**settings) as session:
            error = await failure(session)
        assert isinstance(error, RequestTimeoutError)
        assert str(error).startswith("connecting took longer than 0.05 s")
        assert error.attempts == 2


async def test_a_name_server_that_never_answers_ends_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, over = threading.Event(), threading.Event()

    def lookup(*args: object, **kwargs: object) -> list[object]:
        asked.set()
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    timeout = Timeout(total=0.1)
    try:
        async with open_session(
            CREDENTIALS, base_url="https://marketplace.invalid", timeout=timeout
        ) as session:
            error = await failure(session)
            assert asked.is_set()
            assert isinstance(error, RequestTimeoutError)
    finally:
        over.set()


async def test_waiting_for_the_callers_pool_ends_at_the_deadline() -> None:
    async with (
        Wire(answers_in_turn((STALL,), then=HEALTHY)) as wire,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http,
        wire.session(http=http, timeout=Timeout(total=0.1)) as session,
    ):
        occupying = asyncio.create_task(_get(http, wire.url))
        await wire.until(lambda: wire.requests)
        error = await failure(session)
        assert isinstance(error, RequestTimeoutError)
        occupying.cancel()
        await asyncio.gather(occupying, return_exceptions=True)
        assert await recovered(session)


async def _get(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(url):
        raise AssertionError("the server never answers")


async def test_waiting_for_the_limiter_ends_at_the_deadline() -> None:
    async with Wire(answers_in_turn()) as wire:
        settings = {"limiter": asyncio.Semaphore(0), "timeout": Timeout(total=0.1)}
        async with wire.session(**settings) as session:
            error = await failure(session)
        assert isinstance(error, RequestTimeoutError)
        assert error.attempts == 0
        assert not wire.connections


@pytest.mark.parametrize("names", [[], ["localhost"]], ids=["http", "https"])
async def test_closing_does_not_wait_for_a_server_that_says_nothing(names: list[str]) -> None:
    async with (
        Wire(lambda _: (STALL,), tls=served_as(*names) if names else None) as wire,
        trusting() as http,
        asyncio.timeout(10),
    ):
        session = wire.session(http=http)
        async with session:
            call = asyncio.create_task(fetch(session))
            await wire.until(lambda: wire.requests)
        with pytest.raises(SessionClosedError):
            await call


# Cut connections

CUTS = [
    pytest.param((RESET,), id="reset before the headers"),
    pytest.param((CLOSE,), id="closed before the headers"),
    pytest.param((HEALTHY[:30], RESET), id="reset in the headers"),
    pytest.param((HEALTHY[:30], CLOSE), id="closed in the headers"),
    pytest.param((head(Content_Length=500), RESET), id="reset after the headers"),
    pytest.param((head(Content_Length=500), CLOSE), id="closed after the headers"),
    pytest.param((HEALTHY[:-9], RESET), id="reset in the body"),
    pytest.param((HEALTHY[:-9], CLOSE), id="closed in the body"),
    pytest.param(
        (answer(extension(), Content_Length=9_999), CLOSE), id="shorter than said, but whole JSON"
    ),
    pytest.param(
        (head(Content_Length=9_999) + b"{}", b" " * 999, RESET), id="reset in white space"
    ),
    pytest.param((head() + HEALTHY[-99:-9], CLOSE), id="no length and half"),
    pytest.param((head() + HEALTHY[-99:-9], RESET), id="no length and reset"),
    pytest.param((head(Transfer_Encoding="chunked") + chunked(b'{"a'), CLOSE), id="chunks missing"),
    pytest.param(
        (head(Transfer_Encoding="chunked") + chunked(b"{}"), CLOSE), id="last chunk missing"
    ),
    pytest.param(
        (head(Transfer_Encoding="chunked") + chunked(b"{}"), RESET), id="reset between chunks"
    ),
    pytest.param(head(Transfer_Encoding="chunked") + b"2\r\n{}XX", id="a chunk longer than said"),
    pytest.param(head(Transfer_Encoding="chunked") + b"-2\r\n{}\r\n", id="a negative chunk size"),
    pytest.param(head(Transfer_Encoding="chunked") + b"f" * 17 + b"\r\n", id="a huge chunk size"),
    pytest.param(head(Transfer_Encoding="chunked") + b"zz\r\n", id="a chunk size in letters"),
    pytest.param(head(Content_Length=-1), id="a negative length"),
    pytest.param(head(Content_Length="0x9"), id="a length in hexadecimal"),
    pytest.param(head(Content_Length="9" * 40), id="a length beyond all bounds"),
    pytest.param(head(Content_Length="9\r\nContent-Length: 8"), id="two lengths"),
    pytest.param(head(Content_Length=2, Transfer_Encoding="chunked") + b"{}", id="two framings"),
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
    pytest.param(b"\x15\x03\x01\x00\x02\x02\x0a", id="a TLS alert"),
    pytest.param(b"<html>Whatever</html>\r\n\r\n", id="no status line"),
    pytest.param(b"HTTP/9.9 200 OK\r\n\r\n", id="another version"),
    pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="no status"),
    pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="a header without a colon"),
    pytest.param(b"HTTP/1.1 200 OK\r\n\x00: a\r\n\r\n", id="a header named NUL"),
    pytest.param(head(A="\x00"), id="NUL in a header"),
    pytest.param(head(A="a" * 9_000), id="a header of 9,000 bytes"),
    pytest.param(b"HTTP/1.1 200 " + b"a" * 9_000 + b"\r\n\r\n", id="a reason of 9,000 bytes"),
    pytest.param(head(**{f"A{i}": i for i in range(200)}), id="200 headers"),
    pytest.param((head()[:-2], itertools.repeat(b"A: a\r\n" * 100)), id="headers for ever"),
    pytest.param(
        (head(Transfer_Encoding="chunked") + b"0\r\n", itertools.repeat(b"A: a\r\n" * 100)),
        id="trailers for ever",
    ),
    pytest.param(answer(extension(), Content_Encoding="gzip"), id="gzip that is none"),
    pytest.param(answer(extension(), Content_Encoding="deflate"), id="deflate that is none"),
]


@pytest.mark.parametrize("cut", CUTS)
async def test_an_answer_that_is_cut_or_broken_is_asked_for_again(cut: Answer) -> None:
    # Twice, for the first time may be repeated by aiohttp itself.
    async with Wire(answers_in_turn(cut, cut, then=HEALTHY)) as wire:
        events: list[RetryEvent] = []
        async with wire.session(on_retry=events.append) as session:
            assert await fetch(session) == EXTENSION
        assert events
        assert all(not secrets_in(str(event.error)) for event in events)


@pytest.mark.parametrize("cut", CUTS)
async def test_an_answer_that_is_always_cut_or_broken_is_a_clear_error(cut: Answer) -> None:
    def respond(request: Request) -> Answer:
        return HEALTHY if "healthy" in request.target else cut

    async with Wire(respond) as wire:
        async with wire.session(retry=quick(2)) as session:
            error = await failure(session)
            assert error.attempts == 2
            assert len(str(error)) < 700
            assert str(error).isprintable()
        assert 2 <= len(wire.requests) <= 4


# Connections that are kept alive


async def test_calls_one_after_the_other_share_a_connection() -> None:
    async with Wire(lambda _: HEALTHY) as wire:
        async with wire.session() as session:
            for _ in range(3):
                await fetch(session)
        assert [request.connection for request in wire.requests] == [1, 1, 1]


async def test_an_idle_connection_that_the_server_has_closed_is_not_used_again() -> None:
    async with Wire(lambda _: (HEALTHY, CLOSE)) as wire:
        events: list[RetryEvent] = []
        async with wire.session(on_retry=events.append) as session:
            for _ in range(3):
                await fetch(session)
                await wire.all_closed()
        assert not events
        assert len(wire.requests) == 3


async def test_a_connection_that_is_closed_as_the_request_arrives_costs_no_attempt() -> None:
    def respond(request: Request) -> Answer:
        served = sum(request.connection == other.connection for other in wire.requests)
        return HEALTHY if served == 1 else (CLOSE,)

    async with Wire(respond) as wire:
        events: list[RetryEvent] = []
        async with wire.session(on_retry=events.append, retry=RetryPolicy.off()) as session:
            for _ in range(3):
                await fetch(session)
        assert not events
        assert len(wire.requests) == 5


async def test_a_connection_on_which_the_server_speaks_unasked_is_not_used_again() -> None:
    async with Wire(lambda _: HEALTHY) as wire:
        events: list[RetryEvent] = []
        async with wire.session(on_retry=events.append) as session:
            for unasked in (answer(extension(7)), HEALTHY, head(100), head(408)):
                assert await fetch(session) == EXTENSION
                await wire.say(unasked)
        assert not events
        assert wire.connections == len(wire.requests) == 4


async def test_a_server_that_speaks_first_is_a_failed_connection() -> None:
    async with (
        Wire(lambda _: HEALTHY, greeting=b"220 mail.example ESMTP\r\n") as wire,
        wire.session(retry=quick(2)) as session,
    ):
        assert isinstance(await failure(session), ConnectionFailedError)


async def test_in_the_callers_pool_an_answer_about_something_else_is_asked_for_again() -> None:
    async with (
        Wire(lambda _: HEALTHY) as wire,
        aiohttp.ClientSession() as http,
        wire.session(http=http) as session,
    ):
        assert await fetch(session) == EXTENSION
        await wire.say(answer(extension(7)))
        assert await fetch(session) == EXTENSION
        assert await fetch(session) == EXTENSION


async def test_in_the_callers_pool_a_page_of_another_add_on_is_asked_for_again() -> None:
    async with (
        Wire(lambda _: answer(page([1, 2]))) as wire,
        aiohttp.ClientSession() as http,
        wire.session(http=http) as session,
    ):
        listing = session.available_add_ons(ADD_ON).extensions.list(limit=1)
        first = await listing.to_list()
        elsewhere = page([3])
        elsewhere["extensions"][0]["available_add_on_sid"] = "XB" + "0" * 32
        await wire.say(answer(elsewhere))
        assert await listing.to_list() == first


# Proxies


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """What the environment names as the proxy for everything; it refuses."""
    async with Wire(lambda _: answer(b"", 403, Connection="close")) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for variable in (name, name.upper()):
                monkeypatch.setenv(variable, proxy.url)
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        yield proxy


async def test_proxies_of_the_environment_are_not_used(proxy: Wire) -> None:
    async with Wire(answers_in_turn(HEALTHY)) as wire, wire.session() as session:
        assert await fetch(session) == EXTENSION
    async with (
        Wire(answers_in_turn(), tls=served_as("localhost")) as wire,
        wire.session() as session,
    ):
        assert isinstance(await failure(session), CertificateError)
    assert not proxy.connections


async def test_a_proxy_that_the_caller_asked_for_sees_no_credentials(proxy: Wire) -> None:
    async with (
        aiohttp.ClientSession(trust_env=True) as http,
        open_session(
            CREDENTIALS, base_url="https://marketplace.invalid", http=http, retry=quick(2)
        ) as session,
    ):
        assert isinstance(await failure(session), ConnectionFailedError)
    assert [request.method for request in proxy.requests] == ["CONNECT"] * 2
    assert not secrets_in(str(proxy.requests))
    assert not any("authorization" in request.headers for request in proxy.requests)


@pytest.mark.parametrize("through", ["environment", "argument"])
async def test_plain_http_through_a_proxy_is_refused(proxy: Wire, through: str) -> None:
    options: dict[str, Any] = (
        {"trust_env": True} if through == "environment" else {"proxy": proxy.url}
    )
    async with Wire(answers_in_turn()) as wire, aiohttp.ClientSession(**options) as http:
        with pytest.raises(ValueError, match="proxy"):
            wire.session(http=http)
    assert not proxy.connections
