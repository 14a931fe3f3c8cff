"""The input file of a batch, where its lines are read from."""

from __future__ import annotations

from batch_gateway.engine.source import FileSource, Source
from batch_gateway.errors import InputError
from batch_gateway.service.file_records import object_name
from batch_gateway.storage.protocol import Storage

__all__ = ["open_input"]


def open_input(storage: Storage, file_id: str) -> Source:
    """The lines of a file in the store. Raises InputError when it is not there."""
    path = storage.local_path(object_name(file_id))
    if path is None:
        raise InputError("the store has no local files")
    try:
        source = FileSource.open(path)
    except InputError as error:
        # Where the store is does not concern those whose batch it is.
        raise InputError(str(error).replace(str(path), "the input file")) from error
    source.name = "the input file"
    return source
