import asyncio
import contextlib
import math
import sys
from collections.abc import Coroutine
from typing import Any

import pytest
from virtual_time import VirtualTimeLoop, in_virtual_time

from marketplace_async.deadlines import Deadlines, Expired, Watch


def deadlines(seconds: float = 10.0) -> Deadlines:
    return Deadlines(seconds, asyncio.get_running_loop())


def now() -> float:
    return asyncio.get_running_loop().time()


async def watched(deadlines: Deadlines, seconds: float = math.inf) -> str:
    """What became of a block of that length, and when."""
    try:
        with Watch(deadlines):
            if seconds == math.inf:
                await asyncio.get_running_loop().create_future()
            else:
                await asyncio.sleep(seconds)
    except Expired:
        return f"expired at {now():g}"
    return f"done at {now():g}"


def start(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(coroutine)


def timers(deadlines: Deadlines) -> list[float]:
    assert isinstance(deadlines.loop, VirtualTimeLoop)
    return deadlines.loop.timers()


@in_virtual_time
async def test_a_block_that_ends_in_time_gives_its_result_and_is_not_expired() -> None:
    limits = deadlines()
    with Watch(limits) as watch:
        await asyncio.sleep(9.999)
    assert not watch.expired
    assert not limits.watches


@in_virtual_time
async def test_a_block_that_takes_too_long_ends_at_its_time_with_expired() -> None:
    assert await watched(deadlines(10), 10.001) == "expired at 10"


@in_virtual_time
async def test_a_watch_says_how_much_of_its_time_is_over_and_how_much_is_left() -> None:
    await asyncio.sleep(3)
    with Watch(deadlines(10)) as watch:
        assert (watch.elapsed, watch.left) == (0, 10)
        await asyncio.sleep(1)
        assert (watch.elapsed, watch.left, watch.when) == (1, 9, 13)


@in_virtual_time
async def test_after_expiring_the_task_is_not_being_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    assert await watched(deadlines(), 20) == "expired at 10"
    assert task.cancelling() == 0
    await asyncio.sleep(1)


@in_virtual_time
async def test_blocks_expire_each_at_its_own_time_in_the_order_in_which_they_began() -> None:
    limits, ended = deadlines(10), list[tuple[int, str]]()

    async def block(number: int) -> None:
        ended.append((number, await watched(limits, 100)))

    tasks: list[asyncio.Task[Any]] = []
    for number in range(5):
        tasks.append(start(block(number)))
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)
    assert ended == [(number, f"expired at {10 + number / 2:g}") for number in range(5)]


@in_virtual_time
async def test_blocks_that_end_early_leave_those_between_them_their_own_times() -> None:
    limits = deadlines(10)
    tasks: list[asyncio.Task[str]] = []
    for seconds in (100, 2, 100, 1, 9.9, 100):
        tasks.append(start(watched(limits, seconds)))
        await asyncio.sleep(1)
    assert await asyncio.gather(*tasks) == [
        "expired at 10",
        "done at 3",
        "expired at 12",
        "done at 4",
        "done at 13.9",
        "expired at 15",
    ]


@in_virtual_time
async def test_the_oldest_ending_early_does_not_let_the_next_expire_early_or_late() -> None:
    limits = deadlines(10)
    oldest = start(watched(limits, 5))
    await asyncio.sleep(4)
    next_one = start(watched(limits))
    assert await oldest == "done at 5"
    assert await next_one == "expired at 14"


@in_virtual_time
async def test_a_block_that_begins_after_all_others_ended_is_timed_as_well() -> None:
    limits = deadlines(10)
    assert await watched(limits, 1) == "done at 1"
    assert await watched(limits) == "expired at 11"
    await asyncio.sleep(100)
    assert await watched(limits) == "expired at 121"


@in_virtual_time
async def test_ten_thousand_blocks_use_one_timer() -> None:
    limits = deadlines(10)
    with contextlib.ExitStack() as stack:
        for _ in range(10_000):
            stack.enter_context(Watch(limits))
        assert len(limits.watches) == 10_000
        assert timers(limits) == [10]


@in_virtual_time
async def test_hundreds_that_are_due_together_expire_together() -> None:
    limits = deadlines(10)
    tasks = [start(watched(limits)) for _ in range(500)]
    assert await asyncio.gather(*tasks) == ["expired at 10"] * 500
    assert timers(limits) == []


@in_virtual_time
async def test_a_timer_that_finds_nothing_to_do_is_not_set_again() -> None:
    limits = deadlines(10)
    await watched(limits, 1)
    assert timers(limits) == [10]
    await asyncio.sleep(10)
    assert timers(limits) == []


@in_virtual_time
async def test_closing_ends_all_blocks_at_once_and_leaves_no_timer() -> None:
    limits = deadlines(10)
    tasks = [start(watched(limits)) for _ in range(3)]
    await asyncio.sleep(2)
    before = limits.closed
    limits.close()
    assert await asyncio.gather(*tasks) == ["expired at 2"] * 3
    assert (before, limits.closed) == (False, True)
    assert timers(limits) == []


