"""Whatever happens on the way, a listing gives each item once and in order, or raises."""

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace_async import Extension, MarketplaceError, open_session
from marketplace_async.sandbox import Catalog, Sandbox, add_on
from marketplace_async.testing import without_waits

Fault = Callable[[Sandbox], None]

passing = st.sampled_from([408, 429, 500, 502, 503, 504])
lasting = st.sampled_from([400, 401, 403, 404, 410, 422])


def failing(status: int) -> Fault:
    return lambda sandbox: sandbox.fail_next(status=status)


def none(sandbox: Sandbox) -> None:
    sandbox.delay_next(0)


def dropped(sandbox: Sandbox) -> None:
    sandbox.drop_next()


def truncated(sandbox: Sandbox) -> None:
    sandbox.truncate_next()


faults = st.sampled_from([none, dropped, truncated]) | (passing | lasting).map(failing)


async def listed(
    script: list[Fault], extensions: int, page_size: int, limit: int | None, prefetch: int
) -> tuple[list[Extension], list[Extension], MarketplaceError | None]:
    """Give what there is to list, what was given, and the error at the end."""
    entry = add_on(extensions=extensions)
    given_: list[Extension] = []
    error = None
    async with (
        Sandbox(Catalog([entry])) as sandbox,
        open_session(
            sandbox.credentials, base_url=sandbox.url, retry=without_waits(attempts=3)
        ) as marketplace,
    ):
        for add in script:
            add(sandbox)
        pager = marketplace.available_add_ons(entry.add_on.sid).extensions.list(
            limit=limit, page_size=page_size, prefetch=prefetch
        )
        try:
            async for extension in pager:
                given_.append(extension)  # noqa: PERF401  # what came before an error counts
        except MarketplaceError as raised:
            error = raised
    return list(entry.extensions), given_, error


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(faults, max_size=12),
    extensions=st.integers(0, 40),
    page_size=st.integers(1, 15),
    limit=st.none() | st.integers(0, 50),
    prefetch=st.integers(0, 3),
)
def test_a_listing_through_faults_gives_each_item_once_and_in_order_or_raises(
    script: list[Fault], extensions: int, page_size: int, limit: int | None, prefetch: int
) -> None:
    there, given_, error = asyncio.run(listed(script, extensions, page_size, limit, prefetch))
    wanted = [item.sid for item in there][:limit]
    sids = [item.sid for item in given_]
    assert sids == wanted[: len(sids)]
    assert error is not None or sids == wanted
