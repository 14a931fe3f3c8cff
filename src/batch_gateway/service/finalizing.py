"""The end of a batch: its parts put together to one output and one error file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from sqlalchemy import Connection

from batch_gateway.engine.result_line import Role
from batch_gateway.errors import StorageError
from batch_gateway.service.batch_records import BatchRecord, record_event
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import (
    FileRecord,
    FileState,
    add_file,
    mark_stored,
    object_name,
)
from batch_gateway.service.ids import new_id
from batch_gateway.service.job_records import Job, finish, list_parts
from batch_gateway.service.leftover_batches import remove_working_objects
from batch_gateway.service.parts import role_of_part
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.storage.protocol import Storage

__all__ = ["Finalizing"]

_NAMES = {Role.SUCCESS: "batch_output_{}.jsonl", Role.FAILURE: "batch_error_{}.jsonl"}


class Finalizing:
    """Puts the result files of batches together and ends the batches with them.

    `output_seconds` is how long files are kept where a batch does not say.
    """

    def __init__(self, database: Database, storage: Storage, output_seconds: int) -> None:
        self._database, self._storage = database, storage
        self._output_seconds = output_seconds

    async def finalize(self, job: Job, batch: BatchRecord, now: float) -> BatchRecord:
        """Write the files that have lines, and end the batch in one transaction.

        Returns the batch as it is then. Raises FencedError, StorageError and RecordsError; then
        nothing has changed but files that nobody sees.
        """
        parts = await self._database.read(lambda connection: list_parts(connection, batch.id))
        files: dict[Role, str] = {}
        for role in Role:
            names = [name for name in parts if role_of_part(name) is role]
            if names:
                files[role] = await self._put_together(role, names, batch, now)

        def end(connection: Connection) -> BatchRecord:
            finish(connection, job)
            for file_id in files.values():
                mark_stored(connection, file_id)
            return record_event(
                connection,
                batch.id,
                BatchEvent.WRITTEN,
                now,
                output_file_id=files.get(Role.SUCCESS),
                error_file_id=files.get(Role.FAILURE),
                notice=None,
            )

        ended = await self._database.write(end)
        # What stays is removed later: see `remove_all_working_objects`.
        with contextlib.suppress(StorageError):
            await remove_working_objects(self._storage, batch.id)
        return ended

    async def _put_together(
        self, role: Role, names: Sequence[str], batch: BatchRecord, now: float
    ) -> str:
        """The id of a new file of these parts, which is not seen before the batch has ended."""
        size = 0
        for name in names:
            size += await self._storage.size(name)
        record = FileRecord(
            id=new_id("file"),
            tenant=batch.tenant,
            filename=_NAMES[role].format(batch.id),
            purpose="batch_output",
            bytes=size,
            created_at=int(now),
            expires_at=int(now) + (batch.output_seconds or self._output_seconds),
            status="processed",
        )
        await self._database.write(
            lambda connection: add_file(connection, record, FileState.PENDING)
        )
        async with self._storage.upload(object_name(record.id)) as upload:
            for name in names:
                async for piece in self._storage.stream(name):
                    await upload.append(piece)
            await upload.commit()
        return record.id
