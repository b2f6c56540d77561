"""The fixtures that users' tests get, and that these tests get the same way."""

import asyncio
import threading
from typing import Any

import pytest

from marketplace_async import MarketplaceSession, NotFoundError, RateLimitError
from marketplace_async.sandbox import Catalog, Sandbox, add_on
from marketplace_async.testing import sandbox_beside, without_waits


async def test_a_session_is_on_the_sandbox_and_its_catalogue(
    marketplace_session: MarketplaceSession, marketplace_catalog: Catalog
) -> None:
    async with marketplace_session as marketplace:
        listed = [add_on.sid async for add_on in marketplace.available_add_ons.list()]
    assert listed == list(marketplace_catalog)


async def test_retries_do_not_wait_even_if_the_server_asks_for_it(
    marketplace_session: MarketplaceSession, marketplace_sandbox: Sandbox
) -> None:
    marketplace_sandbox.fail_next(status=429, retry_after=29)
    async with marketplace_session as marketplace:
        async with asyncio.timeout(20):
            assert await marketplace.available_add_ons.list().first()
    assert [request.status for request in marketplace_sandbox.requests] == [429, 200]


async def test_attempts_end_as_they_do_with_the_usual_policy(
    marketplace_session: MarketplaceSession, marketplace_sandbox: Sandbox
) -> None:
    marketplace_sandbox.fail_next(status=429, times=6)
    async with marketplace_session as marketplace:
        with pytest.raises(RateLimitError) as caught:
            await marketplace.available_add_ons.list().first()
    assert caught.value.attempts == without_waits().attempts == 6


def test_the_fixtures_serve_a_test_without_an_event_loop(
    marketplace_session: MarketplaceSession, marketplace_sandbox: Sandbox
) -> None:
    async def fetch_nothing() -> None:
        async with marketplace_session as marketplace:
            with pytest.raises(NotFoundError):
                await marketplace.available_add_ons("XB" + "0" * 32).fetch()

    asyncio.run(fetch_nothing())
    assert [request.status for request in marketplace_sandbox.requests] == [404]


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    with sandbox_beside() as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_sandbox_that_cannot_listen_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: Sandbox) -> Sandbox:
        raise OSError("in use")

    monkeypatch.setattr(Sandbox, "start", refuse)
    with pytest.raises(OSError, match="in use"), sandbox_beside():
        pass


def test_a_catalogue_that_is_none_is_refused_and_nothing_hangs() -> None:
    wrong: Any = [add_on()]
    with (
        pytest.raises(TypeError, match="catalog should be a Catalog, not list"),
        sandbox_beside(wrong),
    ):
        pass
