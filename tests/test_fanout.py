"""Fan-outs: outcomes, bounds, pace, and every way to end.

Responses are scripted and time is virtual. Each test must leave no task.
"""

import asyncio
import concurrent.futures
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any, assert_type

import anyio
import attrs
import pytest
from aiolimiter import AsyncLimiter
from leftovers import all_blocked, leaves_nothing
from scripted_api import ADD_ON, FOUND, NEVER, Answer, Request, ScriptedApi, error, fetch, now, page

from marketplace_async import (
    AdaptiveLimiter,
    Failure,
    FanOut,
    MarketplaceSession,
    NotFoundError,
    Outcome,
    SessionClosedError,
    Success,
)

CancelledError = concurrent.futures.CancelledError
opened = ScriptedApi().session  # for functions that send nothing


def server() -> Callable[[Request], Answer]:
    """Return a server that admits two requests at once, of 50 ms, and rejects others."""
    ends: list[float] = []

    def respond(request: Request) -> Answer:
        ends[:] = [end for end in ends if end > request.seconds + 1e-9]
        if len(ends) >= 2:
            return error(429)
        ends.append(request.seconds + 0.05)
        return Answer(FOUND.body, seconds=0.05)

    return respond


async def double(number: int) -> int:
    return 2 * number


async def sleep(seconds: int) -> int:
    return await asyncio.sleep(seconds, seconds)


async def never(_: object) -> None:
    await asyncio.get_running_loop().create_future()


async def slowly(inputs: Iterable[int], seconds: float = 0) -> AsyncIterator[int]:
    for input_ in inputs:
        await asyncio.sleep(seconds)
        yield input_


async def collect(outcomes: FanOut[Any, Any]) -> list[Outcome[Any, Any]]:
    async with outcomes:
        return [outcome async for outcome in outcomes]


async def inputs_of(outcomes: FanOut[Any, Any]) -> list[Any]:
    return [outcome.input async for outcome in outcomes]


def is_idle(session: MarketplaceSession) -> bool:
    return session.statistics().in_flight == session.statistics().waiting == 0


async def check_types(session: MarketplaceSession) -> None:
    session.fan_out(double, ["x"])  # type: ignore[arg-type]
    async with session.fan_out(double, [1]) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Success[int, int] | Failure[int])
            assert_type(outcome.unwrap(), int)
            if outcome.error is None:
                assert_type(outcome.value, int)
            else:
                assert_type(outcome, Failure[int])
            match outcome:
                case Success(input_, value):
                    assert_type((input_, value), tuple[int, int])
                case Failure(input_, problem):
                    assert_type((input_, problem), tuple[int, Exception])


def test_outcome() -> None:
    """An outcome is a frozen value that returns its value or raises its error."""
    success, failed = Success(1, None), Failure(1, LookupError())
    assert (success.unwrap(), success.error, failed.value) == (None, None, None)
    with pytest.raises(LookupError):
        failed.unwrap()
    assert len({success, Success(1, None), failed, attrs.evolve(failed)}) == 2


def test_repr() -> None:
    """The repr of an outcome and of a fan-out is one line."""
    assert repr(Success(1, None)) == "Success(input=1, value=None)"
    assert repr(opened().fan_out(never, ["a"])).startswith("<FanOut of never: 0 inputs started")
    assert repr(opened().fan_out(partial(double), [1])).startswith("<FanOut of partial: 0 ")


@leaves_nothing
async def test_completion_order() -> None:
    """Outcomes come in the order of completion, and do not wait for the next input."""
    async with opened() as session:
        assert await collect(session.fan_out(sleep, [3, 1, 2])) == [
            Success(n, n) for n in (1, 2, 3)
        ]
        async with session.fan_out(double, slowly(range(3), 60)) as outcomes:
            assert [now() async for _ in outcomes] == [63, 123, 183]


@pytest.mark.parametrize("max_in_flight", [1, 3, 500])
@pytest.mark.parametrize("eager", [False, True])
@leaves_nothing
async def test_kinds_of_inputs(max_in_flight: int, *, eager: bool) -> None:
    """Each input of an iterable has exactly one outcome, also if tasks are eager."""
    if eager:  # since Python 3.12
        factory = getattr(asyncio, "eager_task_factory", None)
        asyncio.get_running_loop().set_task_factory(factory)
    async with opened() as session:
        for numbers in ([], [7, 7, 8, 7], range(50)):
            for inputs in (numbers, iter(numbers), slowly(numbers), slowly(numbers, 1)):
                found = await collect(session.fan_out(double, inputs, max_in_flight=max_in_flight))
                assert [(o.input, o.unwrap()) for o in found] == [(n, 2 * n) for n in numbers]


