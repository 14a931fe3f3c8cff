"""The end of a batch: its parts put together to one output and one error file."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple
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

# A store takes its time to begin with an object. Larger ones than these pass by in pieces.
_READ_AHEAD, _READ_WHOLE = 4, 2 * 1024 * 1024
_NAMES = {Role.SUCCESS: "batch_output_{}.jsonl", Role.FAILURE: "batch_error_{}.jsonl"}


class LostResultsError(BatchGatewayError):
    """Results of these shards were registered, and are not in the store any more."""

    def __init__(self, shards: Collection[int]) -> None:
        super().__init__("Results that were stored are lost or damaged.")
        self.shards = shards


class _ResultFile(NamedTuple):
    """One that is being written."""

    role: Role
    id: str
    size: int
    upload: Upload


class Finalizing:
    """Puts the result files of batches together and ends the batches with them.

    `output_seconds` is how long files are kept where a batch does not say, and `now` the time in
    seconds since the epoch.
    """

    def __init__(
        self, database: Database, storage: Storage, output_seconds: int, now: Callable[[], float]
    ) -> None:
        self._database, self._storage = database, storage
        self._output_seconds, self._now = output_seconds, now

    async def finalize(self, job: Job, batch: BatchRecord) -> BatchRecord:
        """Write the files that have lines, and end the batch in one transaction.

        Returns the batch as it is then. Raises LostResultsError when results are lost, FencedError,
        StorageError and RecordsError; then nothing has changed but files that nobody sees.
        """
        parts = await self._database.read(lambda connection: list_parts(connection, batch.id))
        async with contextlib.AsyncExitStack() as stack:
            files: list[_ResultFile] = []
            lost: set[int] = set()
            for role in Role:
                mine = [(shard, part) for shard, part in parts if role_of_part(part.name) is role]
                if not mine:
                    continue
                file_id, size = new_id("file"), sum(part.bytes for _, part in mine)
                opened = self._storage.upload(object_name(file_id))
                upload = await stack.enter_async_context(opened)
                files.append(_ResultFile(role, file_id, size, upload))
                lost |= await self._copy_all(mine, upload)
            if lost:
                raise LostResultsError(lost)
            await self._commit(batch, files)
        ended = await self._database.write(partial(_end, job=job, files=files, now=self._now()))
        # What stays is removed later: see `remove_all_working_objects`.
        with contextlib.suppress(StorageError):
            await remove_working_objects(self._storage, batch.id)
        return ended

    async def _commit(self, batch: BatchRecord, files: Sequence[_ResultFile]) -> None:
        """Make the files durable. Their records come first, and not before all has been copied:
        what has been pending for long is taken for abandoned."""
        now = int(self._now())
        records = [
            FileRecord(
                id=file.id,
                tenant=batch.tenant,
                filename=_NAMES[file.role].format(batch.id),
                purpose="batch_output",
                bytes=file.size,
                created_at=now,
                expires_at=now + (batch.output_seconds or self._output_seconds),
                status="processed",
            )
            for file in files
        ]

        def add(connection: Connection) -> None:
            for record in records:
                add_file(connection, record, FileState.PENDING)

        await self._database.write(add)
        for file in files:
            await file.upload.commit()

    async def _copy_all(self, parts: Sequence[tuple[int, Part]], upload: Upload) -> set[int]:
        """The shards of those that could not be read, or are not what was stored."""
        lost: set[int] = set()
        ahead = deque[asyncio.Task[bytes | None]]()
        to_read = iter(parts)
        try:
            for shard, part in parts:
                for _, next_one in islice(to_read, _READ_AHEAD - len(ahead)):
                    ahead.append(asyncio.create_task(self._read(next_one)))
                data = await ahead.popleft()
                if data is not None:
                    await upload.append(data)
                elif part.bytes <= _READ_WHOLE or not await self._copy(part, upload.append):
                    lost.add(shard)
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        return lost

    async def _read(self, part: Part) -> bytes | None:
        """What is in the part; None of a large one, and of what is not what was stored."""
        pieces: list[bytes] = []

        async def keep(piece: bytes) -> None:
            pieces.append(piece)

        is_whole = part.bytes <= _READ_WHOLE and await self._copy(part, keep)
        return b"".join(pieces) if is_whole else None

    async def _copy(self, part: Part, take: Callable[[bytes], Awaitable[None]]) -> bool:
        """Whether the part could be read, and is what was stored; `take` gets it in pieces."""
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
                await take(piece)


def _end(connection: Connection, job: Job, files: Sequence[_ResultFile], now: float) -> BatchRecord:
    finish(connection, job)
    for file in files:
        mark_stored(connection, file.id)
    ids = {file.role: file.id for file in files}
    return record_event(
        connection,
        job.batch_id,
        BatchEvent.WRITTEN,
        now,
        output_file_id=ids.get(Role.SUCCESS),
        error_file_id=ids.get(Role.FAILURE),
        notice=None,
    )
