import asyncio
import concurrent.futures
import contextlib
import gc
import itertools
import weakref
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leftovers import all_blocked, leaves_nothing

from marketplace_async.fanout import FanOut, Outcome


class Calls:
    """A function to fan out; each of its calls ends when the test says so."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.running: list[Any] = []
        self._ends: dict[Any, asyncio.Future[str]] = {}

    async def __call__(self, input_: Any) -> str:
        self.started.append(input_)
        self.running.append(input_)
        try:
            return await self._end(input_)
        finally:
            self.running.remove(input_)

    def end(self, *inputs: Any) -> None:
        for input_ in inputs:
            self._end(input_).set_result(f"value of {input_}")

    def fail(self, input_: Any, error: Exception) -> None:
        self._end(input_).set_exception(error)

    def _end(self, input_: Any) -> asyncio.Future[str]:
        return self._ends.setdefault(input_, asyncio.get_running_loop().create_future())


class Source:
    """An asynchronous input that counts what was taken from it, and knows who closed it."""

    def __init__(self, inputs: Iterable[Any]) -> None:
        self._inputs = iter(inputs)
        self.taken = 0
        self.closed = 0

    def __aiter__(self) -> "Source":
        return self

    async def __anext__(self) -> Any:
        for input_ in self._inputs:
            self.taken += 1
            return input_
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


def numbers() -> Iterator[int]:
    """All of them: no test takes more than there is room for."""
    number = 0
    while True:
        yield number
        number += 1


async def double(number: int) -> int:
    return 2 * number


async def never(_: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def inputs_of(outcomes: AsyncIterable[Outcome[Any, Any]]) -> list[Any]:
    return [outcome.input async for outcome in outcomes]


# The outcomes


def test_an_outcome_gives_its_value_or_raises_its_error() -> None:
    error = LookupError("no such thing")
    assert Outcome(1, None, None).unwrap() is None
    assert Outcome(1, "value", None).unwrap() == "value"
    with pytest.raises(LookupError) as raised:
        Outcome(1, None, error).unwrap()
    assert raised.value is error


def test_an_outcome_is_a_plain_value() -> None:
    outcome = Outcome("input", "value", None)
    assert outcome == Outcome("input", "value", None)
    assert hash(outcome) == hash(Outcome("input", "value", None))
    assert not hasattr(outcome, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        outcome.value = "another"  # type: ignore[misc]  # that is what is tested


@leaves_nothing
async def test_outcomes_come_in_the_order_of_completion() -> None:
    calls = Calls()
    async with FanOut(calls, ["a", "b", "c"], max_in_flight=3) as outcomes:
        await all_blocked()
        for input_ in ("b", "c", "a"):
            calls.end(input_)
            assert await anext(outcomes) == Outcome(input_, f"value of {input_}", None)
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)


async def asynchronous(inputs: Iterable[int]) -> AsyncIterator[int]:
    for input_ in inputs:
        await asyncio.sleep(0)
        yield input_


class Iterables:
    """Neither of these is an iterator itself."""

    class Plain:
        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    class Asynchronous:
        def __aiter__(self) -> AsyncIterator[int]:
            return asynchronous(range(5))


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(lambda: [0, 1, 2, 3, 4], id="list"),
        pytest.param(lambda: (number for number in range(5)), id="generator"),
        pytest.param(Iterables.Plain, id="iterable"),
        pytest.param(lambda: asynchronous(range(5)), id="async generator"),
        pytest.param(lambda: Source(range(5)), id="async iterator"),
        pytest.param(Iterables.Asynchronous, id="async iterable"),
    ],
)
@pytest.mark.parametrize("max_in_flight", [1, 2, 5, 100])
@leaves_nothing
async def test_any_iterable_and_any_async_iterable_serves_as_input(
    inputs: Callable[[], Iterable[int] | AsyncIterable[int]], max_in_flight: int
) -> None:
    outcomes = [o async for o in FanOut(double, inputs(), max_in_flight=max_in_flight)]
    assert sorted((o.input, o.unwrap()) for o in outcomes) == [(n, 2 * n) for n in range(5)]


@leaves_nothing
async def test_no_input_is_no_outcome() -> None:
    assert await inputs_of(FanOut(double, [], max_in_flight=3)) == []


@leaves_nothing
async def test_equal_inputs_are_each_answered() -> None:
    assert await inputs_of(FanOut(double, [7, 7, 7, 8, 7], max_in_flight=2)) == [7, 7, 7, 8, 7]


@leaves_nothing
async def test_an_input_that_fails_yields_its_error_and_costs_none_of_the_others() -> None:
    calls = Calls()
    error = ValueError("of b")
    async with FanOut(calls, ["a", "b", "c", "d"], max_in_flight=2) as outcomes:
        calls.fail("b", error)
        assert await anext(outcomes) == Outcome("b", None, error)
        await all_blocked()
        assert calls.running == ["a", "c"]
        calls.end("a", "c", "d")
        assert await inputs_of(outcomes) == ["a", "c", "d"]


@leaves_nothing
async def test_what_a_function_raises_before_it_can_be_awaited_is_an_error_as_any_other() -> None:
    def function(number: int) -> Any:
        return double(10 // number) if number < 3 else number

    outcomes = {o.input: o async for o in FanOut(function, range(4), max_in_flight=4)}
    assert outcomes[1].unwrap() == 20
    assert outcomes[2].unwrap() == 10
    assert isinstance(outcomes[0].error, ZeroDivisionError)
    assert isinstance(outcomes[3].error, TypeError)


@leaves_nothing
async def test_a_call_that_is_cancelled_from_within_is_an_outcome_and_cancels_nobody() -> None:
    async def function(number: int) -> int:
        if number == 1:
            somebody = asyncio.ensure_future(never(number))
            asyncio.get_running_loop().call_soon(somebody.cancel)
            await somebody
        if number == 2:
            raise asyncio.CancelledError
        if number == 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await all_blocked()
        return number

    outcomes = {o.input: o async for o in FanOut(function, range(6), max_in_flight=2)}
    assert sorted(outcomes) == [0, 1, 2, 3, 4, 5]
    for number in (1, 2, 3):
        with pytest.raises(concurrent.futures.CancelledError):
            outcomes[number].unwrap()
    assert [outcomes[number].unwrap() for number in (0, 4, 5)] == [0, 4, 5]


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4])
@leaves_nothing
async def test_a_call_whose_task_somebody_cancels_is_an_outcome_even_before_it_begins(
    turns: int,
) -> None:
    calls = Calls()
    async with FanOut(calls, ["a", "b"], max_in_flight=2) as outcomes:
        before = asyncio.all_tasks()
        while len(asyncio.all_tasks()) < len(before) + 2:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in asyncio.all_tasks() - before:
            call.cancel()
        cancelled = [outcome async for outcome in outcomes]
    assert sorted(o.input for o in cancelled) == ["a", "b"]
    assert all(isinstance(o.error, concurrent.futures.CancelledError) for o in cancelled)


@leaves_nothing
async def test_an_error_of_the_inputs_is_raised_behind_the_outcomes_under_way() -> None:
    def inputs() -> Iterator[str]:
        yield "a"
        yield "b"
        raise LookupError("the inputs are broken")

    calls = Calls()
    async with FanOut(calls, inputs(), max_in_flight=9) as outcomes:
        await all_blocked()
        calls.end("b", "a")
        assert [(await anext(outcomes)).input for _ in range(2)] == ["b", "a"]
        for _ in range(2):  # not the end of a complete run, however often one asks
            with pytest.raises(LookupError, match="the inputs are broken"):
                await anext(outcomes)


@leaves_nothing
async def test_inputs_that_are_cancelled_from_within_cancel_nobody() -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    outcomes = FanOut(double, inputs(), max_in_flight=9)
    assert (await anext(outcomes)).unwrap() == 2
    with pytest.raises(concurrent.futures.CancelledError):
        await anext(outcomes)


@leaves_nothing
async def test_inputs_in_which_a_task_group_fails_go_on() -> None:
    async def broken() -> None:
        await asyncio.sleep(0)
        raise LookupError("broken")

    async def inputs() -> AsyncIterator[int]:
        for number in range(5):
            with contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(broken())
            yield number

    async with FanOut(double, inputs(), max_in_flight=2) as outcomes:
        assert {outcome.unwrap() async for outcome in outcomes} == {0, 2, 4, 6, 8}


@leaves_nothing
async def test_when_somebody_cancels_all_tasks_the_outcomes_do_not_just_end() -> None:
    calls = Calls()
    async with FanOut(calls, numbers(), max_in_flight=2) as outcomes:
        await all_blocked()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for _ in range(2):
            assert isinstance((await anext(outcomes)).error, concurrent.futures.CancelledError)
        with pytest.raises(concurrent.futures.CancelledError):
            await anext(outcomes)


# The bounds


@pytest.mark.parametrize("max_in_flight", [1, 2, 7])
@leaves_nothing
async def test_inputs_are_taken_only_as_outcomes_are(max_in_flight: int) -> None:
    source = Source(numbers())
    calls = Calls()
    async with FanOut(calls, source, max_in_flight=max_in_flight) as outcomes:
        for consumed in range(20):
            await all_blocked()
            assert source.taken == len(calls.started) == consumed + max_in_flight
            assert len(calls.running) == max_in_flight
            calls.end(consumed)
            await anext(outcomes)


@leaves_nothing
async def test_outcomes_that_wait_for_a_slow_consumer_count_as_in_flight() -> None:
    source = Source(numbers())
    calls = Calls()
    async with FanOut(calls, source, max_in_flight=3) as outcomes:
        await all_blocked()
        calls.end(0, 1, 2)
        await all_blocked()
        assert (calls.running, source.taken) == ([], 3)
        await anext(outcomes)
        await all_blocked()
        assert (calls.running, source.taken) == ([3], 4)


@leaves_nothing
async def test_memory_holds_what_is_in_flight_however_many_inputs_there_are() -> None:
    class Thing:
        pass

    alive: weakref.WeakSet[Thing] = weakref.WeakSet()
    most = 0

    def things() -> Iterator[Thing]:
        for _ in range(2000):
            thing = Thing()
            alive.add(thing)
            yield thing

    async def function(_: Thing) -> Thing:
        value = Thing()
        alive.add(value)
        return value

    async for _ in FanOut(function, things(), max_in_flight=10):
        most = max(most, len(alive))
    # Input and value of ten in flight; of the one at hand, and the last in a callback or frame.
    assert 10 <= most <= 2 * 10 + 6


@pytest.mark.parametrize("max_in_flight", [0, -1])
def test_at_least_one_is_in_flight(max_in_flight: int) -> None:
    with pytest.raises(ValueError, match="max_in_flight must be at least 1"):
        FanOut(double, [], max_in_flight=max_in_flight)


@pytest.mark.parametrize("max_in_flight", [1.5, "2", True, None])
def test_max_in_flight_is_a_whole_number(max_in_flight: Any) -> None:
    with pytest.raises(TypeError, match="max_in_flight must be a whole number"):
        FanOut(double, [], max_in_flight=max_in_flight)


def test_what_cannot_be_iterated_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        FanOut(double, 5, max_in_flight=1)  # type: ignore[arg-type]  # that is what is tested


# The beginning


def test_a_fan_out_is_made_without_an_event_loop() -> None:
    outcomes = FanOut(double, [1, 2], max_in_flight=2)
    assert asyncio.run(inputs_of(outcomes)) == [1, 2]


@leaves_nothing
async def test_nothing_begins_before_the_first_outcome_is_asked_for() -> None:
    source = Source(numbers())
    outcomes = FanOut(never, source, max_in_flight=2)
    assert aiter(outcomes) is outcomes
    await all_blocked()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert source.taken == 0


@leaves_nothing
async def test_entering_gives_the_fan_out_itself_and_begins() -> None:
    calls = Calls()
    outcomes = FanOut(calls, numbers(), max_in_flight=2)
    async with outcomes as entered:
        assert entered is outcomes
        await all_blocked()
        assert calls.running == [0, 1]


variable: ContextVar[str] = ContextVar("variable", default="default")


@pytest.mark.parametrize("entered", [True, False])
@leaves_nothing
async def test_calls_have_the_context_of_where_the_work_began_each_its_own(
    *, entered: bool
) -> None:
    async def inputs() -> AsyncIterator[int]:
        for number in range(4):
            variable.set("set by the inputs")
            yield number

    async def function(number: int) -> str:
        seen = variable.get()
        variable.set(f"set by call {number}")
        return seen

    variable.set("where it was made")
    outcomes = FanOut(function, inputs(), max_in_flight=2)
    variable.set("where it began")
    async with outcomes if entered else contextlib.nullcontext():
        first = await anext(outcomes)
        variable.set("later")
        seen = [first.unwrap()] + [outcome.unwrap() async for outcome in outcomes]
    assert seen == ["where it began"] * 4


@leaves_nothing
async def test_async_inputs_are_read_and_closed_in_one_task() -> None:
    tasks = set[asyncio.Task[Any] | None]()

    async def inputs() -> AsyncIterator[int]:
        token = variable.set("within")  # can be reset in the same context only
        try:
            # A time-out ends the task that entered it, and must be left in the same.
            async with asyncio.timeout(1000):
                for number in numbers():
                    tasks.add(asyncio.current_task())
                    yield number
        finally:
            variable.reset(token)
            tasks.add(asyncio.current_task())

    async with FanOut(double, inputs(), max_in_flight=3) as outcomes:
        for _ in range(10):
            await anext(outcomes)
    assert len(tasks) == 1


eager_tasks = getattr(asyncio, "eager_task_factory", None)


@pytest.mark.skipif(eager_tasks is None, reason="eager tasks came with Python 3.12")
@leaves_nothing
async def test_eager_tasks_serve_as_well() -> None:
    asyncio.get_running_loop().set_task_factory(eager_tasks)
    assert await inputs_of(FanOut(double, range(10), max_in_flight=3)) == list(range(10))
    calls = Calls()
    async with FanOut(calls, Source(numbers()), max_in_flight=3) as outcomes:
        calls.end(0)
        assert (await anext(outcomes)).input == 0
    assert calls.running == []


# The end


class LeavingError(Exception):
    """A reason to leave."""


async def leave_by_break(outcomes: FanOut[int, str]) -> None:
    async with outcomes:
        async for _ in outcomes:
            break


async def leave_by_an_exception(outcomes: FanOut[int, str]) -> None:
    async def consume() -> None:
        async with outcomes:
            async for _ in outcomes:
                raise LeavingError

    with pytest.raises(LeavingError):
        await consume()


async def leave_by_cancellation(outcomes: FanOut[int, str]) -> None:
    async def consume() -> None:
        async with outcomes:
            async for _ in outcomes:
                pass

    consumer = asyncio.create_task(consume())
    await all_blocked()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def leave_by_a_timeout(outcomes: FanOut[int, str]) -> None:
    async def consume() -> None:
        async with asyncio.timeout(10), outcomes:
            async for _ in outcomes:
                pass

    with pytest.raises(TimeoutError):
        await consume()


async def leave_before_the_first_step(outcomes: FanOut[int, str]) -> None:
    async with outcomes:
        pass


async def close(outcomes: FanOut[int, str]) -> None:
    await anext(outcomes)
    await outcomes.aclose()


async def close_before_use(outcomes: FanOut[int, str]) -> None:
    await outcomes.aclose()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_an_exception,
        leave_by_cancellation,
        leave_by_a_timeout,
        leave_before_the_first_step,
        close,
        close_before_use,
    ],
)
@leaves_nothing
async def test_leaving_ends_every_task_closes_the_inputs_and_ends_the_outcomes(leave: Any) -> None:
    calls = Calls()
    source = Source(numbers())
    calls.end(1)
    outcomes = FanOut(calls, source, max_in_flight=3)
    await leave(outcomes)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert calls.running == []
    assert source.closed == 1
    with pytest.raises(StopAsyncIteration):
        await anext(outcomes)
    async with outcomes:  # begins nothing
        assert asyncio.all_tasks() == {asyncio.current_task()}
    await outcomes.aclose()
    assert source.closed == 1


@leaves_nothing
async def test_inputs_are_closed_when_all_are_answered_too() -> None:
    source = Source(range(3))
    outcomes = FanOut(double, source, max_in_flight=2)
    await inputs_of(outcomes)
    assert source.closed == 1
    await outcomes.aclose()
    assert source.closed == 1


class Stubborn(Calls):
    """Whose calls ignore that they are cancelled, until they are ended."""

    async def __call__(self, input_: Any) -> str:
        call = asyncio.ensure_future(super().__call__(input_))
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(call)
        return call.result()


@leaves_nothing
async def test_leaving_waits_for_calls_that_ignore_their_cancellation() -> None:
    calls = Stubborn()
    outcomes = FanOut(calls, ["a", "b"], max_in_flight=2)
    async with outcomes:
        await all_blocked()
        asyncio.get_running_loop().call_later(100, calls.end, "a", "b")
    assert calls.running == []
    with pytest.raises(StopAsyncIteration):
        await anext(outcomes)


@leaves_nothing
async def test_leaving_waits_even_when_it_is_cancelled_again_and_again() -> None:
    calls = Stubborn()

    async def consume() -> None:
        try:
            async with FanOut(calls, ["a", "b"], max_in_flight=2) as outcomes:
                await anext(outcomes)
        finally:
            assert calls.running == []

    consumer = asyncio.create_task(consume())
    for _ in range(3):
        await all_blocked()
        consumer.cancel()
    await all_blocked()
    assert not consumer.done()
    calls.end("a", "b")
    with pytest.raises(asyncio.CancelledError):
        await consumer


@leaves_nothing
async def test_inputs_that_swallow_a_cancellation_end_nevertheless() -> None:
    async def inputs() -> AsyncIterator[int]:
        for number in numbers():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
            yield number

    calls = Calls()
    async with FanOut(calls, inputs(), max_in_flight=5):
        await asyncio.sleep(12)
    assert calls.started == [0, 1]


@leaves_nothing
async def test_inputs_that_end_when_they_are_cancelled_leave_no_call_behind() -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        with contextlib.suppress(asyncio.CancelledError):
            await never(0)

    calls = Calls()
    async with FanOut(calls, inputs(), max_in_flight=5):
        await all_blocked()
    assert (calls.started, calls.running) == ([0], [])


@leaves_nothing
async def test_closing_from_another_task_ends_the_outcomes_of_all_who_wait() -> None:
    outcomes = FanOut(never, numbers(), max_in_flight=2)
    consumers = [asyncio.create_task(inputs_of(outcomes)) for _ in range(3)]
    await all_blocked()
    await asyncio.gather(outcomes.aclose(), outcomes.aclose())
    assert await asyncio.gather(*consumers) == [[], [], []]


@leaves_nothing
async def test_no_outcome_is_given_after_closing_has_begun() -> None:
    calls = Stubborn()
    outcomes = FanOut(calls, ["a", "b", "c"], max_in_flight=2)
    consumer = asyncio.create_task(inputs_of(outcomes))
    await all_blocked()
    closing = asyncio.create_task(outcomes.aclose())
    await all_blocked()
    calls.end("a")
    await all_blocked()
    assert not closing.done()
    calls.end("b")
    await closing
    assert await consumer == []
    assert calls.started == ["a", "b"]


@leaves_nothing
async def test_a_call_may_close_its_own_fan_out() -> None:
    async def function(number: int) -> None:
        if number == 2:
            await outcomes.aclose()
        await never(number)

    outcomes = FanOut(function, numbers(), max_in_flight=5)
    assert await inputs_of(outcomes) == []
    await outcomes.aclose()


@leaves_nothing
async def test_inputs_may_close_their_own_fan_out() -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        await outcomes.aclose()
        yield 1

    outcomes = FanOut(never, inputs(), max_in_flight=5)
    assert await inputs_of(outcomes) == []
    await outcomes.aclose()


@leaves_nothing
async def test_an_error_in_closing_the_inputs_is_raised_where_they_are_closed() -> None:
    async def inputs() -> AsyncIterator[int]:
        try:
            for number in numbers():
                yield number
        finally:
            raise LeavingError

    outcomes = FanOut(double, inputs(), max_in_flight=2)
    await anext(outcomes)
    with pytest.raises(LeavingError):
        await outcomes.aclose()
    await outcomes.aclose()


@leaves_nothing
async def test_an_error_in_closing_the_inputs_of_a_dropped_fan_out_is_logged() -> None:
    async def inputs() -> AsyncIterator[int]:
        try:
            for number in numbers():
                yield number
        finally:
            raise LeavingError

    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
    async for _ in FanOut(double, inputs(), max_in_flight=2):
        break
    await all_blocked()
    gc.collect()
    loop.set_exception_handler(before)
    (complaint,) = complaints
    assert isinstance(complaint["exception"], LeavingError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_ends_the_event_loop_and_the_consumer_leaves_in_order(
    kind: type[BaseException],
) -> None:
    calls = Calls()
    left: list[list[int]] = []

    async def function(number: int) -> None:
        if number == 2:
            raise kind
        await calls(number)

    async def consume() -> None:
        try:
            async with FanOut(function, numbers(), max_in_flight=5) as outcomes:
                await anext(outcomes)
        finally:
            left.append(list(calls.running))

    with pytest.raises(kind):
        asyncio.run(consume(), debug=True)
    assert calls.started
    assert left == [[]]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_raised_by_the_inputs_reaches_the_consumer(kind: type[BaseException]) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise kind

    with pytest.raises(kind):
        asyncio.run(inputs_of(FanOut(double, inputs(), max_in_flight=5)), debug=True)


@leaves_nothing
async def test_a_base_exception_of_a_call_ends_the_fan_out_as_it_ends_a_task_group() -> None:
    class Exit(BaseException):
        pass

    async def function(number: int) -> None:
        if number == 2:
            raise Exit
        await never(number)

    with pytest.raises(BaseExceptionGroup) as raised:
        await inputs_of(FanOut(function, numbers(), max_in_flight=5))
    assert [type(error) for error in raised.value.exceptions] == [Exit]


# Dropped in a plain async for


@leaves_nothing
async def test_break_in_a_plain_async_for_leaves_nothing_behind() -> None:
    calls = Calls()
    source = Source(numbers())
    calls.end(1)
    async for outcome in FanOut(calls, source, max_in_flight=3):
        assert outcome.input == 1
        break
    await all_blocked()
    assert (calls.running, source.closed) == ([], 1)


@leaves_nothing
async def test_an_exception_in_a_plain_async_for_leaves_nothing_behind_even_when_kept() -> None:
    calls = Calls()
    source = Source(numbers())
    calls.end(1)

    async def consume() -> None:
        async for _ in FanOut(calls, source, max_in_flight=3):
            raise LeavingError

    with pytest.raises(LeavingError) as kept:
        await consume()
    await all_blocked()
    assert kept.value.__traceback__ is not None
    assert (calls.running, source.closed) == ([], 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@leaves_nothing
async def test_cancellation_in_a_plain_async_for_leaves_nothing_behind_even_when_kept() -> None:
    calls = Calls()
    source = Source(numbers())

    async def consume() -> None:
        async for _ in FanOut(calls, source, max_in_flight=3):
            pass

    consumer = asyncio.create_task(consume())
    await all_blocked()
    consumer.cancel()
    (kept,) = await asyncio.gather(consumer, return_exceptions=True)
    await all_blocked()
    assert isinstance(kept, asyncio.CancelledError)
    assert (calls.running, source.closed) == ([], 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@leaves_nothing
async def test_a_fan_out_kept_in_a_variable_goes_on() -> None:
    outcomes = FanOut(double, range(5), max_in_flight=2)
    async for outcome in outcomes:
        assert outcome.input == 0
        break
    gc.collect()
    await all_blocked()
    assert await inputs_of(outcomes) == [1, 2, 3, 4]


@leaves_nothing
async def test_one_outcome_can_be_awaited_of_a_fan_out_that_nobody_keeps() -> None:
    assert (await anext(FanOut(double, numbers(), max_in_flight=3))).unwrap() == 0


@leaves_nothing
async def test_a_fan_out_in_a_cycle_of_garbage_ends_when_it_is_collected() -> None:
    class Node:
        pass

    source = Source(numbers())

    async def make_garbage() -> None:
        node: Any = Node()
        node.itself = node
        node.outcomes = FanOut(double, source, max_in_flight=3)
        await anext(node.outcomes)
        await all_blocked()  # no call runs: nothing but the garbage knows the task

    gc.disable()
    try:
        await make_garbage()
        assert len(asyncio.all_tasks()) == 2
        gc.collect()
        await all_blocked()
    finally:
        gc.enable()
    assert source.closed == 1


async def test_a_fan_out_may_be_collected_in_another_thread() -> None:
    source = Source(numbers())
    kept = [FanOut(never, source, max_in_flight=3)]
    consumer = asyncio.create_task(anext(kept[0]))
    while source.taken < 3:
        await asyncio.sleep(0)
    consumer.cancel()
    await asyncio.wait([consumer])
    await asyncio.to_thread(kept.clear)
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    assert source.closed == 1


def test_a_fan_out_may_be_collected_when_its_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()
    outcomes = FanOut(double, numbers(), max_in_flight=3)
    loop.run_until_complete(anext(outcomes))
    loop.close()
    gone = weakref.ref(outcomes)
    del outcomes
    gc.collect()
    assert gone() is None


def test_asyncio_run_ends_a_fan_out_that_is_left_at_the_last_moment() -> None:
    source = Source(numbers())

    async def main() -> None:
        async for _ in FanOut(double, source, max_in_flight=3):
            break

    asyncio.run(main(), debug=True)
    assert source.closed == 1


# The consumers


@leaves_nothing
async def test_a_timeout_around_the_next_outcome_loses_none() -> None:
    calls = Calls()
    async with FanOut(calls, ["a", "b"], max_in_flight=2) as outcomes:
        for input_ in ("a", "b"):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(5):
                        await anext(outcomes)
            calls.end(input_)
            assert (await anext(outcomes)).input == input_


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("others", [0, 1])
@leaves_nothing
async def test_cancelling_a_consumer_at_any_moment_loses_no_outcome(
    turns: int, others: int
) -> None:
    calls = Calls()
    async with FanOut(calls, ["a", "b", "c"], max_in_flight=3) as outcomes:
        consumer = asyncio.create_task(anext(outcomes))
        waiting = [asyncio.create_task(inputs_of(outcomes)) for _ in range(others)]
        await all_blocked()
        calls.end("a", "b", "c")
        for _ in range(turns):
            await asyncio.sleep(0)
        consumer.cancel()
        await asyncio.wait([consumer])
        taken = [] if consumer.cancelled() else [consumer.result().input]
        taken += await inputs_of(outcomes)
        taken += [input_ for task in waiting for input_ in await task]
    assert sorted(taken) == ["a", "b", "c"]


@leaves_nothing
async def test_several_consumers_share_the_outcomes() -> None:
    async with FanOut(double, range(100), max_in_flight=7) as outcomes:
        shares = await asyncio.gather(*(inputs_of(outcomes) for _ in range(4)))
    assert sorted(itertools.chain(*shares)) == list(range(100))


@leaves_nothing
async def test_every_one_of_several_consumers_hears_that_the_inputs_failed() -> None:
    def inputs() -> Iterator[int]:
        yield 0
        raise LookupError

    async with FanOut(double, inputs(), max_in_flight=7) as outcomes:
        consumers = [inputs_of(outcomes) for _ in range(4)]
        results = await asyncio.gather(*consumers, return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 4


# At random


@attrs.frozen
class Plan:
    """What becomes of a call: how long it takes, and how it ends."""

    seconds: float
    end: str


seconds = st.sampled_from([0, 1, 2, 3, 5])
plans = st.builds(Plan, seconds, st.sampled_from(["value", "value", "error", "cancelled"]))


class Planned:
    """Calls that go as planned, and are counted."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def __call__(self, plan: Plan) -> Plan:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(plan.seconds)
            if plan.end == "error":
                raise LookupError
            if plan.end == "cancelled":
                raise asyncio.CancelledError
            return plan
        finally:
            self.running -= 1


