"""The input file of a batch, where its lines are read from."""

from __future__ import annotations

from batch_gateway.engine.source import FileSource, Source
from batch_gateway.errors import InputError, NotStoredError
from batch_gateway.service.file_records import object_name
from batch_gateway.storage.protocol import Storage

__all__ = ["open_input"]


async def open_input(
    storage: Storage, file_id: str, start: int = 0, end: int | None = None
) -> Source:
    """The lines of a file in the store, of which those from byte `start` to `end` will be read.

    Raises InputError when it is not there, and StorageError.
    """
    try:
        fd = await storage.open_local(object_name(file_id), start, end)
    except NotStoredError as error:
        # Where the store is does not concern those whose batch it is.
        raise InputError("the input file is not there any more") from error
    return FileSource(fd, "the input file")
