"""Removing the bytes of files that nobody needs any more: deleted, expired, or half stored."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection

from batch_gateway.errors import RecordsFullError, StorageError, StorageUnavailableError
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import (
    give_up_abandoned,
    leftovers,
    object_name,
    remove_file,
)
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
    if only is None:
        # Before their bytes go: whoever is late with one is told, and nobody sees it without them.
        # Where there is no room even for that, the bytes of others make some.
        with contextlib.suppress(RecordsFullError):
            await database.write(partial(give_up_abandoned, before=now - _PENDING_SECONDS))
    look = partial(leftovers, now=now, only=only)
    while found := await database.read(partial(look, after=after)):
        gone, error = await _delete(storage, found)
        await database.write(partial(_forget, ids=gone))
        removed, resisted = removed + len(gone), error or resisted
        after = found[-1]
    if resisted is not None:
        raise resisted
    return removed


async def _delete(
    storage: Storage, ids: Sequence[str]
) -> tuple[Sequence[str], StorageError | None]:
    """The files whose bytes are gone, and what kept the others. Raises StorageUnavailableError."""
    try:
        await storage.delete(*map(object_name, ids))
    except StorageUnavailableError:
        raise
    except StorageError as error:
        if len(ids) == 1:
            return (), error
        halves = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        (first, one), (second, other) = [await _delete(storage, half) for half in halves]
        return [*first, *second], other or one
    return ids, None


def _forget(connection: Connection, ids: Sequence[str]) -> None:
    for file_id in ids:
        remove_file(connection, file_id)
