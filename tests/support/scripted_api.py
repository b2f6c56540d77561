"""Scripted responses after exact times, without sockets, for tests in virtual time.

Tests that need sockets use a `Sandbox` or a `Wire`.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from aioresponses import CallbackResult
from aioresponses_shim import mocked_responses
from multidict import CIMultiDict
from yarl import URL

from marketplace_async import (
    Credentials,
    Extension,
    MarketplaceError,
    MarketplaceSession,
    RetryPolicy,
    open_session,
)

CREDENTIALS = Credentials("SK" + 32 * "0", "a secret that shows nowhere")
ADD_ON = "XB" + 32 * "a"
EXTENSION = Extension("XF" + 32 * "b", ADD_ON, "Incoming Voice Call")


@attrs.frozen
class Answer:
    """The response to one request, or the failure of the request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    seconds: float = attrs.field(default=0.0, kw_only=True)
    """The duration of the request."""
    failure: Exception | None = attrs.field(default=None, kw_only=True)
    """Raised by aiohttp instead of a response."""


@attrs.frozen
class Request:
    """A request: the time of the event loop, its URL, and the arguments for aiohttp."""

    seconds: float
    url: URL
    options: Mapping[str, Any]

    @property
    def headers(self) -> CIMultiDict[str]:
        return CIMultiDict(self.options["headers"])


FOUND = Answer(json.dumps(attrs.asdict(EXTENSION)).encode())
NEVER = Answer(seconds=math.inf)


def error(status: int, *, seconds: float = 0.0, **headers: str | int) -> Answer:
    """Return an error response of the API; underscores in names of headers become hyphens."""
    body = {"code": 20000 + status, "message": "No", "status": status}
    sent = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Answer(json.dumps(body).encode(), status, sent, seconds=seconds)


def page(*sids: str, next_page_url: str | None = None, seconds: float = 0.0) -> Answer:
    """Return a page of the Extensions of `ADD_ON`."""
    meta = {"page": 0, "page_size": 50, "next_page_url": next_page_url, "key": "extensions"}
    items = [attrs.asdict(Extension(sid, ADD_ON)) for sid in sids]
    return Answer(json.dumps({"extensions": items, "meta": meta}).encode(), seconds=seconds)


class ScriptedApi:
    """Answers the requests of all aiohttp sessions inside its ``async with`` block.

    The first requests get ``answers`` in turn, all others ``then``, or what it returns for them.
    """

    def __init__(
        self, *answers: Answer, then: Answer | Callable[[Request], Answer] | None = None
    ) -> None:
        self._answers = iter(answers)
        self._then = then
        self._stack = ExitStack()
        self.requests: list[Request] = []

    @property
    def times(self) -> list[float]:
        """The times of the requests."""
        return [request.seconds for request in self.requests]

    def session(self, **settings: Any) -> MarketplaceSession:
        return open_session(CREDENTIALS, **settings)

    async def __aenter__(self) -> "ScriptedApi":
        mocked = self._stack.enter_context(mocked_responses())
        any_url: re.Pattern[str] = re.compile("")
        mocked.get(any_url, callback=self._answer, repeat=True)  # pyright: ignore[reportUnknownMemberType]  # it says Pattern of nothing
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    async def _answer(self, url: URL, **options: Any) -> CallbackResult:
        request = Request(asyncio.get_running_loop().time(), url, options)
        self.requests.append(request)
        answer = next(self._answers, self._then)
        if callable(answer):
            answer = answer(request)
        if answer is None:
            raise AssertionError(f"unexpected request: {url}")
        if answer.seconds == math.inf:
            await asyncio.get_running_loop().create_future()
        elif answer.seconds:
            await asyncio.sleep(answer.seconds)
        if answer.failure is not None:
            raise answer.failure
        return CallbackResult(status=answer.status, body=answer.body, headers=dict(answer.headers))


@attrs.frozen(kw_only=True)
class Steady(RetryPolicy):
    """Waits as long as the policy permits, without jitter."""

    def wait(
        self, error: MarketplaceError, attempt: int, random: Callable[[], float]
    ) -> float | None:
        return super().wait(error, attempt, lambda: 1.0)


async def fetch(session: MarketplaceSession) -> Extension:
    """Fetch `EXTENSION`."""
    return await session.available_add_ons(ADD_ON).extensions(EXTENSION.sid).fetch()


async def failure(session: MarketplaceSession) -> MarketplaceError:
    """Fetch `EXTENSION` and return the error."""
    with pytest.raises(MarketplaceError) as caught:
        await fetch(session)
    return caught.value


def now() -> float:
    """Return the time of the event loop."""
    return asyncio.get_running_loop().time()
