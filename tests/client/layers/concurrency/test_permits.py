"""Permits by a controller whose limit changes with time alone."""

from __future__ import annotations

import asyncio
from unittest import mock

from batch_gateway import AdaptiveConcurrency
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.concurrency.controllers import FixedController
from batch_gateway.concurrency.events import Started
from tests.virtual_time import LoopClock, run_in_virtual_time


def prepared(number: int) -> PreparedRequest:
    return PreparedRequest(
        request_id=f"r-{number}", model="m", endpoint="/v1/completions", body=b"{}"
    )


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
        with mock.patch("batch_gateway.client.layers.concurrency.limit.AdaptiveController") as made:
            made.return_value = SlowStart()
            admission = Admission(LoopClock(), concurrency=AdaptiveConcurrency())
        given = [asyncio.create_task(admission.acquire(prepared(n))) for n in range(4)]
        permits = await asyncio.wait_for(asyncio.gather(*given), 60)
        assert [later.at - permits[0].at for later in permits] == [0.0, 1.0, 2.0, 3.0]
        await admission.aclose()

    run_in_virtual_time(main())