@leaves_nothing
async def test_pager_as_inputs() -> None:
    """A pager is read page by page, and its error is raised after the outcomes."""
    sids = [f"XF{number:032}" for number in range(3)]
    url = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions?Page=1"
    answers = [page(*sids, next_page_url=url), FOUND, FOUND, FOUND]
    async with ScriptedApi(*answers, then=error(404)) as api, api.session() as session:
        pager = session.available_add_ons(ADD_ON).extensions.list()
        async with session.fan_out(lambda _: fetch(session), pager, max_in_flight=3) as outcomes:
            await all_blocked()
            assert [(await anext(outcomes)).input.sid for _ in sids] == sids
            with pytest.raises(NotFoundError):
                await anext(outcomes)


@leaves_nothing
async def test_failures() -> None:
    """If a function raises, is cancelled or cancels itself, only its outcome is a failure."""

    async def function(number: int) -> int:
        if number == 2:
            raise asyncio.CancelledError
        if number in (3, 4) and (task := asyncio.current_task()):
            task.cancel()
            await asyncio.sleep(4 - number)
        return 10 // number

    def start(number: int) -> Any:
        return "not awaitable" if number == 1 else function(number)

    async with opened() as session:
        found = await collect(session.fan_out(start, range(7), max_in_flight=2))
    errors = [type(outcome.error) for outcome in sorted(found, key=lambda each: each.input)]
    no_error = type(None)
    assert errors == [ZeroDivisionError, TypeError, *[CancelledError] * 3, no_error, no_error]


@pytest.mark.parametrize("rounds", range(3))
@leaves_nothing
async def test_task_cancelled(rounds: int) -> None:
    """If the task of an input is cancelled, even before its first step, it has an outcome."""
    async with opened() as session, session.fan_out(never, "abc") as outcomes:
        before = asyncio.all_tasks()
        while len(tasks := asyncio.all_tasks() - before) < 3:
            await asyncio.sleep(0)
        for _ in range(rounds):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        found = [outcome async for outcome in outcomes]
    assert sorted(outcome.input for outcome in found) == ["a", "b", "c"]
    assert all(isinstance(outcome.error, CancelledError) for outcome in found)


@pytest.mark.parametrize("rounds", range(6))
@leaves_nothing
async def test_consumers(rounds: int) -> None:
    """Several consumers share the outcomes; if one is cancelled, no outcome is lost."""
    async with opened() as session, session.fan_out(sleep, [1, 1, 1]) as outcomes:
        consumer = asyncio.create_task(anext(outcomes))
        other = asyncio.create_task(inputs_of(outcomes))
        await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)  # then the functions have ended
        for _ in range(rounds):
            await asyncio.sleep(0)
        consumer.cancel()
        await asyncio.wait([consumer])
        taken = [] if consumer.cancelled() else [consumer.result().input]
        taken += await inputs_of(outcomes) + await other
    assert taken == [1, 1, 1]


@pytest.mark.parametrize("size", [1, 2, 7])
@leaves_nothing
async def test_max_in_flight(size: int) -> None:
    """At most ``max_in_flight`` inputs are taken and not yet consumed, also if they are done."""
    inputs = count()
    async with opened() as session, session.fan_out(sleep, inputs, max_in_flight=size) as outcomes:
        for consumed in range(9):
            await all_blocked()
            assert f": {consumed + size} inputs started" in repr(outcomes)
            await anext(outcomes)
    assert next(inputs) == 8 + size


@pytest.mark.parametrize("raised", [LookupError, asyncio.CancelledError])
@leaves_nothing
async def test_inputs_raise(raised: type[BaseException]) -> None:
    """If the inputs raise or are cancelled, every consumer gets an error after the outcomes."""

    async def inputs() -> AsyncIterator[int]:
        yield 2
        yield 1
        raise raised

    async with opened() as session, session.fan_out(sleep, inputs()) as outcomes:
        assert [(await anext(outcomes)).unwrap() for _ in range(2)] == [1, 2]
        consumers = [inputs_of(outcomes) for _ in range(3)]
        for found in await asyncio.gather(*consumers, return_exceptions=True):
            assert isinstance(found, (LookupError, CancelledError))


