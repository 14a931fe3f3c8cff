"""Tests on both event loops, each of which must leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

import pytest

from tests.http.native.raw_server import wait_until

__all__ = ["BOTH_LOOPS", "leaving_nothing"]

BOTH_LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


@contextlib.asynccontextmanager
async def leaving_nothing() -> AsyncIterator[contextlib.AsyncExitStack]:
    """A stack for what the test starts.

    Fails the test that leaves a task, or an exception that nobody looked at.
    """
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with contextlib.AsyncExitStack() as stack:
        yield stack
    await wait_until(lambda: not _leftover_tasks())
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert complaints == []


def _leftover_tasks() -> list[str]:
    """What still runs, apart from the test runner's own."""
    mine = asyncio.current_task()
    others = [str(task.get_coro()) for task in asyncio.all_tasks() if task is not mine]
    return [task for task in others if "TestRunner" not in task]
