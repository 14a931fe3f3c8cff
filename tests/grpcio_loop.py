"""One event loop for everything of grpcio that tests run in this process.

grpcio hands the events of all its servers and channels to whichever event loop happens to turn,
and that loop fails when an event is for one that has been closed since. Tests have a loop each,
so grpcio gets one of its own, in a thread that begins before any test and is never closed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["grpcio_loop", "in_grpcio_loop"]

T = TypeVar("T")


_LOOP = asyncio.new_event_loop()
threading.Thread(target=_LOOP.run_forever, name="grpcio", daemon=True).start()


def grpcio_loop() -> asyncio.AbstractEventLoop:
    return _LOOP


async def in_grpcio_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs there."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, grpcio_loop()))