@leaves_nothing
async def test_task_group_in_inputs() -> None:
    """If a task group inside the inputs fails, the fan-out goes on, and can be left."""

    async def broken() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def inputs() -> AsyncIterator[int]:
        for number in count():
            with contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(broken())
            yield number

    async with opened() as session, session.fan_out(double, inputs(), max_in_flight=2) as outcomes:
        assert [(await anext(outcomes)).unwrap() for _ in range(5)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("reaction", ["go on", "end", "raise"])
@leaves_nothing
async def test_inputs_swallow_cancel(reaction: str) -> None:
    """If the inputs suppress the cancellation, leaving starts nothing and ends the calls."""

    async def inputs() -> AsyncIterator[int]:
        yield 0
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if reaction == "raise":
                raise LookupError from None
        if reaction == "go on":
            yield 1

    async with opened() as session:
        with pytest.raises(LookupError) if reaction == "raise" else contextlib.nullcontext():
            async with session.fan_out(never, inputs()) as outcomes:
                await all_blocked()
    assert repr(outcomes).startswith("<FanOut of never: 1 inputs started, 1 completed")
    assert now() == 1


class Source:
    """Inputs whose closing takes time and fails."""

    closed = 0

    def __aiter__(self) -> AsyncIterator[int]:
        self._numbers = slowly(range(3))
        return self

    async def __anext__(self) -> int:
        return await anext(self._numbers)

    async def aclose(self) -> None:
        await asyncio.sleep(1)
        self.closed += 1
        raise LookupError


@pytest.mark.parametrize("end", ["all", "break", "exception"])
@leaves_nothing
async def test_closing_inputs(end: str) -> None:
    """The inputs are closed once and completely; an error of closing them is raised."""
    source = Source()
    async with opened() as session:
        with pytest.raises(ZeroDivisionError if end == "exception" else LookupError):  # noqa: PT012
            async with session.fan_out(double, source) as outcomes:
                for _ in range(4 if end == "all" else 1):
                    await anext(outcomes)
                assert end != "exception" or 1 / 0
    assert source.closed == 1


@leaves_nothing
async def test_block_required() -> None:
    """Iterating outside of the block, entering twice, and a closed session are errors."""
    async with opened() as session:
        outcomes = session.fan_out(double, [1, 2])
        with pytest.raises(RuntimeError, match="async with"):
            await anext(outcomes)
        async with outcomes as entered:
            assert entered is outcomes
            other = asyncio.create_task(inputs_of(outcomes))
        with pytest.raises(RuntimeError, match="was left"):
            await inputs_of(outcomes)
        with pytest.raises(RuntimeError, match="was left"):
            await other
        with pytest.raises(RuntimeError, match="once"):
            await collect(outcomes)
    with pytest.raises(SessionClosedError):
        await collect(session.fan_out(double, [1]))


@leaves_nothing
async def test_context() -> None:
    """Each function has a copy of the context of the block."""
    variable = ContextVar("variable", default="default")

    async def inputs() -> AsyncIterator[int]:
        for number in range(4):
            variable.set("inputs")
            yield number

    async def function(_: int) -> str:
        seen = variable.get()
        variable.set("function")
        return seen

    variable.set("block")
    async with opened() as session, session.fan_out(function, inputs()) as outcomes:
        variable.set("later")
        assert [(await anext(outcomes)).unwrap() for _ in range(4)] == ["block"] * 4


@pytest.mark.parametrize("way", ["break", "ZeroDivisionError", "CancelledError", "TimeoutError"])
@leaves_nothing
async def test_leave(way: str) -> None:
    """Leaving ends every task, closes the inputs and frees every slot."""
    inputs = slowly(count())

    async def consume() -> None:
        async with (
            asyncio.timeout(10 if way == "TimeoutError" else None),
            session.fan_out(lambda _: fetch(session), inputs) as outcomes,
        ):
            async for _ in outcomes:
                if way == "break":
                    break
                if way == "ZeroDivisionError":
                    raise ZeroDivisionError

    async with (
        ScriptedApi(FOUND, then=NEVER) as api,
        api.session(limiter=asyncio.Semaphore(2)) as session,
    ):
        task = asyncio.create_task(consume())
        await all_blocked()
        if way == "CancelledError":
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert type(result).__name__ == way.replace("break", "NoneType")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert is_idle(session)
    with pytest.raises(StopAsyncIteration):
        await anext(inputs)


@leaves_nothing
async def test_leave_cancelled_again() -> None:
    """Leaving waits for functions that ignore cancellation, also if it is cancelled again."""

    async def stubborn(_: object) -> None:
        while now() < 100:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100 - now())

    async def leave() -> None:
        async with session.fan_out(stubborn, "ab"):
            await asyncio.sleep(0.5)

    async with opened() as session:
        consumer = asyncio.create_task(leave())
        for _ in range(3):
            await all_blocked()
            consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert now() == 100


