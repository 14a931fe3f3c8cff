"""Batches whose gateway refuses everything, or some of it, for as long as it does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch_gateway.service.statuses import BatchEvent
from batch_gateway.simulator.request_journal import RequestRecord
from tests.engine.batch_files import request
from tests.service.quick_clock import QuickClock
from tests.service.test_processor import PATIENCE, Service, a_service

pytestmark = pytest.mark.anyio


async def _tried(service: Service, times: int) -> None:
    """Until some line was sent so often."""
    async with asyncio.timeout(PATIENCE):
        while max((one.received for one in _journal(service)), default=0) < times:
            await asyncio.sleep(0.02)


def _journal(service: Service) -> list[RequestRecord]:
    return [*service.gateway.journal.requests.values()]


async def test_lines_that_are_done_are_not_sent_again_when_a_gateway_is_tried_again(
    tmp_path: Path,
) -> None:
    models = ("m", "fault-status-401")
    async with a_service(tmp_path) as service:
        async with service.processor(clock=QuickClock()) as processor:
            lines = [request(f"c{n}", model=models[n % 2]) for n in range(30)]
            batch_id = await service.submit(lines)
            processor.wake()
            await _tried(service, 4)
            assert "HTTP 401" in ((await service.look(batch_id)).notice or "")
            await service.tell(batch_id, BatchEvent.CANCEL)
            batch = await service.until(batch_id)
        assert (batch.completed, batch.failed) == (15, 15)
        output = await service.lines(batch.output_file_id)
        assert len(output) == 15
        assert {service.gateway.journal.requests[line["id"]].received for line in output} == {1}
