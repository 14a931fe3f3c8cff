"""How late a busy process hears what has come."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from batch_gateway import AdaptiveConcurrency
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.concurrency.controllers import FixedController
from batch_gateway.client.layers.concurrency.lateness import Lateness
from batch_gateway.concurrency.events import Started
from tests.client.layers.concurrency.test_permits import prepared
from tests.virtual_time import LoopClock, VirtualTimeLoop, run_in_virtual_time


def be_busy(seconds: float) -> None:
    """Nothing else gets its turn meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.jump(seconds)


def test_what_is_heard_in_time_is_late_by_nothing() -> None:
    async def main() -> list[float]:
        lateness, heard = Lateness(LoopClock()), list[float]()
        for _ in range(100):
            heard.append(lateness.seconds())
            await asyncio.sleep(0.013)
        return heard

    assert max(run_in_virtual_time(main())) == pytest.approx(0.0)


@pytest.mark.parametrize("busy", [0.1, 0.5, 3.0])
def test_what_came_while_the_process_was_busy_is_late_by_about_that(busy: float) -> None:
    async def main() -> None:
        lateness = Lateness(LoopClock())
        lateness.seconds()
        be_busy(busy)
        assert busy - 0.05 <= lateness.seconds() <= busy  # before the timer had its turn
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.0)
        assert busy - 0.05 <= lateness.seconds() <= busy  # and after
        await asyncio.sleep(0.1)
        assert lateness.seconds() == pytest.approx(0.0)

    run_in_virtual_time(main())


def test_no_timer_is_left_where_nobody_asks() -> None:
    async def main() -> None:
        lateness = Lateness(LoopClock())
        lateness.seconds()
        await asyncio.sleep(1.0)
        be_busy(1.0)
        assert lateness.seconds() == 0.0

    run_in_virtual_time(main())


class Told(FixedController):
    heard_after = 0.0

    def first_token(self, started: Started, seconds: float, now: float, heard_after: float) -> None:
        self.heard_after = heard_after


def test_whoever_decides_how_many_may_be_under_way_is_told_of_it() -> None:
    async def main() -> None:
        told = Told(4)
        with mock.patch("batch_gateway.client.layers.concurrency.limit.AdaptiveController") as made:
            made.return_value = told
            admission = Admission(LoopClock(), concurrency=AdaptiveConcurrency())
        permits = [await admission.acquire(prepared(n)) for n in range(2)]
        admission.first_token(permits[0], 0.1)
        assert told.heard_after == pytest.approx(0.0)
        be_busy(1.0)
        admission.first_token(permits[1], 1.1)
        assert 0.95 <= told.heard_after <= 1.0
        await admission.aclose()

    run_in_virtual_time(main())