@in_virtual_time
async def test_closing_with_nothing_under_way_is_fine() -> None:
    limits = deadlines()
    limits.close()
    assert limits.closed


@in_virtual_time
async def test_a_block_that_begins_after_closing_is_timed_all_the_same() -> None:
    limits = deadlines(10)
    early = start(watched(limits))
    await asyncio.sleep(1)
    limits.close()
    assert await early == "expired at 1"
    assert await watched(limits) == "expired at 11"


@in_virtual_time
async def test_closing_twice_is_not_taken_for_a_cancellation_by_somebody_else() -> None:
    limits = deadlines(10)
    task = start(watched(limits))
    await asyncio.sleep(1)
    limits.close()
    limits.close()
    assert await task == "expired at 1"


@in_virtual_time
async def test_a_block_that_expires_and_is_closed_in_one_tick_just_expires() -> None:
    limits = deadlines(10)
    task = start(watched(limits))
    await asyncio.sleep(1)
    limits.loop.call_at(10, limits.close)
    assert await task == "expired at 10"


@in_virtual_time
async def test_a_cancellation_from_outside_stays_one() -> None:
    limits = deadlines(10)
    task = start(watched(limits))
    await asyncio.sleep(5)
    task.cancel("by the user")
    with pytest.raises(asyncio.CancelledError, match="by the user"):
        await task
    assert not limits.watches


@in_virtual_time
@pytest.mark.parametrize("first", ["cancelled", "expired"])
async def test_a_cancellation_from_outside_wins_in_the_tick_of_the_expiry(first: str) -> None:
    limits = deadlines(10)
    task = start(watched(limits))
    if first == "expired":
        await asyncio.sleep(1)  # by now the block has begun and set its timer
    limits.loop.call_at(10, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


@in_virtual_time
async def test_a_time_out_of_asyncio_around_it_that_is_shorter_wins() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await watched(deadlines(10), 100)
    assert now() == 4


@in_virtual_time
async def test_a_time_out_of_asyncio_inside_it_that_is_shorter_stays_a_timeout_error() -> None:
    with pytest.raises(TimeoutError), Watch(deadlines(10)):
        async with asyncio.timeout(4):
            await asyncio.sleep(100)


@in_virtual_time
async def test_an_inner_block_expires_alone_when_it_is_due_first() -> None:
    outer, inner = deadlines(10), deadlines(3)
    with Watch(outer) as call:
        assert await watched(inner) == "expired at 3"
        assert await watched(inner) == "expired at 6"
    assert not call.expired


@in_virtual_time
async def test_an_outer_block_that_is_due_first_ends_the_inner_one_too() -> None:
    outer, inner = deadlines(3), deadlines(10)
    with pytest.raises(Expired), Watch(outer) as call:
        assert await watched(inner) == "not reached"
    assert call.expired
    assert now() == 3
    assert not inner.watches


@in_virtual_time
async def test_when_both_are_due_in_one_tick_the_outer_block_expires() -> None:
    outer, inner = deadlines(10), deadlines(10)
    with pytest.raises(Expired), Watch(outer) as call, Watch(inner) as attempt:
        await asyncio.sleep(100)
    assert call.expired
    assert attempt.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_virtual_time
async def test_nested_blocks_that_are_closed_together_end_in_one_expired() -> None:
    outer, inner = deadlines(), deadlines()

    async def nested() -> None:
        with Watch(outer):
            await watched(inner)

    task = start(nested())
    await asyncio.sleep(1)
    outer.close()
    inner.close()
    with pytest.raises(Expired):
        await task


@in_virtual_time
async def test_an_error_of_the_block_passes_through_also_when_its_time_is_over() -> None:
    async def stubborn() -> None:
        with Watch(deadlines(1)):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise LookupError from None

    task = start(stubborn())
    with pytest.raises(LookupError):
        await task
    assert task.cancelling() == 0


@in_virtual_time
async def test_a_block_that_finishes_its_work_although_cancelled_keeps_its_result() -> None:
    async def stubborn() -> str:
        with Watch(deadlines(1)) as watch:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return f"saved, expired: {watch.expired}"
        return "not reached"

    task = start(stubborn())
    assert await task == "saved, expired: True"
    assert task.cancelling() == 0


@in_virtual_time
async def test_many_blocks_pass_beside_one_that_is_stuck_in_bounded_memory() -> None:
    limits = deadlines(10)
    stuck = start(watched(limits))
    await asyncio.sleep(1)
    sizes: set[int] = set()
    for _ in range(50_000):
        with Watch(limits):
            pass
        sizes.add(sys.getsizeof(limits.watches))
    assert len(limits.watches) == 1
    assert max(sizes) < 10_000
    assert await stuck == "expired at 10"


def test_a_watch_outside_of_a_task_is_refused() -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="task"), Watch(Deadlines(1, loop)):
            pass
    finally:
        loop.close()
