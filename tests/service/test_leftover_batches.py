"""What batches leave: what somebody needs stays, and everything else goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from batch_gateway.errors import StorageError
from batch_gateway.service import leftover_batches
from batch_gateway.service.batch_records import add_batch, record_event, remove_ended_before
from batch_gateway.service.database import Database
from batch_gateway.service.ids import new_id
from batch_gateway.service.leftover_batches import remove_all_working_objects, remove_old_batches
from batch_gateway.service.open_database import open_database
from batch_gateway.service.parts import batch_folder, plan_name
from batch_gateway.service.statuses import ENDED, BatchEvent
from batch_gateway.service.tables import batches, jobs
from batch_gateway.storage.folder import LocalFolder
from tests.engine.batch_files import FILES
from tests.service.records import NOW, a_batch

pytestmark = pytest.mark.anyio

LIFETIME = 100
RUN = BatchEvent.VALID
WAYS = [
    (),
    (RUN,),
    (BatchEvent.CANCEL,),
    (BatchEvent.EXPIRE,),
    (BatchEvent.INVALID,),
    (RUN, BatchEvent.CANCEL),
    (RUN, BatchEvent.EXPIRE),
    (RUN, BatchEvent.ALL_DONE),
    (RUN, BatchEvent.CANCEL, BatchEvent.WRITTEN),
    (RUN, BatchEvent.EXPIRE, BatchEvent.WRITTEN),
    (RUN, BatchEvent.ALL_DONE, BatchEvent.WRITTEN),
]


class Past(NamedTuple):
    """A batch: what has happened to it, the last of it so long ago, and what it has stored."""

    events: Sequence[BatchEvent]
    age: int
    has_objects: bool


PASTS = st.builds(Past, st.sampled_from(WAYS), st.integers(0, 2 * LIFETIME), st.booleans())


class Service:
    def __init__(self, database: Database, storage: LocalFolder) -> None:
        self.database, self.storage = database, storage

    async def add(self, past: Past) -> str:
        batch = a_batch(created_at=NOW - past.age - 1)
        await self.database.write(partial(add_batch, record=batch))
        for event in past.events:
            happen = partial(record_event, batch_id=batch.id, event=event, now=NOW - past.age)
            batch = await self.database.write(happen)
        if past.has_objects:
            await self.leave_objects(batch.id)
        return batch.id

    async def leave_objects(self, batch_id: str) -> None:
        await self.storage.put(plan_name(batch_id, 0), b"plan")
        await self.storage.put(f"{batch_folder(batch_id)}/000000/000001-00000001.output", b"{}\n")

    async def status(self, batch_id: str) -> str | None:
        chosen = select(batches.c.status).where(batches.c.id == batch_id)
        return await self.database.read(lambda c: c.execute(chosen).scalar_one_or_none())

    async def owners_of_jobs(self) -> set[str]:
        chosen = select(jobs.c.batch_id).distinct()
        return set(await self.database.read(lambda c: c.execute(chosen).scalars().all()))


@asynccontextmanager
async def a_service(folder: Path) -> AsyncIterator[Service]:
    database = await open_database(folder / "records.sqlite3")
    storage = LocalFolder(folder / "store")
    yield Service(database, storage)
    await database.aclose()
    await storage.aclose()


@settings(FILES, max_examples=40)
@given(st.lists(PASTS, max_size=8), st.integers(0, 2), st.sampled_from([None, LIFETIME]))
async def test_what_is_needed_stays_and_all_else_goes(
    tmp_path_factory: pytest.TempPathFactory,
    pasts: list[Past],
    of_nobody: int,
    lifetime: int | None,
) -> None:
    async with a_service(tmp_path_factory.mktemp("service")) as service:
        found = {await service.add(past): past for past in pasts}
        statuses = {one: await service.status(one) for one in found}
        await service.storage.put("files/file_1", b"a result file")
        for _ in range(of_nobody):
            await service.leave_objects(new_id("batch"))

        await remove_old_batches(service.database, NOW, lifetime)
        await remove_all_working_objects(service.database, service.storage)

        def is_old(one: str) -> bool:
            ended = statuses[one] in ENDED
            return lifetime is not None and ended and found[one].age > lifetime

        kept = {one for one in found if not is_old(one)}
        assert {one for one in found if await service.status(one) is not None} == kept
        assert await service.owners_of_jobs() == {o for o in found if statuses[o] not in ENDED}
        working = {o for o in found if found[o].has_objects and statuses[o] not in ENDED}
        assert set(await service.storage.folders("batches/")) == working
        assert len(await service.storage.list("batches/")) == 2 * len(working)
        assert [one.name for one in await service.storage.list("files/")] == ["files/file_1"]


async def test_pages_skip_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        leftover_batches, "remove_ended_before", partial(remove_ended_before, limit=2)
    )
    monkeypatch.setattr(leftover_batches, "_ASKED_FOR_AT_ONCE", 2)
    async with a_service(tmp_path) as service:
        young = [await service.add(Past(way, 1, True)) for way in WAYS]
        for way in WAYS:
            await service.add(Past(way, LIFETIME + 1, True))
        old = sum(len(way) == 3 or way in WAYS[2:5] for way in WAYS)
        assert await remove_old_batches(service.database, NOW, LIFETIME) == old
        assert await remove_old_batches(service.database, NOW, LIFETIME) == 0
        # Of the young as many have ended.
        assert await remove_all_working_objects(service.database, service.storage) == 2 * old
        assert len(await service.storage.folders("batches/")) == 2 * (len(WAYS) - old)
        assert None not in [await service.status(one) for one in young]


async def test_a_batch_whose_objects_resist_keeps_those_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_service(tmp_path) as service:
        ended = [await service.add(Past(WAYS[4], 1, True)) for _ in range(3)]
        delete = service.storage.delete

        async def delete_but_one(*names: str) -> None:
            if ended[0] in names[0]:
                raise StorageError(f"{names[0]}: Input/output error")
            await delete(*names)

        monkeypatch.setattr(service.storage, "delete", delete_but_one)
        with pytest.raises(StorageError, match="Input/output error"):
            await remove_all_working_objects(service.database, service.storage)
        assert list(await service.storage.folders("batches/")) == [ended[0]]
