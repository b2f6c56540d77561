import asyncio
import concurrent.futures
import contextlib
import gc
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leftovers import all_blocked, leaves_nothing

from marketplace_async.models import Extension, PageMeta
from marketplace_async.paging import ItemIterator, Page
from marketplace_async.readahead import ReadAhead


class Source:
    """Gives numbers, and raises what stands among them; knows what was asked of it."""

    def __init__(self, items: Iterable[int | BaseException], seconds: float = 0) -> None:
        self._items = iter(items)
        self._seconds = seconds
        self.asked = 0
        self.reading = 0
        self.closed = 0
        self.tasks = set[asyncio.Task[Any] | None]()

    def __aiter__(self) -> "Source":
        return self

    async def __anext__(self) -> int:
        self.tasks.add(asyncio.current_task())
        self.asked += 1
        self.reading += 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.reading -= 1
        for item in self._items:
            if isinstance(item, BaseException):
                raise item
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.tasks.add(asyncio.current_task())
        assert not self.reading
        await asyncio.sleep(0)
        self.closed += 1


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("depth", [1, 2, 100])
@leaves_nothing
async def test_items_keep_their_order(depth: int) -> None:
    assert [item async for item in ReadAhead(Source(range(10)), depth)] == list(range(10))


@leaves_nothing
async def test_nothing_is_read_before_the_first_item_is_asked_for() -> None:
    source = Source(range(10))
    items = ReadAhead(source, 3)
    assert aiter(items) is items
    await all_blocked()
    assert source.asked == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("depth", [1, 2, 7])
@leaves_nothing
async def test_the_source_is_read_depth_items_ahead_and_no_further(depth: int) -> None:
    source = Source(range(100))
    items = ReadAhead(source, depth)
    for taken in range(1, 20):
        await anext(items)
        await all_blocked()
        assert source.asked == taken + depth


@leaves_nothing
async def test_reading_and_consuming_overlap() -> None:
    async for _ in ReadAhead(Source(range(9), seconds=10), 1):
        await asyncio.sleep(10)
    # The first item is waited for, and while the last is consumed the end is found.
    assert now() == 100


@leaves_nothing
async def test_the_source_is_read_and_closed_by_one_task() -> None:
    source = Source(range(100))
    items = ReadAhead(source, 3)
    for _ in range(10):
        await anext(items)
    await items.aclose()
    assert len(source.tasks) == 1
    assert asyncio.current_task() not in source.tasks


@leaves_nothing
async def test_an_error_of_the_source_is_raised_in_its_place() -> None:
    error = LookupError("the third")
    source = Source([1, 2, error, 4])
    items = ReadAhead(source, 5)
    assert await anext(items) == 1
    await all_blocked()
    assert source.closed == 1
    assert await anext(items) == 2
    for _ in range(2):  # never the end of a complete listing, however often one asks
        with pytest.raises(LookupError) as raised:
            await anext(items)
        assert raised.value is error


@leaves_nothing
async def test_a_source_that_is_cancelled_from_within_cancels_nobody() -> None:
    items = ReadAhead(Source([1, asyncio.CancelledError()]), 5)
    assert await anext(items) == 1
    with pytest.raises(concurrent.futures.CancelledError):
        await anext(items)


async def broken() -> None:
    await asyncio.sleep(0)
    raise LookupError("broken")


@pytest.mark.parametrize("is_handled", [True, False])
@leaves_nothing
async def test_a_task_group_that_fails_in_the_source_is_no_cancellation(
    *, is_handled: bool
) -> None:
    """Before Python 3.13 the task of the source counts as cancelled from there on."""

    async def source() -> AsyncIterator[int]:
        yield 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(broken())
        except* LookupError:
            if not is_handled:
                raise
        yield 2
        yield 3

    items = ReadAhead(source(), 1)
    assert await anext(items) == 1
    if is_handled:
        assert [item async for item in items] == [2, 3]
    else:
        with pytest.raises(ExceptionGroup):
            await anext(items)


@leaves_nothing
async def test_behind_a_task_group_that_failed_cancellation_works_as_before() -> None:
    async def source() -> AsyncIterator[int]:
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(broken())
        yield 1
        await asyncio.sleep(1000)

    items = ReadAhead(source(), 1)
    assert await anext(items) == 1
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        await anext(items)

    items = ReadAhead(source(), 1)
    assert await anext(items) == 1
    await items.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(items)


@leaves_nothing
async def test_a_task_group_that_fails_while_it_is_cancelled_spoils_no_closing() -> None:
    """From Python 3.13 on, it has the cancellation come again, at what is awaited next."""
    closed = 0

    async def source() -> AsyncIterator[int]:
        nonlocal closed
        try:
            while True:
                yield 1
                with contextlib.suppress(ExceptionGroup):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(broken())
        finally:
            await asyncio.sleep(0)
            closed += 1

    for ticks in range(1, 10):
        items = ReadAhead(source(), 1)
        await anext(items)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await items.aclose()
        assert closed == ticks


@leaves_nothing
async def test_when_somebody_cancels_the_task_the_items_do_not_just_end() -> None:
    items = ReadAhead(Source(range(100), seconds=5), 1)
    assert await anext(items) == 0
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        await anext(items)


@leaves_nothing
async def test_the_end_is_the_end_however_often_one_asks() -> None:
    source = Source([1])
    items = ReadAhead(source, 5)
    assert await anext(items) == 1
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(items)
    assert source.closed == 1


