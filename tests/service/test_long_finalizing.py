"""Result files that take hours to be put together: nobody takes them for abandoned meanwhile, and
one that was is made again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.leftover_files import remove_leftovers
from batch_gateway.storage.protocol import Upload
from tests.service.quick_clock import QuickClock
from tests.service.test_processor import Service, a_service, request, requests
from tests.service.test_result_files import ALWAYS_400, file_of

pytestmark = pytest.mark.anyio

HOUR = 3600.0


class LaterClock(QuickClock):
    """One whose time of day somebody moves on."""

    passed = 0.0

    def wall_time(self) -> float:
        return super().wall_time() + self.passed


class SlowStore:
    """A store in which two hours pass while a part is read, and `commits` times while an upload is
    committed; whoever collects what is left over is never far."""

    def __init__(self, service: Service, clock: LaterClock, commits: int = 0) -> None:
        self._service, self._clock, self.commits = service, clock, commits

    async def _two_hours(self) -> None:
        self._clock.passed += 2 * HOUR
        service = self._service
        await remove_leftovers(service.database, service.storage, self._clock.wall_time())

    async def stream(self, name: str, *span: Any) -> AsyncGenerator[bytes, None]:
        async for piece in self._service.storage.stream(name, *span):
            yield piece
        if ".output" in name or ".error" in name:
            await self._two_hours()

    @asynccontextmanager
    async def upload(self, name: str) -> AsyncIterator[Upload]:
        async with self._service.storage.upload(name) as upload:
            yield _SlowUpload(upload, self)

    async def committing(self) -> None:
        if self.commits:
            self.commits -= 1
            await self._two_hours()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service.storage, name)


class _SlowUpload:
    def __init__(self, inner: Upload, store: SlowStore) -> None:
        self.append, self._inner, self._store = inner.append, inner, store

    async def commit(self) -> None:
        await self._store.committing()
        await self._inner.commit()


async def _ended(service: Service, commits: int) -> tuple[BatchRecord, LaterClock]:
    clock = LaterClock()
    store = SlowStore(service, clock, commits)
    async with service.processor(storage=store, clock=clock) as processor:
        bad = [request(f"bad{number}", body=ALWAYS_400) for number in range(3)]
        batch_id = await service.submit([*requests(5), *bad])
        processor.wake()
        return await service.until(batch_id), clock


@pytest.mark.parametrize("commits", [0, 1, 2])
async def test_both_files_are_there_with_every_line(tmp_path: Path, commits: int) -> None:
    async with a_service(tmp_path) as service:
        batch, clock = await _ended(service, commits)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 5, 3)
        for file_id, lines in ((batch.output_file_id, 5), (batch.error_file_id, 3)):
            assert len(await service.lines(file_id)) == lines
            file = await file_of(service, file_id)
            # Its lifetime begins when it is there.
            assert clock.wall_time() - file.created_at < HOUR
        assert clock.passed >= (2 + commits) * 2 * HOUR


async def test_it_is_completed_when_its_files_are_there(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service:
        batch, clock = await _ended(service, 0)
        assert batch.completed_at is not None
        assert clock.wall_time() - batch.completed_at < HOUR
