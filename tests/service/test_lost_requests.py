"""Batches whose input or plan is gone: they wait for it, and end when they are told to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch_gateway.service.file_records import object_name
from batch_gateway.service.parts import plan_name
from batch_gateway.service.statuses import BatchEvent
from tests.service.test_processor import PATIENCE, a_service, requests

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("lost", ["input", "changed input", "plan", "changed plan"])
@pytest.mark.parametrize(
    ("event", "status"), [(BatchEvent.CANCEL, "cancelled"), (BatchEvent.EXPIRE, "expired")]
)
async def test_a_batch_whose_requests_are_lost_ends_with_the_results_that_it_has(
    tmp_path: Path, lost: str, event: BatchEvent, status: str
) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        async with service.processor() as processor:
            batch_id = await service.submit(requests(40))
            processor.wake()
            await service.progress(batch_id)
        before = service.look(batch_id)
        name = plan_name(batch_id, 0) if "plan" in lost else object_name(before.input_file_id)
        if "changed" in lost:
            await service.storage.put(name, b"x" * len(await service.storage.read(name)))
        else:
            await service.storage.delete(name)
        async with service.processor() as processor:
            async with asyncio.timeout(PATIENCE):
                while (notice := service.look(batch_id).notice) is None:
                    await asyncio.sleep(0.02)
            assert str(tmp_path) not in notice
            await service.tell(batch_id, event)
            processor.look()
            batch = await service.until(batch_id)
        assert (batch.status, batch.completed) == (status, before.completed)
        assert len(await service.lines(batch.output_file_id)) == batch.completed
        assert batch.failed == 0
