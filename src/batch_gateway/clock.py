"""Time as a dependency, so that policies can be tested without waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "wait_at_most"]


class Clock(Protocol):
    """Where layers get the time from, and how they wait."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def wall_time(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancelling the task ends the wait."""
        ...


class SystemClock:
    """The real clock."""

    # The functions themselves: a request asks for the time half a dozen times.
    monotonic = staticmethod(time.monotonic)
    wall_time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


async def wait_at_most(clock: Clock, seconds: float, event: asyncio.Event) -> None:
    """Return when `event` is set, or after so many seconds."""
    waits = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
