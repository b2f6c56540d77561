"""A pytest plugin: with the fixture ``nothing_leaks`` a test fails if a fault leaks something.

A leak is the password of `wire.CREDENTIALS`, as it is or encoded, in an exception that leaves a
call (its text, its chain, the local variables of its traceback, its pickle), in a log record, or
in a `RetryEvent`; or a task that is left after the test.
"""

import asyncio
import base64
import functools
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from wire import CREDENTIALS

from marketplace_async import MarketplaceError, transport
from marketplace_async.retry import RetryEvent

TESTS = Path(__file__).parents[1]
BASIC = f"{CREDENTIALS.username}:{CREDENTIALS.password}".encode()
SECRETS = (
    CREDENTIALS.password,
    quote(CREDENTIALS.password, safe=""),
    base64.b64encode(BASIC).decode(),
    base64.urlsafe_b64encode(BASIC).decode(),
    base64.b64encode(CREDENTIALS.password.encode()).decode(),
)


def secrets_in(text: str) -> bool:
    return any(secret in text for secret in SECRETS)


def chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """Yield an exception, its causes and its contexts."""
    if error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        yield from chain(error.__cause__, seen)
        yield from chain(error.__context__, seen)


def texts_of(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield what a log, a debugger or an error tracker shows of an exception, with its place."""
    for link in chain(error, set()):
        name = type(link).__name__
        yield f"text of {name}", f"{link} {link!r} {vars(link)!r}"
        yield f"traceback of {name}", "".join(traceback.format_exception(link))
        # Test modules know the secrets.
        frames = [
            step
            for step in traceback.walk_tb(link.__traceback__)
            if not Path(step[0].f_code.co_filename).is_relative_to(TESTS)
        ]
        for frame in traceback.StackSummary.extract(iter(frames), capture_locals=True):
            yield f"locals of {frame.name}", repr(frame.locals)
        if isinstance(link, MarketplaceError):
            yield f"pickle of {name}", pickle.dumps(link, 0).decode("latin-1")


@pytest.fixture
async def nothing_leaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    found: list[str] = []

    def check(place: str, text: str) -> None:
        if secrets_in(text):
            found.append(place)

    get = transport.Transport.get

    @functools.wraps(get)
    async def checked_get(self: transport.Transport, *args: Any) -> Any:
        try:
            return await get(self, *args)
        except BaseException as error:
            for place, text in texts_of(error):
                check(place, text)
            raise

    def checked_event(*args: Any) -> RetryEvent:
        event = RetryEvent(*args)
        check("RetryEvent", f"{event!r} {pickle.dumps(event, 0).decode('latin-1')}")
        return event

    monkeypatch.setattr(transport.Transport, "get", checked_get)
    monkeypatch.setattr(transport, "RetryEvent", checked_event)
    caplog.set_level(logging.DEBUG)
    before = asyncio.all_tasks()
    yield
    for record in caplog.get_records("call"):
        check(f"log of {record.name}", f"{logging.Formatter().format(record)} {vars(record)!r}")
    assert found == []
    for _ in range(10):  # rounds of the event loop, in which cancelled tasks end
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