@attrs.frozen
class Pace:
    """What a consumer does: how long it works on an outcome, and how long it waits for one."""

    seconds: float
    patience: float | None


paces = st.builds(Pace, seconds, st.none() | st.sampled_from([0, 1, 2]))


async def consume(
    outcomes: FanOut[Plan, Plan], pace: Pace, taken: list[Outcome[Plan, Plan]]
) -> None:
    while True:
        try:
            async with asyncio.timeout(pace.patience):
                taken.append(await anext(outcomes))
        except TimeoutError:
            await asyncio.sleep(1)
        except StopAsyncIteration:
            return
        await asyncio.sleep(pace.seconds)


async def arriving(inputs: list[tuple[float, Plan]]) -> AsyncIterator[Plan]:
    for delay, plan in inputs:
        await asyncio.sleep(delay)
        yield plan


inputs = st.lists(st.tuples(seconds, plans), max_size=30)


@given(
    inputs,
    st.integers(1, 8),
    st.lists(paces, min_size=1, max_size=3),
    st.sampled_from(["list", "async"]),
)
@leaves_nothing
async def test_each_input_is_answered_exactly_once_whatever_happens(
    inputs: list[tuple[float, Plan]], max_in_flight: int, paces: list[Pace], kind: str
) -> None:
    function = Planned()
    plans = [plan for _, plan in inputs]
    source = plans if kind == "list" else arriving(inputs)
    taken: list[Outcome[Plan, Plan]] = []
    outcomes = FanOut(function, source, max_in_flight=max_in_flight)
    await asyncio.gather(*(consume(outcomes, pace, taken) for pace in paces))
    assert Counter(outcome.input for outcome in taken) == Counter(plans)
    assert function.most <= max_in_flight
    errors = {"error": LookupError, "cancelled": concurrent.futures.CancelledError}
    for outcome in taken:
        if outcome.input.end == "value":
            assert outcome.unwrap() == outcome.input
        else:
            assert type(outcome.error) is errors[outcome.input.end]


@given(inputs, st.integers(1, 8), st.lists(paces, min_size=1, max_size=3), st.integers(0, 20))
@leaves_nothing
async def test_leaving_at_any_moment_answers_nothing_twice_and_leaves_nothing_running(
    inputs: list[tuple[float, Plan]], max_in_flight: int, paces: list[Pace], end: int
) -> None:
    function = Planned()
    taken: list[Outcome[Plan, Plan]] = []
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(end / 2),
            FanOut(function, arriving(inputs), max_in_flight=max_in_flight) as outcomes,
        ):
            await asyncio.gather(*(consume(outcomes, pace, taken) for pace in paces))
    assert function.running == 0
    assert not Counter(o.input for o in taken) - Counter(plan for _, plan in inputs)
    assert len(asyncio.all_tasks()) == 1