@leaves_nothing
async def test_an_error_that_nobody_came_to_is_not_complained_about() -> None:
    async for _ in ReadAhead(Source([1, 2, LookupError()]), 5):
        await all_blocked()
        break


@leaves_nothing
async def test_two_tasks_cannot_await_the_next_item_at_once() -> None:
    items = ReadAhead(Source(range(9), seconds=5), 1)
    first = asyncio.create_task(anext(items))
    await all_blocked()
    with pytest.raises(RuntimeError, match="another task awaits"):
        await anext(items)
    assert await first == 0
    assert await anext(items) == 1


@leaves_nothing
async def test_a_timeout_around_the_next_item_loses_none() -> None:
    items = ReadAhead(Source(range(3), seconds=5), 1)
    read: list[int] = []
    while len(read) < 3:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                read.append(await anext(items))
    assert read == [0, 1, 2]


@pytest.mark.parametrize("reading", [False, True])
@leaves_nothing
async def test_closing_ends_the_task_and_closes_the_source_once(*, reading: bool) -> None:
    source = Source(range(100), seconds=5)
    items = ReadAhead(source, 3)
    if reading:
        await anext(items)
    await items.aclose()
    await items.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert source.closed == 1
    with pytest.raises(StopAsyncIteration):
        await anext(items)


@leaves_nothing
async def test_closing_from_another_task_ends_the_items_of_who_waits() -> None:
    items = ReadAhead(Source(range(100), seconds=5), 3)
    waiting = asyncio.create_task(anext(items, "the end"))
    await all_blocked()
    await items.aclose()
    assert await waiting == "the end"


class SlowToClose(Source):
    async def aclose(self) -> None:
        await asyncio.sleep(100)
        await super().aclose()


@leaves_nothing
async def test_closing_may_be_cancelled_and_then_ends_so_but_not_sooner() -> None:
    source = SlowToClose(range(100))
    items = ReadAhead(source, 3)
    await anext(items)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await items.aclose()
    assert (source.closed, now()) == (1, 100)


@leaves_nothing
async def test_closing_again_waits_too_and_does_not_disturb() -> None:
    source = SlowToClose(range(100))
    items = ReadAhead(source, 3)
    await anext(items)
    first = asyncio.create_task(items.aclose())
    await asyncio.sleep(10)
    await items.aclose()
    assert (source.closed, now()) == (1, 100)
    await first


@leaves_nothing
async def test_a_source_needs_no_aclose() -> None:
    class Plain:
        def __aiter__(self) -> "Plain":
            return self

        async def __anext__(self) -> int:
            return 1

    items = ReadAhead(Plain(), 3)
    assert await anext(items) == 1
    await items.aclose()
    await ReadAhead(Plain(), 3).aclose()


@leaves_nothing
async def test_break_ends_the_task_and_closes_the_source() -> None:
    source = Source(range(100), seconds=5)
    async for _ in ReadAhead(source, 3):
        break
    await all_blocked()
    assert source.closed == 1


@leaves_nothing
async def test_cancellation_ends_the_task_and_closes_the_source_even_when_kept() -> None:
    source = Source(range(100), seconds=5)

    async def consume() -> None:
        async for _ in ReadAhead(source, 3):
            pass

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(12)
    consumer.cancel()
    (kept,) = await asyncio.gather(consumer, return_exceptions=True)
    await all_blocked()
    assert isinstance(kept, asyncio.CancelledError)
    assert source.closed == 1


@leaves_nothing
async def test_cancellation_within_the_items_of_pages_leaves_nothing_even_when_kept() -> None:
    async def pages() -> AsyncIterator[Page[Extension]]:
        while True:
            await asyncio.sleep(5)
            yield Page((), PageMeta(0, 50, "first", None, "this", None, "extensions"))

    async def consume() -> None:
        async for _ in ItemIterator(ReadAhead(pages(), 3)):
            pass

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(12)
    consumer.cancel()
    (kept,) = await asyncio.gather(consumer, return_exceptions=True)
    await all_blocked()
    assert isinstance(kept, asyncio.CancelledError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@leaves_nothing
async def test_what_is_kept_in_a_variable_goes_on() -> None:
    items = ReadAhead(Source(range(5)), 2)
    async for item in items:
        assert item == 0
        break
    gc.collect()
    await all_blocked()
    assert [item async for item in items] == [1, 2, 3, 4]


@given(
    items=st.lists(st.integers() | st.builds(LookupError), max_size=12),
    depth=st.integers(1, 5),
    reading=st.sampled_from([0, 1, 3]),
    consuming=st.sampled_from([0, 1, 3]),
    patience=st.sampled_from([None, 0, 1, 2]),
    leave_after=st.integers(0, 15),
)
@leaves_nothing
async def test_what_is_given_is_what_the_source_gave(
    items: list[int | LookupError],
    depth: int,
    reading: float,
    consuming: float,
    patience: float | None,
    leave_after: int,
) -> None:
    ahead = ReadAhead(Source(items, seconds=reading), depth)
    given: list[int | LookupError] = []
    while len(given) < leave_after:
        try:
            async with asyncio.timeout(patience):
                given.append(await anext(ahead))
        except TimeoutError:
            await asyncio.sleep(0.5)
        except StopAsyncIteration:
            break
        except LookupError as error:
            given.append(error)
            break
        await asyncio.sleep(consuming)
    errors = [at for at, item in enumerate(items) if isinstance(item, LookupError)]
    until = errors[0] + 1 if errors else len(items)
    assert given == items[: min(until, leave_after)]
