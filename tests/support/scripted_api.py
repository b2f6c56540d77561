"""Answers in place of a server, after exact times: it has no sockets and runs in virtual time.

What concerns sockets is tested against a `Sandbox` or a `Wire`.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType, TracebackType
from typing import Any

import attrs
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

__all__ = [
    "ADD_ON",
    "CREDENTIALS",
    "EXTENSION",
    "FOUND",
    "NEVER",
    "Answer",
    "Request",
    "ScriptedApi",
    "Steady",
    "error",
    "fetch",
    "page",
]

CREDENTIALS = Credentials("SK" + 32 * "0", "a secret that shows nowhere")
ADD_ON = "XB" + 32 * "a"
EXTENSION = Extension("XF" + 32 * "b", ADD_ON, "Incoming Voice Call")


@attrs.frozen
class Answer:
    """What becomes of one request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    seconds: float = attrs.field(default=0.0, kw_only=True)
    """How long it takes."""
    failure: Exception | None = attrs.field(default=None, kw_only=True)
    """What aiohttp raises in place of an answer."""


@attrs.frozen
class Request:
    """What was asked, and when."""

    seconds: float
    """The time of the event loop."""
    url: URL
    options: Mapping[str, Any]
    """The arguments that aiohttp was given."""

    @property
    def headers(self) -> CIMultiDict[str]:
        return CIMultiDict(self.options["headers"])


FOUND = Answer(json.dumps(attrs.asdict(EXTENSION)).encode())
NEVER = Answer(seconds=math.inf)


def error(status: int, *, seconds: float = 0.0, **headers: str | int) -> Answer:
    """An error as the API words it; underscores in the names of headers stand for hyphens."""
    body = {"code": 20000 + status, "message": "No", "status": status}
    sent = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Answer(json.dumps(body).encode(), status, sent, seconds=seconds)


def page(*sids: str, next_page_url: str | None = None, seconds: float = 0.0) -> Answer:
    """A page of the Extensions of `ADD_ON`."""
    url = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions"
    meta = {
        "page": 0,
        "page_size": 50,
        "first_page_url": f"{url}?PageSize=50&Page=0",
        "previous_page_url": None,
        "url": f"{url}?PageSize=50&Page=0",
        "next_page_url": next_page_url,
        "key": "extensions",
    }
    items = [attrs.asdict(Extension(sid, ADD_ON)) for sid in sids]
    return Answer(json.dumps({"extensions": items, "meta": meta}).encode(), seconds=seconds)


class ScriptedApi:
    """Answers the requests of all aiohttp sessions while its ``async with`` block runs.

    The first requests get ``answers`` in turn; all others get ``then``, or what it gives for a
    request where it is a function.
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
        """When the requests were made."""
        return [request.seconds for request in self.requests]

    def session(self, **settings: Any) -> MarketplaceSession:
        return open_session(CREDENTIALS, **settings)

    async def __aenter__(self) -> "ScriptedApi":
        mocked = self._stack.enter_context(mocked_responses())
        any_url: re.Pattern[str] = re.compile("")
        mocked.get(any_url, callback=self._answer, repeat=True)  # pyright: ignore[reportUnknownMemberType]  # it says Pattern of nothing
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    async def _answer(self, url: URL, **options: Any) -> CallbackResult:
        request = Request(asyncio.get_running_loop().time(), url, options)
        self.requests.append(request)
        answer = next(self._answers, self._then)
        if callable(answer):
            answer = answer(request)
        if answer is None:
            raise AssertionError(f"a request that was not expected: {url}")
        await _pass(answer.seconds)
        if answer.failure is not None:
            raise answer.failure
        return CallbackResult(status=answer.status, body=answer.body, headers=dict(answer.headers))


async def _pass(seconds: float) -> None:
    if seconds == math.inf:
        await asyncio.get_running_loop().create_future()
    elif seconds:
        await asyncio.sleep(seconds)


@attrs.frozen(kw_only=True)
class Steady(RetryPolicy):
    """Waits each time as long as the usual policy does at the most."""

    def wait(
        self, error: MarketplaceError, attempt: int, random: Callable[[], float]
    ) -> float | None:
        return super().wait(error, attempt, lambda: 1.0)


async def fetch(session: MarketplaceSession) -> Extension:
    """Fetch `EXTENSION`."""
    return await session.available_add_ons(ADD_ON).extensions(EXTENSION.sid).fetch()
