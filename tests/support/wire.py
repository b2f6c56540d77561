"""A server on this machine that sends scripted bytes as its responses, valid or not.

An `Answer` is bytes, or a sequence of parts: bytes, iterables of bytes that are sent one by one
while the client listens, and an `End`. Without an end, the connection is kept alive.
"""

import asyncio
import contextlib
import enum
import itertools
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest

from marketplace_async import (
    Credentials,
    MarketplaceError,
    MarketplaceSession,
    RequestTimeoutError,
    RetryPolicy,
    open_session,
)

CREDENTIALS = Credentials("SK" + "5a" * 16, "hush~~~9f/8e+???7d")
CANONICAL = "https://marketplace.twilio.com"
ADD_ON = "XB" + "a0" * 16
EXTENSION = "XF" + "b1" * 16


class End(enum.Enum):
    """How an incomplete response ends."""

    CLOSE = "the connection is closed"
    RESET = "the connection is reset"
    STALL = "nothing more is sent"


CLOSE, RESET, STALL = End

Answer: TypeAlias = bytes | Sequence["bytes | Iterable[bytes] | End"]


@attrs.frozen
class Request:
    """A received request; the names of its headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    connection: int
    """The number of its connection, from 1."""

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}


class Wire:
    """The server; ``respond`` returns the answer to a request, ``greeting`` is sent before any.

    Its exit waits until the client has closed its connections, and fails if it does not.
    """

    def __init__(
        self,
        respond: Callable[[Request], Answer],
        *,
        greeting: Answer = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._respond = respond
        self._greeting = greeting
        self._tls = tls
        self._numbers = itertools.count(1)
        self._serving: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.requests: list[Request] = []
        self.connections = 0
        self.open_connections = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is None:
            await self.all_closed()
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://localhost:{self.port}"

    def session(self, **settings: Any) -> MarketplaceSession:
        """Return a session with this server that retries almost without waiting."""
        settings.setdefault("base_url", self.url)
        settings.setdefault("retry", quick())
        return open_session(CREDENTIALS, **settings)

    async def say(self, data: bytes) -> None:
        """Send bytes without a request on the newest connection, and wait until they arrive."""
        self._newest.write(data)
        await self._newest.drain()
        for _ in range(3):  # the client's side of the event loop
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; each event of the server checks it again."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def all_closed(self) -> None:
        """Wait until the client has no connection here."""
        await self.until(lambda: not self.open_connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        number = next(self._numbers)
        self._newest = writer
        self.connections += 1
        self.open_connections += 1
        await self._notify()
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await _send(self._greeting, reader, writer)
                async for request in _requests(reader, number):
                    self.requests.append(request)
                    await self._notify()
                    await _send(self._respond(request), reader, writer)
        finally:
            writer.transport.abort()
            self.open_connections -= 1
            self._serving.discard(task)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _requests(reader: asyncio.StreamReader, connection: int) -> AsyncIterator[Request]:
    while text := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
        first, *lines = text.split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        yield Request(method, target, headers, connection)


async def _send(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for part in (answer,) if isinstance(answer, bytes) else answer:
        match part:
            case End.CLOSE:
                writer.close()
                await writer.wait_closed()
                raise ConnectionAbortedError
            case End.RESET:
                linger = struct.pack("ii", 1, 0)
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                raise ConnectionAbortedError
            case End.STALL:
                await reader.read()
                raise ConnectionAbortedError
            case bytes():
                writer.write(part)
                await writer.drain()
            case _:
                for piece in part:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.001 if len(piece) == 1 else 0)


def answers_in_turn(*answers: Answer, then: Answer | None = None) -> Callable[[Request], Answer]:
    """Return a function that answers with each of ``answers`` in turn, then with ``then``."""
    left = iter(answers)

    def respond(request: Request) -> Answer:
        if (answer := next(left, then)) is None:
            raise AssertionError(f"unexpected request: {request.target}")
        return answer

    return respond


def head(status: int | str = 200, /, **headers: str | int) -> bytes:
    """Return a status line and headers; underscores in names become hyphens."""
    lines = (f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    reason = "" if isinstance(status, str) else " Whatever"
    return f"HTTP/1.1 {status}{reason}\r\n{''.join(lines)}\r\n".encode("utf-8", "surrogateescape")


def answer(body: object, status: int = 200, **headers: str | int) -> bytes:
    """Return a complete response; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, **{"Content_Length": len(data)} | headers) + data


def chunked(*chunks: bytes) -> bytes:
    """Return chunks in the transfer coding; the last, empty one must be passed too."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def drip(data: bytes) -> Iterable[bytes]:
    """Return the bytes one by one: about one is sent each millisecond."""
    return (data[i : i + 1] for i in range(len(data)))


def error(status: int, message: str = "No", code: int = 20000, **headers: str | int) -> bytes:
    """Return an error response as the API sends it."""
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more_info, "status": status}
    return answer(body, status, **headers)


def extension(number: int = 0, **fields: object) -> dict[str, object]:
    """Return an Extension as the API describes it; number 0 is `EXTENSION`."""
    sid = f"XF{number:032x}" if number else EXTENSION
    return {
        "sid": sid,
        "available_add_on_sid": ADD_ON,
        "friendly_name": "Incoming Voice Call",
        "product_name": "Programmable Voice",
        "unique_name": "voice-incoming",
        "url": f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}/Extensions/{sid}",
        **fields,
    }


def add_on() -> dict[str, object]:
    """Return the Add-on `ADD_ON` as the API describes it."""
    url = f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}"
    return {
        "sid": ADD_ON,
        "friendly_name": "High Accuracy Transcription",
        "configuration_schema": {"type": "object", "properties": {}},
        "url": url,
        "links": {"extensions": f"{url}/Extensions"},
    }


def page(
    numbers: Iterable[int] = (), next_page_url: object = None, **meta: object
) -> dict[str, Any]:
    """Return a page of Extensions as the API describes it."""
    url = f"{CANONICAL}/v1/AvailableAddOns/{ADD_ON}/Extensions?PageSize=50&Page=0"
    known = {"page": 0, "page_size": 50, "first_page_url": url, "previous_page_url": None}
    known |= {"url": url, "next_page_url": next_page_url, "key": "extensions"}
    return {"extensions": [extension(number) for number in numbers], "meta": known | meta}


def quick(attempts: int = 6) -> RetryPolicy:
    """Return a policy that hardly waits between attempts."""
    return RetryPolicy(attempts=attempts, wait_initial=0.001, wait_max=0.002)


async def fetch(session: MarketplaceSession) -> str:
    """Fetch an Extension and return its SID."""
    return (await session.available_add_ons(ADD_ON).extensions(EXTENSION).fetch()).sid


async def recovered(session: MarketplaceSession) -> bool:
    """Fetch an Extension, with several calls if timeouts are short."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RequestTimeoutError):
                return await fetch(session) == EXTENSION


async def failure(session: MarketplaceSession) -> MarketplaceError:
    """Fetch an Extension and return the error."""
    with pytest.raises(MarketplaceError) as caught:
        await fetch(session)
    return caught.value
