"""A pytest plugin that looks for what a fault may leave: secrets in plain sight, and tasks.

With the fixture ``nothing_leaks`` a test fails if the password of `wire.CREDENTIALS`, in any
form in which it travels, shows in an exception that leaves a call (its text, its chain, its
traceback with all local variables, its pickle), in a log record of whatever logger, or in a
`RetryEvent`; or if a task is left when the test is over.
"""

import asyncio
import base64
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Iterator
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pytest
from wire import CREDENTIALS

from marketplace_async import MarketplaceError, transport
from marketplace_async.retry import RetryEvent

__all__ = ["SECRETS", "nothing_leaks", "secrets_in", "texts_of"]

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


def texts_of(error: BaseException) -> Iterator[tuple[str, str]]:
    """All that a log, a debugger or an error tracker shows of an exception, each with its place."""
    for link in chain(error, set()):
        name = type(link).__name__
        yield f"repr of {name}", repr(link)
        yield f"str of {name}", str(link)
        yield f"vars of {name}", repr(vars(link))
        yield f"traceback of {name}", "".join(traceback.format_exception(link))
        yield from locals_in(link.__traceback__)
        if isinstance(link, MarketplaceError):
            yield f"pickle of {name}", pickle.dumps(link, 0).decode("latin-1")


def chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        yield from chain(error.__cause__, seen)
        yield from chain(error.__context__, seen)


def locals_in(step: TracebackType | None) -> Iterator[tuple[str, str]]:
    while step is not None:
        code = step.tb_frame.f_code
        # The tests themselves know the secrets.
        if not Path(code.co_filename).is_relative_to(TESTS):
            for name, value in step.tb_frame.f_locals.items():
                yield f"local {name} of {code.co_qualname}", shown(value)
        step = step.tb_next


def shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  # as in `self` of an `__init__` that failed
        return repr(error)


@pytest.fixture
async def nothing_leaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    found: list[str] = []

    def look_at(place: str, text: str) -> None:
        if secrets_in(text):
            found.append(place)

    get = transport.Transport.get

    @wraps(get)
    async def watched_get(self: transport.Transport, *args: Any) -> Any:
        try:
            return await get(self, *args)
        except BaseException as error:
            for place, text in texts_of(error):
                look_at(place, text)
            raise

    def watched_event(*args: Any) -> RetryEvent:
        event = RetryEvent(*args)
        look_at("repr of RetryEvent", repr(event))
        look_at("pickle of RetryEvent", pickle.dumps(event, 0).decode("latin-1"))
        return event

    monkeypatch.setattr(transport.Transport, "get", watched_get)
    monkeypatch.setattr(transport, "RetryEvent", watched_event)
    caplog.set_level(logging.DEBUG)
    before = asyncio.all_tasks()
    yield
    for record in caplog.get_records("call"):
        look_at(f"log record of {record.name}", logging.Formatter().format(record))
        look_at(f"attributes of a log record of {record.name}", repr(vars(record)))
    assert not found, found
    for _ in range(10):  # rounds of the event loop, in which what was cancelled ends
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, left
