"""The server of the benchmarks and of the soak: raw HTTP on asyncio, in a process of its own.

It does as little as possible, so that it is not the bottleneck: responses are prepared, and a few
bytes of a request decide which one is sent.
"""

import asyncio
import contextlib
import json
import multiprocessing
import random
import re
import socket
import time
from collections import deque
from collections.abc import Generator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import attrs

ADD_ON = "XB" + "a" * 32
EXTENSION = "XF" + "a" * 32
ADD_ONS_PATH = "/v1/AvailableAddOns"
ITEMS_PATH = f"{ADD_ONS_PATH}/{ADD_ON}/Extensions"
PAGE = re.compile(rb"PageSize=(\d+)(?:&Page=(\d+))?")


@attrs.frozen
class Behaviour:
    """How the server responds."""

    latency: float = 0.0
    """Seconds that an admitted request takes."""

    admits: tuple[tuple[float, int], ...] = ()
    """Pairs in order of time: seconds since the first request, requests admitted at once from
    then on. All others get a 429."""

    slots: int = 0
    """The number of requests processed at once; the others wait in a queue (0: no queue)."""

    per_second: int = 0
    """The number of requests admitted in each second; the others get a 429 with
    ``Retry-After: 1`` (0: all are admitted)."""

    items: int = 0
    """The number of extensions of the add-on."""

    bodies: Mapping[str, bytes] = {}
    """Bodies by path, with or without the query."""

    unavailable: bool = False
    """Whether each request gets a 503."""

    closes: bool = False
    """Whether each connection is closed at once."""

    numbered: bool = False
    """Whether the number in the SID of an extension is also in its unique name."""

    faults: float = 0.0
    """The share of responses that are errors, cut short, or missing."""


@attrs.frozen
class Counts:
    """What the server has counted since it started."""

    answered: int
    rejected: int
    arrivals: tuple[float, ...]
    """When the requests of a server that is ``unavailable`` arrived, or the connections of one
    that ``closes`` them, in terms of `time.monotonic`."""


def extension(number: int, **fields: Any) -> dict[str, Any]:
    """Return an extension as the API sends it."""
    sid = f"XF{number:032x}"
    return {
        "sid": sid,
        "available_add_on_sid": ADD_ON,
        "friendly_name": "Incoming Voice Call",
        "product_name": "Programmable Voice",
        "unique_name": f"voice-incoming-{number}",
        "url": f"https://marketplace.twilio.com{ITEMS_PATH}/{sid}",
    } | fields


def page(items: bytes, number: int, size: int, *, last: bool, key: str = "extensions") -> bytes:
    """Return a page as the API sends it."""
    path = ITEMS_PATH if key == "extensions" else ADD_ONS_PATH
    url = f"https://marketplace.twilio.com{path}?PageSize={size}&Page="
    meta = {
        "page": number,
        "page_size": size,
        "first_page_url": f"{url}0",
        "previous_page_url": f"{url}{number - 1}&PageToken=t" if number else None,
        "url": f"{url}{number}",
        "next_page_url": None if last else f"{url}{number + 1}&PageToken=t",
        "key": key,
    }
    return b'{"%b":%b,"meta":%b}' % (key.encode(), items, json.dumps(meta).encode())


def extensions(number: int, size: int, made: dict[tuple[int, int], bytes] = {}) -> bytes:  # noqa: B006  # a cache
    """Return the items of a page. They repeat after three pages, because making them is slow."""
    key = number % 3, size
    if key not in made:
        start = key[0] * size
        made[key] = json.dumps([extension(start + n) for n in range(size)]).encode()
    return made[key]


def response(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """Return a whole response."""
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Twilio-Request-Id: RQ00000000000000000000000000000000\r\n%b\r\n%b"
    ) % (status, len(body), headers, body)


def error(status: int, message: str, code: int, headers: bytes = b"") -> bytes:
    """Return an error as the API sends it: https://www.twilio.com/docs/api/errors/20429."""
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more_info, "status": status}
    return response(b"%d %b" % (status, message.encode()), json.dumps(body).encode(), headers)


ONE = response(b"200 OK", json.dumps(extension(int("a" * 32, 16))).encode())
TOO_MANY = error(429, "Too Many Requests", 20429)
TOO_MANY_THIS_SECOND = error(429, "Too Many Requests", 20429, b"Retry-After: 1\r\n")
UNAVAILABLE = error(503, "Service Unavailable", 20503)
OTHERS = (error(500, "No", 20500), error(502, "No", 20502), error(504, "No", 20504))
FAULTS = (b"", ONE[:-100], TOO_MANY, UNAVAILABLE, *OTHERS)