@pytest.mark.parametrize("blocked_in", ["inputs", "slots", "functions", "room"])
@leaves_nothing
async def test_fan_out_cancelled(blocked_in: str) -> None:
    """If the task of a fan-out is cancelled, the consumer gets an error after the outcomes."""
    started: list[int] = []
    inputs: Any = {"inputs": slowly(count(), 60), "functions": range(3)}.get(blocked_in, count())

    async def function(number: int) -> None:
        started.append(number)
        if blocked_in == "room":
            await fetch(session)
        await asyncio.sleep(1000)

    async with ScriptedApi(then=NEVER) as api, api.session(limiter=asyncio.Semaphore(2)) as session:
        before = asyncio.all_tasks()
        async with session.fan_out(function, inputs, max_in_flight=9) as outcomes:
            (task,) = asyncio.all_tasks() - before
            await asyncio.sleep(130)
            task.cancel()
            for _ in range(len(started)):
                started.remove((await anext(outcomes)).input)
            assert started == []
            with pytest.raises(CancelledError, match="fan-out"):
                await anext(outcomes)


@pytest.mark.parametrize("raised_by", ["function", "inputs", "consumer"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException])
def test_exit(kind: type[BaseException], raised_by: str) -> None:
    """A base exception of any part ends the block in order, and comes out."""
    ended: set[object] = set()

    def check(part: str) -> None:
        if part == raised_by:
            raise kind

    def inputs() -> Iterator[int]:
        yield from range(3)
        check("inputs")

    async def function(number: int) -> None:
        try:
            await asyncio.sleep(0.01)
            check("function")
            await never(number)
        finally:
            ended.add(number)

    async def consume() -> None:
        try:
            async with opened() as session, session.fan_out(function, inputs()) as outcomes:
                await asyncio.sleep(0.02)
                check("consumer")
                await inputs_of(outcomes)
        finally:
            ended.add("block")

    with pytest.raises((kind, BaseExceptionGroup)):
        asyncio.run(consume(), debug=True)
    assert ended == {0, 1, 2, "block"}


LIMITERS: dict[str, Callable[[], Any]] = {
    "adaptive": AdaptiveLimiter,
    "semaphore": lambda: asyncio.Semaphore(2),
    "capacity": lambda: anyio.CapacityLimiter(2),
    "rate": lambda: AsyncLimiter(1, 1 / 32),  # a binary fraction: virtual time has no ticks
}


@pytest.mark.parametrize("limiter", LIMITERS)
@leaves_nothing
async def test_nothing_lost(limiter: str) -> None:
    """Inputs start when their calls can soon run, so no deadline passes in a queue."""
    async with (
        ScriptedApi(then=server()) as api,
        api.session(timeout=6, limiter=LIMITERS[limiter]()) as session,
    ):
        found = await collect(session.fan_out(lambda _: fetch(session), range(800)))
        assert Counter(map(type, found)) == {Success: 800}
        assert is_idle(session)
    assert 20 <= now() < 26


@pytest.mark.parametrize("kind", ["sleep first", "in turn", "together", "fan-out"])
@leaves_nothing
async def test_functions(kind: str) -> None:
    """A function may make any number of calls, at any time, also in a fan-out."""

    async def function(_: int) -> None:
        if kind == "sleep first":
            await asyncio.sleep(1)
        if kind == "together":
            await asyncio.gather(fetch(session), fetch(session))
        if kind == "fan-out":
            found = await collect(session.fan_out(lambda _: fetch(session), range(2)))
            assert Counter(map(type, found)) == {Success: 2}
        await fetch(session)
        await fetch(session)

    async with ScriptedApi(then=server()) as api, api.session() as session:
        found = await collect(session.fan_out(function, range(100)))
        assert Counter(map(type, found)) == {Success: 100}
        assert is_idle(session)


