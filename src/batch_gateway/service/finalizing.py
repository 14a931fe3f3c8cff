"""The end of a batch: its parts put together to one output and one error file."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from zlib import crc32

from sqlalchemy import Connection

from batch_gateway.engine.result_line import Role
from batch_gateway.errors import BatchGatewayError, StorageError, StorageUnavailableError
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
from batch_gateway.service.parts import Part, role_of_part
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.storage.protocol import Storage, Upload

__all__ = ["Finalizing", "LostResultsError"]

_NAMES = {Role.SUCCESS: "batch_output_{}.jsonl", Role.FAILURE: "batch_error_{}.jsonl"}


class LostResultsError(BatchGatewayError):
    """Results of these shards were registered, and are not in the store any more."""

    def __init__(self, shards: Collection[int]) -> None:
        super().__init__("Results that were stored are lost or damaged.")
        self.shards = shards


class Finalizing:
    """Puts the result files of batches together and ends the batches with them.

    `output_seconds` is how long files are kept where a batch does not say.
    """

    def __init__(self, database: Database, storage: Storage, output_seconds: int) -> None:
        self._database, self._storage = database, storage
        self._output_seconds = output_seconds

    async def finalize(self, job: Job, batch: BatchRecord, now: float) -> BatchRecord:
        """Write the files that have lines, and end the batch in one transaction.

        Returns the batch as it is then. Raises LostResultsError when results are lost, FencedError,
        StorageError and RecordsError; then nothing has changed but files that nobody sees.
        """
        parts = await self._database.read(lambda connection: list_parts(connection, batch.id))
        files: dict[Role, str] = {}
        lost: set[int] = set()
        for role in Role:
            mine = [(shard, part) for shard, part in parts if role_of_part(part.name) is role]
            if mine:
                files[role] = await self._put_together(role, mine, batch, now, lost)
        if lost:
            raise LostResultsError(lost)

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
        self,
        role: Role,
        parts: Sequence[tuple[int, Part]],
        batch: BatchRecord,
        now: float,
        lost: set[int],
    ) -> str:
        """The id of a new file of these parts, which is not seen before the batch has ended.

        Shards whose parts are not what they were go into `lost`, and there is no file then.
        """
        record = FileRecord(
            id=new_id("file"),
            tenant=batch.tenant,
            filename=_NAMES[role].format(batch.id),
            purpose="batch_output",
            bytes=sum(part.bytes for _, part in parts),
            created_at=int(now),
            expires_at=int(now) + (batch.output_seconds or self._output_seconds),
            status="processed",
        )
        await self._database.write(
            lambda connection: add_file(connection, record, FileState.PENDING)
        )
        async with self._storage.upload(object_name(record.id)) as upload:
            for shard, part in parts:
                if not await self._copy(part, upload):
                    lost.add(shard)
            if not lost:
                await upload.commit()
        return record.id

    async def _copy(self, part: Part, upload: Upload) -> bool:
        """Whether the part could be read, and is what was stored."""
        size = checksum = 0
        async with contextlib.aclosing(self._storage.stream(part.name)) as pieces:
            while True:
                try:
                    piece = await anext(pieces, b"")
                except StorageUnavailableError:
                    raise
                except StorageError:
                    return False
                if not piece:
                    return part.is_whole(size, checksum)
                size, checksum = size + len(piece), crc32(piece, checksum)
                await upload.append(piece)
