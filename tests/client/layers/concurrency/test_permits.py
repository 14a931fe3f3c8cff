"""Permits by a controller whose limit changes with time alone."""

from __future__ import annotations

import asyncio

from batch_gateway.client.layers.concurrency.permits import FixedController, Permits
from batch_gateway.concurrency.events import Started
from tests.virtual_time import LoopClock, run_in_virtual_time


class SlowStart(FixedController):
    """One more with each pause of a second, without a request that ends."""

    def __init__(self) -> None:
        super().__init__(1)

    def started(self, now: float) -> Started:
        self.paused_until = now + 1.0
        return super().started(now)

    def look(self, now: float) -> None:
        self.limit = self.allowed_now = self.in_flight + 1


def test_a_limit_that_rises_with_time_is_used_when_the_pause_is_over() -> None:
    async def main() -> None:
        permits = Permits(SlowStart(), LoopClock())
        given = [asyncio.create_task(permits.acquire()) for _ in range(4)]
        started = await asyncio.wait_for(asyncio.gather(*given), 60)
        assert [later.at - started[0].at for later in started] == [0.0, 1.0, 2.0, 3.0]
        await permits.aclose()

    run_in_virtual_time(main())
