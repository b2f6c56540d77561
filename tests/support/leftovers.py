"""Checks that a test leaves no task, and nothing for the event loop to log."""

import asyncio
import functools
import gc
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from virtual_time import in_virtual_time

P = ParamSpec("P")


async def all_blocked() -> None:
    """Wait in virtual time until every other task waits for an event or a later time."""
    await asyncio.sleep(1)


def leaves_nothing(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time; fail if it leaves a task or an error to log."""

    @in_virtual_time
    @functools.wraps(test)
    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
        gc.freeze()  # older objects are not searched each time
        try:
            await test(*args, **kwargs)
            await all_blocked()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            gc.collect()  # reports exceptions that were never retrieved
            await all_blocked()
            assert errors == []
        finally:
            gc.unfreeze()

    return run
