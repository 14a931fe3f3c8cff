"""Bytes of files that nobody needs are removed, and of none that somebody sees."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from batch_gateway.errors import RecordsError, RecordsFullError
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import FileState, add_file, mark_stored, object_name
from batch_gateway.service.leftover_files import remove_leftovers
from tests.service.records import NOW, a_file

pytestmark = pytest.mark.anyio


class LastMomentStore:
    """One whose files somebody would make seen while their bytes are being removed."""

    def __init__(self, database: Database, file_id: str) -> None:
        self._database, self._file_id = database, file_id
        self.removed: list[str] = []

    async def delete(self, *names: str) -> None:
        with pytest.raises(RecordsError, match="was not stored in time"):
            await self._database.write(partial(mark_stored, file_id=self._file_id))
        self.removed += names


async def test_nobody_makes_a_file_seen_whose_bytes_are_being_removed(database: Database) -> None:
    file = a_file(created_at=NOW - 2 * 3600)
    await database.write(partial(add_file, record=file, state=FileState.PENDING))
    store: Any = LastMomentStore(database, file.id)
    assert await remove_leftovers(database, store, NOW) == 1
    assert store.removed == [object_name(file.id)]


class FullDisk:
    """A database and a store that share one, on which there is room once a file is removed."""

    def __init__(self, database: Database) -> None:
        self.read, self._write = database.read, database.write
        self.removed: list[str] = []

    async def write(self, action: Any) -> Any:
        if not self.removed:
            raise RecordsFullError("no room left on the disk")
        return await self._write(action)

    async def delete(self, *names: str) -> None:
        self.removed += names


async def test_a_full_disk_gets_room_though_a_file_was_abandoned(database: Database) -> None:
    expired, abandoned = a_file(expires_at=NOW - 1), a_file(created_at=NOW - 2 * 3600)
    for file, state in ((expired, FileState.STORED), (abandoned, FileState.PENDING)):
        await database.write(partial(add_file, record=file, state=state))
    disk: Any = FullDisk(database)
    assert await remove_leftovers(disk, disk, NOW) == 1
    assert await remove_leftovers(disk, disk, NOW) == 1
    assert disk.removed == [object_name(file.id) for file in (expired, abandoned)]
