"""A clock that only moves when something sleeps on it or a test says so."""

from __future__ import annotations

import asyncio


class ManualClock:
    """Sleeping takes no time and is remembered."""

    def __init__(self, start: float = 1000.0, wall_time: float = 1_793_577_600.0) -> None:
        self.now = start
        self._offset = wall_time - start
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall_time(self) -> float:
        return self.now + self._offset

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
