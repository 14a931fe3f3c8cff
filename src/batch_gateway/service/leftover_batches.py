"""Removing what nobody needs of batches that have ended: working objects, and old records."""

from __future__ import annotations

from functools import partial
from typing import Final

from batch_gateway.errors import StorageError, StorageUnavailableError
from batch_gateway.service.batch_records import remove_ended_before, statuses_of
from batch_gateway.service.database import Database
from batch_gateway.service.parts import BATCHES, batch_folder
from batch_gateway.service.statuses import ENDED
from batch_gateway.storage.protocol import Storage

__all__ = ["remove_all_working_objects", "remove_old_batches", "remove_working_objects"]

_ASKED_FOR_AT_ONCE: Final = 500


async def remove_old_batches(database: Database, now: float, lifetime: float | None) -> int:
    """Forget batches that ended more than `lifetime` seconds ago, None for none; how many.

    Their result files live as long as files do. Raises RecordsError.
    """
    removed = 0
    while lifetime is not None:
        found = await database.write(partial(remove_ended_before, moment=now - lifetime))
        removed += found
        if not found:
            break
    return removed


async def remove_working_objects(storage: Storage, batch_id: str) -> None:
    """Remove the parts and plans of a batch. Raises StorageError."""
    stored = await storage.list(f"{batch_folder(batch_id)}/")
    await storage.delete(*(one.name for one in stored))


async def remove_all_working_objects(
    database: Database, storage: Storage, *, only: str | None = None
) -> int:
    """Remove the parts and plans of batches that have ended or are forgotten; of how many.

    With `only` those of this batch, if it has.

    Who ends a batch removes them; there are more only when that was killed, or when somebody wrote
    who had not heard of the end. A batch whose objects resist keeps none of the others. Raises
    RecordsError, and StorageError behind the last.
    """
    resisted: StorageError | None = None
    # A batch has its record before its first object, so that one without is not a new one.
    found = await storage.folders(f"{BATCHES}/") if only is None else [only]
    removed = 0
    for start in range(0, len(found), _ASKED_FOR_AT_ONCE):
        ids = found[start : start + _ASKED_FOR_AT_ONCE]
        statuses = await database.read(partial(statuses_of, ids=ids))
        over = [one for one in ids if one not in statuses or statuses[one] in ENDED]
        for batch_id in over:
            try:
                await remove_working_objects(storage, batch_id)
                removed += 1
            except StorageUnavailableError:
                raise
            except StorageError as error:
                resisted = error
    if resisted is not None:
        raise resisted
    return removed
