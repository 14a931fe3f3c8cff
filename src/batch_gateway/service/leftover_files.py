"""Removing the bytes of files that nobody needs any more: deleted, expired, or half stored."""

from __future__ import annotations

from functools import partial
from typing import Final

from batch_gateway.errors import StorageError
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import leftovers, object_name, remove_file
from batch_gateway.storage.protocol import Storage

__all__ = ["remove_leftovers"]

# Longer than any store takes to make an object visible.
_PENDING_SECONDS: Final = 3600.0


async def remove_leftovers(
    database: Database, storage: Storage, now: float, *, only: str | None = None
) -> int:
    """Remove what is left over, or `only` this file if it is; how many files that were.

    Killed at any moment it has lost nothing: the record of a file goes after its bytes. A file
    that resists keeps none of the others. Raises RecordsError, and StorageError behind the last.
    """
    removed, after = 0, ""
    resisted: StorageError | None = None
    look = partial(leftovers, now=now, pending_seconds=_PENDING_SECONDS, only=only)
    while found := await database.read(partial(look, after=after)):
        for file_id in found:
            try:
                await storage.delete(object_name(file_id))
            except StorageError as error:
                resisted = error
            else:
                await database.write(partial(remove_file, file_id=file_id))
                removed += 1
        after = found[-1]
    if resisted is not None:
        raise resisted
    return removed
