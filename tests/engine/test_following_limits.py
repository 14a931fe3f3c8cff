"""A run whose client sets its own limit."""

from __future__ import annotations

import pytest

from .batch_files import ids_in, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, SteppedClock, when_let_go

pytestmark = pytest.mark.anyio


class SelfLimitingGateway(FakeGateway):
    """Says how many requests it would have under way, as an adaptive client does."""

    concurrency_limit = 16


async def test_lines_under_way_follow_the_limit_up_and_down(folder: Folder) -> None:
    write_batch(folder.input, 400)
    gateway, clock = SelfLimitingGateway(when_let_go), SteppedClock()
    async with folder.running(gateway, concurrency=None, clock=clock) as run:
        # Nothing has answered yet, so that only a few are tried at first.
        await gateway.until(lambda: gateway.in_flight == 10)
        await clock.advance(5)
        await gateway.until(lambda: gateway.in_flight == 24)
        gateway.concurrency_limit = 100
        await clock.advance(0.1)
        await gateway.until(lambda: gateway.in_flight == 150)
        gateway.concurrency_limit = 1
        await clock.advance(0.1)
        gateway.gate.set()
        summary = await run
    assert summary.succeeded == 400
    assert len(ids_in(folder.output)) == 400
    assert gateway.most_in_flight == 150


async def test_a_client_without_a_limit_gets_the_usual_number(folder: Folder) -> None:
    write_batch(folder.input, 200)
    gateway = FakeGateway()
    summary = await folder.run(gateway, concurrency=None)
    assert summary.succeeded == 200
    assert gateway.most_in_flight == 64
