"""The server that is measured against: raw HTTP on asyncio, in a process of its own.

It does the least that a server can, so that it is not the bottleneck: answers are prepared, and
requests are told apart by a few bytes. It admits so many requests at once and refuses the rest
with 429, as Twilio does (https://www.twilio.com/docs/api/errors/20429).
"""

import asyncio
import contextlib
import json
import multiprocessing
import re
from collections import deque
from collections.abc import Generator
from multiprocessing.connection import Connection
from typing import Any

import attrs

ADD_ON = "XB" + "a" * 32
EXTENSION = "XF" + "a" * 32
ITEMS_PATH = f"/v1/AvailableAddOns/{ADD_ON}/Extensions"
PAGE = re.compile(rb"PageSize=(\d+)(?:&Page=(\d+))?")


@attrs.frozen
class Behaviour:
    """How the server answers."""

    latency: float = 0.0
    """Seconds until an admitted request is answered."""

    admits: tuple[tuple[float, int], ...] = ()
    """(seconds since the first request, requests admitted at once), in order of time."""

    per_second: int = 0
    """How many requests are taken in each second, others refused with ``Retry-After: 1``;
    0 for no such bound."""

    items: int = 0
    """How many extensions the add-on has."""


def extension(number: int) -> dict[str, Any]:
    """Give one extension as the API would."""
    sid = f"XF{number:032x}"
    return {
        "sid": sid,
        "available_add_on_sid": ADD_ON,
        "friendly_name": "Incoming Voice Call",
        "product_name": "Programmable Voice",
        "unique_name": f"voice-incoming-{number}",
        "url": f"https://marketplace.twilio.com{ITEMS_PATH}/{sid}",
    }


def page(number: int, size: int, items: int) -> bytes:
    """Give a page. Its items repeat after three pages: building them must not take time."""
    url = f"https://marketplace.twilio.com{ITEMS_PATH}?PageSize={size}&Page="
    last = (number + 1) * size >= items
    meta = {
        "page": number,
        "page_size": size,
        "first_page_url": f"{url}0",
        "previous_page_url": f"{url}{number - 1}&PageToken=t" if number else None,
        "url": f"{url}{number}",
        "next_page_url": None if last else f"{url}{number + 1}&PageToken=t",
        "key": "extensions",
    }
    return b'{"extensions":%b,"meta":%b}' % (_items(number % 3, size), json.dumps(meta).encode())


def _items(which: int, size: int, made: dict[tuple[int, int], bytes] = {}) -> bytes:  # noqa: B006  # a cache
    if (which, size) not in made:
        start = which * size
        made[which, size] = json.dumps([extension(start + n) for n in range(size)]).encode()
    return made[which, size]


def _answer(status: bytes, body: bytes, further: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Twilio-Request-Id: RQ00000000000000000000000000000000\r\n%b\r\n%b"
    ) % (status, len(body), further, body)


ONE = _answer(b"200 OK", json.dumps(extension(int("a" * 32, 16))).encode())
TOO_MANY = json.dumps(
    {
        "code": 20429,
        "message": "Too Many Requests",
        "more_info": "https://www.twilio.com/docs/errors/20429",
        "status": 429,
    }
).encode()
REFUSAL = _answer(b"429 Too Many Requests", TOO_MANY)
REFUSAL_FOR_A_SECOND = _answer(b"429 Too Many Requests", TOO_MANY, b"Retry-After: 1\r\n")


class _State:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.loop = asyncio.get_running_loop()
        self.in_flight = self.answered = self.refused = 0
        self.first_at: float | None = None
        self.second = self.taken_in_it = 0
        # Of one latency, the requests are answered in the order of their arrival.
        self.due: deque[tuple[float, asyncio.Transport, bytes]] = deque()

    def admitted(self) -> int:
        now = self.loop.time()
        if self.first_at is None:
            self.first_at = now
        admitted = 10**9
        for since, limit in self.behaviour.admits:
            if now - self.first_at >= since:
                admitted = limit
        return admitted

    def is_above_rate(self) -> bool:
        """Count a request; its second begins with the first request, not with the clock's."""
        now = self.loop.time()
        if self.first_at is None:
            self.first_at = now
        second = int(now - self.first_at)
        if second != self.second:
            self.second, self.taken_in_it = second, 0
        self.taken_in_it += 1
        return self.taken_in_it > self.behaviour.per_second

    def take(self, transport: asyncio.Transport, request: bytes) -> None:
        if self.behaviour.per_second and self.is_above_rate():
            self.refused += 1
            transport.write(REFUSAL_FOR_A_SECOND)
            return
        if self.behaviour.admits and self.in_flight >= self.admitted():
            self.refused += 1
            transport.write(REFUSAL)
            return
        body = ONE
        if b"PageSize=" in request and (found := PAGE.search(request)):
            number = int(found[2] or 0)
            body = _answer(b"200 OK", page(number, int(found[1]), self.behaviour.items))
        if not self.behaviour.latency:
            self.answered += 1
            transport.write(body)
            return
        self.in_flight += 1
        when = self.loop.time() + self.behaviour.latency
        self.due.append((when, transport, body))
        if len(self.due) == 1:
            self.loop.call_at(when, self.release)

    def release(self) -> None:
        now = self.loop.time() + 0.0002
        while self.due and self.due[0][0] <= now:
            _, transport, body = self.due.popleft()
            self.in_flight -= 1
            self.answered += 1
            if not transport.is_closing():
                transport.write(body)
        if self.due:
            self.loop.call_at(self.due[0][0], self.release)


class _Protocol(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self.state = state
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            request, _, self.received = self.received.partition(b"\r\n\r\n")
            self.state.take(self.transport, request.partition(b"\r\n")[0])


async def _serve(behaviour: Behaviour, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    state = _State(behaviour)
    server = await loop.create_server(lambda: _Protocol(state), "127.0.0.1", 0, backlog=2048)
    pipe.send(server.sockets[0].getsockname()[1])
    while await loop.run_in_executor(None, pipe.recv):
        pipe.send((state.answered, state.refused))
    server.close()


def _run(behaviour: Behaviour, pipe: Connection) -> None:
    asyncio.run(_serve(behaviour, pipe))


class Origin:
    """A running server."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url = url
        self._pipe = pipe

    def counts(self) -> tuple[int, int]:
        """Give how many requests were answered and how many refused."""
        self._pipe.send("count")
        answered, refused = self._pipe.recv()
        return answered, refused


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Generator[Origin]:
    """Run a server in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(behaviour, there))
    process.start()
    try:
        yield Origin(f"http://127.0.0.1:{here.recv()}", here)
        here.send(None)
        process.join(5)
    finally:
        process.kill()
        process.join()
