"""One way to run a coroutine to its end: on uvloop where there is one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["run_async"]

T = TypeVar("T")

# A thousand requests under way are some ten thousand live objects that come and go together. With
# Python's 700, the collector looks through the young ones for every hundred requests and hardly
# ever finds garbage: a tenth of a run's CPU. The process is the command's own, so it may choose.
_OBJECTS_BETWEEN_COLLECTIONS = 10_000


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a new event loop and close the loop behind it."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *thresholds[1:])
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main)
    finally:
        gc.set_threshold(*thresholds)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
