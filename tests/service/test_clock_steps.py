"""The clock of the day is set forward or back while batches run."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.service.test_processor import PATIENCE, a_service, requests

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86_400.0


class SetClock:
    """The time of day is `ahead` of what it was; what is counted from one moment to another goes on
    as ever."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_time(self) -> float:
        return time.time() + self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.mark.parametrize("step", [-DAY, -HOUR, HOUR, DAY])
async def test_a_batch_within_its_window_goes_on_and_sends_nothing_twice(
    tmp_path: Path, step: float
) -> None:
    clock = SetClock()
    async with a_service(tmp_path, latency_scale=0.2) as service:
        async with service.processor(clock=clock) as processor:
            batch_id = await service.submit(requests(60), due_at=time.time() + 2 * DAY)
            processor.wake()
            await service.progress(batch_id)
            clock.ahead = step
            batch = await service.until(batch_id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 60, 0)
        assert batch.in_progress_at is not None
        assert all(one.received == 1 for one in service.gateway.journal.requests.values())


async def test_a_window_is_over_when_the_clock_says_so_and_not_before(tmp_path: Path) -> None:
    clock = SetClock()
    async with a_service(tmp_path) as service, service.processor(clock=clock) as processor:
        body = {"model": "fault-stall", "messages": [{"role": "user", "content": "x"}]}
        clock.ahead = -HOUR
        batch_id = await service.submit(requests(3, body=body), due_at=time.time() + 1)
        processor.wake()
        async with asyncio.timeout(PATIENCE):
            while service.gateway.journal.in_flight < 3:
                await asyncio.sleep(0.02)
        assert (await service.look(batch_id)).status == "in_progress"
        clock.ahead = HOUR
        batch = await service.until(batch_id)
        assert (batch.status, batch.failed) == ("expired", 3)
