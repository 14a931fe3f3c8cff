"""Standard input as a file that can be read twice."""

from __future__ import annotations

import os
from typing import BinaryIO, cast

from batch_gateway.errors import InputError

__all__ = ["spool"]

_CHUNK_BYTES = 1024 * 1024


def spool(stream: BinaryIO, directory: str | os.PathLike[str] | None = None) -> BinaryIO:
    """Copy `stream` to a nameless temporary file, which vanishes when it is closed.

    `directory` needs room for the whole input; None takes the system's temporary folder. Give
    the result to `make_plan`. Raises InputError when it cannot be written or read.
    """
    # Loaded with the compressions of archives, which only standard input is worth.
    import shutil  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    try:
        target = cast("BinaryIO", tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 - the caller closes it
    except OSError as error:
        where = tempfile.gettempdir() if directory is None else os.fspath(directory)
        raise InputError(f"standard input cannot be kept in {where}: {error.strerror}") from error
    try:
        shutil.copyfileobj(stream, target, _CHUNK_BYTES)
        target.flush()
    except OSError as error:
        target.close()
        raise InputError(f"standard input cannot be kept on disk: {error.strerror}") from error
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target