@leaves_nothing
async def test_fan_outs_share() -> None:
    """Fan-outs of one session share it evenly, whatever the others wait for."""
    done: Counter[int] = Counter()

    async def consume(number: int) -> None:
        async with session.fan_out(lambda _: fetch(session), range(50)) as outcomes:
            async for _ in outcomes:
                done[number] += 1

    async with (
        ScriptedApi(then=server()) as api,
        api.session() as session,
        session.fan_out(lambda _: fetch(session), slowly(count(), 10**6)),  # waits for an input
        session.fan_out(lambda _: fetch(session), count(), max_in_flight=1),  # for a consumer
        session.fan_out(never, count(), max_in_flight=3),  # for its functions
    ):
        tasks = [asyncio.create_task(consume(number)) for number in range(3)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert min(done.values()) > 30
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("rounds", range(5))
@leaves_nothing
async def test_turn_passed_on(rounds: int) -> None:
    """If a fan-out is left at its turn to start an input, the turn is passed on."""
    async with ScriptedApi(then=NEVER) as api, api.session(limiter=asyncio.Semaphore(2)) as session:
        calls = [asyncio.create_task(fetch(session)) for _ in range(4)]
        await all_blocked()
        first = await session.fan_out(double, [1]).__aenter__()
        await all_blocked()
        async with session.fan_out(double, [2]) as second:
            await all_blocked()
            calls.pop().cancel()  # then there is room for one input
            for _ in range(rounds):
                await asyncio.sleep(0)
            await first.__aexit__(None, None, None)
            assert await anext(second) == Success(2, 4)
            assert now() == 3
        for call in calls:
            call.cancel()


@leaves_nothing
async def test_direct_calls_first() -> None:
    """Direct calls beside fan-outs are served first."""
    async with (
        ScriptedApi(then=server()) as api,
        api.session() as session,
        session.fan_out(lambda _: fetch(session), count()),
        session.fan_out(lambda _: fetch(session), count()),
    ):
        await asyncio.sleep(10)
        start = now()
        for _ in range(50):
            await fetch(session)
        assert now() - start < 1.7 * 50 * 0.05


async def random_fan_out(session: MarketplaceSession, depth: int = 2) -> None:  # noqa: C901
    """Run a fan-out whose functions, inputs and consumers fail and end at random."""
    total = random.randrange(40)
    taken: Counter[int] = Counter()

    async def function(_: int) -> None:
        for _ in range(random.randrange(3)):
            await fetch(session)
            await asyncio.sleep(random.choice([0, 0, 1]))
        if depth and random.random() < 0.05:
            await random_fan_out(session, depth - 1)
        if random.random() < 0.1:
            raise random.choice([LookupError, asyncio.CancelledError])

    async def inputs() -> AsyncIterator[int]:
        async for number in slowly(range(total), random.choice([0, 0, 0.1])):
            yield number
        if random.random() < 0.2:
            raise LookupError

    async def consume() -> None:
        async for outcome in outcomes:
            taken[outcome.input] += 1
            await asyncio.sleep(random.choice([0, 0, 0.1, 1]))
            if random.random() < 0.01:
                raise ZeroDivisionError

    size = random.choice([1, 3, 500])
    try:
        async with (
            asyncio.timeout(random.choice([None, None, 0, 1, 10])),
            session.fan_out(function, inputs(), max_in_flight=size) as outcomes,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(consume())
            group.create_task(consume())
    except* (TimeoutError, ZeroDivisionError, LookupError):
        assert not taken - Counter(range(total))
    else:
        assert taken == Counter(range(total))


@pytest.mark.parametrize("limiter", ["adaptive", "semaphore"])
@pytest.mark.parametrize("seed", range(20))
@leaves_nothing
async def test_random(seed: int, limiter: str) -> None:
    """Whatever fails or is cancelled, each input has one outcome and nothing is left."""
    random.seed(seed)
    faults = [error(429), error(429, Retry_After=1), error(503), error(404), NEVER]

    def respond(_: Request) -> Answer:
        seconds = random.choice([0, 0.05, 0.5, 3])
        return random.choice([Answer(FOUND.body, seconds=seconds)] * 24 + faults)

    async with (
        ScriptedApi(then=respond) as api,
        api.session(timeout=20, limiter=LIMITERS[limiter]()) as session,
    ):
        await asyncio.gather(*(random_fan_out(session) for _ in range(4)))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert is_idle(session)
        assert len(await collect(session.fan_out(lambda _: fetch(session), range(9)))) == 9
