"""Tests of what starts tasks: nothing of it may be left, and nothing complained about."""

import asyncio
import functools
import gc
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from virtual_time import in_virtual_time

__all__ = ["all_blocked", "leaves_nothing"]

P = ParamSpec("P")


async def all_blocked() -> None:
    """Wait until every other task waits for something; in virtual time this is exact."""
    await asyncio.sleep(1)


def leaves_nothing(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time; it must leave no task, and nothing for the loop to log."""

    @in_virtual_time
    @functools.wraps(test)
    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, complaint: complaints.append(complaint)
        )
        gc.freeze()  # what is older is not looked at each time
        try:
            await test(*args, **kwargs)
            await all_blocked()
            # Before garbage is collected: what is dropped must end without.
            assert asyncio.all_tasks() == {asyncio.current_task()}
            gc.collect()
            await all_blocked()
            assert complaints == []
        finally:
            gc.unfreeze()

    return run