class _Requests:
    """The requests of all connections."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.loop = asyncio.get_running_loop()
        self.in_flight = self.answered = self.rejected = 0
        self.arrivals: list[float] = []
        self.first_at: float | None = None
        self.second = self.admitted_this_second = 0
        self.queue: deque[tuple[asyncio.Transport, bytes]] = deque()
        # All take the same time, so they end in order of their start.
        self.due: deque[tuple[float, asyncio.Transport, bytes]] = deque()

    def counts(self) -> Counts:
        return Counts(self.answered, self.rejected, tuple(self.arrivals))

    def receive(self, transport: asyncio.Transport, request: bytes) -> None:
        if self.behaviour.closes:
            transport.close()
        elif self.behaviour.unavailable:
            self.arrivals.append(time.monotonic())
            transport.write(UNAVAILABLE)
        elif self.behaviour.per_second and self.is_above_rate():
            self.rejected += 1
            transport.write(TOO_MANY_THIS_SECOND)
        elif self.behaviour.admits and self.in_flight >= self.admitted():
            self.rejected += 1
            transport.write(TOO_MANY)
        elif not self.behaviour.latency:
            self.answered += 1
            transport.write(self.response_to(request))
        elif self.behaviour.slots and self.in_flight >= self.behaviour.slots:
            self.queue.append((transport, self.response_to(request)))
        else:
            self.start(transport, self.response_to(request))

    def seconds(self) -> float:
        """Return the seconds since the first request."""
        now = self.loop.time()
        if self.first_at is None:
            self.first_at = now
        return now - self.first_at

    def admitted(self) -> int:
        seconds = self.seconds()
        return [limit for since, limit in self.behaviour.admits if seconds >= since][-1]

    def is_above_rate(self) -> bool:
        second = int(self.seconds())
        if second != self.second:
            self.second, self.admitted_this_second = second, 0
        self.admitted_this_second += 1
        return self.admitted_this_second > self.behaviour.per_second

    def response_to(self, request: bytes) -> bytes:
        if self.behaviour.faults and random.random() < self.behaviour.faults:
            return random.choice(FAULTS)
        if self.behaviour.bodies:
            target = request.split(b" ")[1].decode()
            bodies = self.behaviour.bodies
            body = bodies.get(target) or bodies[target.partition("?")[0]]
            return response(b"200 OK", body)
        if b"PageSize=" in request and (found := PAGE.search(request)):
            size, number = int(found[1]), int(found[2] or 0)
            last = (number + 1) * size >= self.behaviour.items
            return response(b"200 OK", page(extensions(number, size), number, size, last=last))
        if self.behaviour.numbered:
            number = int(request.split(b" ")[1].rpartition(b"XF")[2], 16)
            return response(b"200 OK", json.dumps(extension(number)).encode())
        return ONE

    def start(self, transport: asyncio.Transport, data: bytes) -> None:
        self.in_flight += 1
        when = self.loop.time() + self.behaviour.latency
        self.due.append((when, transport, data))
        if len(self.due) == 1:
            self.loop.call_at(when, self.end)

    def end(self) -> None:
        now = self.loop.time() + 0.0002
        while self.due and self.due[0][0] <= now:
            _, transport, data = self.due.popleft()
            self.in_flight -= 1
            self.answered += 1
            if not transport.is_closing():
                transport.write(data)
                if not data.endswith(b"}"):  # it was cut short
                    transport.close()
        if self.due:
            self.loop.call_at(self.due[0][0], self.end)
        while self.queue and self.in_flight < self.behaviour.slots:
            self.start(*self.queue.popleft())


class _Protocol(asyncio.Protocol):
    def __init__(self, requests: _Requests) -> None:
        self.requests = requests
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.requests.behaviour.closes:
            self.requests.arrivals.append(time.monotonic())
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            request, _, self.received = self.received.partition(b"\r\n\r\n")
            self.requests.receive(self.transport, request.partition(b"\r\n")[0])


async def _serve(behaviour: Behaviour, port: int, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    requests = _Requests(behaviour)
    await loop.create_server(lambda: _Protocol(requests), "127.0.0.1", port, backlog=2048)
    while True:
        pipe.send(requests.counts())
        changed: Behaviour | None = await loop.run_in_executor(None, pipe.recv)
        if changed is not None:
            requests.behaviour = changed


def _run(behaviour: Behaviour, port: int, pipe: Connection) -> None:
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # the benchmark has ended
        pipe.recv()
        asyncio.run(_serve(behaviour, port, pipe))


def free_port() -> int:
    """Return a port that is not used and not ephemeral.

    A client that connects to a closed ephemeral port may get this very port as its own and
    connect to itself; then the server cannot be restarted.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server that has not been started yet, with its process ready."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._prepare()

    def _prepare(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(self._behaviour, self._port, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def start(self) -> None:
        """Listen, and return when connections are accepted."""
        self.change(None)

    def change(self, behaviour: Behaviour | None) -> Counts:
        """Change the behaviour, if one is passed, and return what was counted until now."""
        self._pipe.send(behaviour)
        counts: Counts = self._pipe.recv()
        return counts

    def counts(self) -> Counts:
        """Return what was counted since the start."""
        return self.change(None)

    def kill(self) -> None:
        """Kill the process: connections are reset, and refused until `start` is called."""
        self.stop()
        self._prepare()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Generator[Server]:
    """Run a server in a process of its own."""
    server = Server(behaviour)
    try:
        server.start()
        yield server
    finally:
        server.stop()
