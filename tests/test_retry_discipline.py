"""What all calls of a session together do to a server in trouble."""

import asyncio
from collections import Counter

from marketplace_async import (
    MarketplaceError,
    MarketplaceSession,
    RetryPolicy,
    ServerError,
    open_session,
)
from marketplace_async.budget import COST_OF_A_FAILED_RETRY, RETRYING_AT_ONCE, TOKENS
from marketplace_async.sandbox import Sandbox

EVER = 1_000_000


async def list_all(marketplace: MarketplaceSession, times: int) -> list[MarketplaceError | None]:
    async def one() -> MarketplaceError | None:
        try:
            await marketplace.available_add_ons.list(page_size=1000).to_list()
        except MarketplaceError as error:
            return error
        return None

    return await asyncio.gather(*(one() for _ in range(times)))


async def test_a_server_that_is_down_gets_a_request_for_each_call_and_a_bounded_number_more() -> (
    None
):
    async with Sandbox() as sandbox:
        quick = RetryPolicy(wait_initial=0.001, wait_max=0.005)
        session = open_session(sandbox.credentials, base_url=sandbox.url, retry=quick)
        async with session as marketplace:
            sandbox.fail_next(status=503, times=EVER)
            first = await list_all(marketplace, 100)
            after_the_first = len(sandbox.requests)
            second = await list_all(marketplace, 100)
            requests = len(sandbox.requests)
    assert all(isinstance(error, ServerError) for error in first + second)
    most_retries = TOKENS // COST_OF_A_FAILED_RETRY + RETRYING_AT_ONCE
    assert 100 < after_the_first <= 100 + most_retries
    # Nothing has come back into the quota: those who come later are not retried at all.
    assert requests == after_the_first + 100
    assert {error.attempts for error in second if error} == {1}
    assert all(error.not_retried for error in second if error)


async def test_an_outage_of_two_seconds_is_outlived_by_200_listings_at_once() -> None:
    async with (
        Sandbox() as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.url) as marketplace,
    ):
        sandbox.fail_next(status=503, times=EVER)
        asyncio.get_running_loop().call_later(2, sandbox.clear)
        ended = await list_all(marketplace, 200)
    failed = Counter(type(error).__name__ for error in ended if error)
    assert failed.total() <= 5, failed


async def test_a_retry_after_holds_back_the_other_calls() -> None:
    async with (
        Sandbox() as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.url) as marketplace,
    ):
        handle = marketplace.available_add_ons(next(iter(sandbox.catalog)))
        sandbox.fail_next(status=429, retry_after=1)
        told = asyncio.create_task(handle.fetch())
        while not sandbox.requests:
            await asyncio.sleep(0)
        while sandbox.requests[0].status is None:
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)  # for the answer to arrive; its Retry-After is ten times that
        other = asyncio.create_task(handle.fetch())
        await asyncio.sleep(0.1)
        assert len(sandbox.requests) == 1
        await asyncio.gather(told, other)
        assert [request.status for request in sandbox.requests] == [429, 200, 200]
