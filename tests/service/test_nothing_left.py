"""However a batch ends, no job, no part and no working object of it stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from batch_gateway.service.file_records import object_name
from batch_gateway.service.leftover_batches import remove_all_working_objects
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.service.tables import jobs, model_lines, parts
from batch_gateway.storage.folder import LocalFolder
from tests.engine.batch_files import request
from tests.service.quick_clock import QuickClock
from tests.service.test_processor import PATIENCE, Service, a_service, requests

pytestmark = pytest.mark.anyio


def _rows(connection: Connection) -> list[int]:
    tables = (jobs, parts, model_lines)
    return [connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables]


async def _check_that_nothing_is_left(service: Service) -> None:
    assert await service.database.read(_rows) == [0, 0, 0]
    async with asyncio.timeout(PATIENCE):
        while await service.storage.list("batches/"):
            await asyncio.sleep(0.02)


class _HeldPlans:
    """A store that takes plans when it is let go."""

    def __init__(self, inner: LocalFolder) -> None:
        self._inner = inner
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def put(self, name: str, data: bytes) -> None:
        self.asked.set()
        await self.go.wait()
        await self._inner.put(name, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    ("event", "status"), [(BatchEvent.CANCEL, "cancelled"), (BatchEvent.EXPIRE, "expired")]
)
async def test_of_a_batch_that_ends_while_its_input_is_looked_at(
    tmp_path: Path, event: BatchEvent, status: str
) -> None:
    async with a_service(tmp_path) as service:
        held = _HeldPlans(service.storage)
        async with service.processor(storage=held) as processor:
            batch_id = await service.submit(requests(3))
            processor.wake()
            await held.asked.wait()
            await service.tell(batch_id, event)
            held.go.set()
            other = await service.submit(requests(3))
            processor.wake()
            await service.until(other, "completed")
            assert (await service.look(batch_id)).status == status
            await _check_that_nothing_is_left(service)
        assert service.gateway.journal.received == 3


@pytest.mark.parametrize("event", [None, BatchEvent.CANCEL, BatchEvent.EXPIRE])
async def test_of_a_batch_that_ends_in_any_other_way(
    tmp_path: Path, event: BatchEvent | None
) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service, service.processor() as processor:
        lines = [request(f"c{n}", model=f"m{n % 3}") for n in range(20)]
        batch_id = await service.submit(lines)
        processor.wake()
        await service.progress(batch_id)
        for _ in range(2 if event else 0):
            await service.tell(batch_id, event or BatchEvent.CANCEL)
        await service.until(batch_id)
        await _check_that_nothing_is_left(service)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_of_a_batch_whose_input_is_lost(tmp_path: Path, when: str) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        batch_id = await service.submit(requests(40))
        if when == "meanwhile":
            async with service.processor() as processor:
                processor.wake()
                await service.progress(batch_id)
        await service.storage.delete(object_name((await service.look(batch_id)).input_file_id))
        async with service.processor(clock=QuickClock()):
            assert (await service.until(batch_id)).status == "failed"
        # A beat that comes a hundred times as often may cut the removal short.
        await remove_all_working_objects(service.database, service.storage)
        await _check_that_nothing_is_left(service)


async def test_of_a_batch_with_problems(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        batch_id = await service.submit(b"{\n")
        processor.wake()
        assert (await service.until(batch_id)).status == "failed"
        await _check_that_nothing_is_left(service)
