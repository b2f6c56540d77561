"""What the benchmarks do with the library, by its public names only."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import attrs
from report import Figure
from server import ADD_ON, EXTENSION

from marketplace_async import Credentials, Extension, MarketplaceSession, open_session


@attrs.define
class Run:
    """The outcomes of a fan-out."""

    requests: int
    succeeded: int = 0
    errors: Counter[str] = attrs.field(factory=Counter[str])
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """The number of requests that failed or did not end in time."""
        return self.requests - self.succeeded

    def figure(self, name: str) -> Figure:
        """Return the figure of the lost requests; the goal is 0."""
        kinds = [f"{count} {kind}" for kind, count in self.errors.most_common()]
        if unfinished := self.lost - self.errors.total():
            kinds.append(f"{unfinished} unfinished")
        detail = ", ".join([f"{self.seconds:.1f} s", *kinds])
        return Figure(f"{name}: lost", self.lost, 0, at_least=False, detail=detail)


@contextlib.asynccontextmanager
async def session_at(url: str, **settings: Any) -> AsyncGenerator[MarketplaceSession]:
    """Open a session with default settings."""
    async with open_session(Credentials("AC", "x"), base_url=url, **settings) as marketplace:
        yield marketplace


async def fetch(marketplace: MarketplaceSession) -> Extension:
    """Fetch the extension that every server has."""
    return await marketplace.available_add_ons(ADD_ON).extensions(EXTENSION).fetch()


async def fetch_all(
    marketplace: MarketplaceSession, requests: int, *, at_most: float, max_in_flight: int = 500
) -> Run:
    """Make ``requests`` fetches in one fan-out and stop after ``at_most`` seconds."""
    loop = asyncio.get_running_loop()
    run = Run(requests)
    start = loop.time()
    with contextlib.suppress(TimeoutError):
        work = marketplace.fan_out(
            lambda _: fetch(marketplace), range(requests), max_in_flight=max_in_flight
        )
        async with asyncio.timeout(at_most), work as outcomes:
            async for outcome in outcomes:
                if outcome.error is None:
                    run.succeeded += 1
                else:
                    run.errors[type(outcome.error).__name__] += 1
    run.seconds = loop.time() - start
    return run
