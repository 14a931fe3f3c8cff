"""Writing a file so that whoever opens it sees the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import IO

from batch_gateway.engine.result_file import sync_directory

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Generator[IO[bytes]]:
    """A file that stands at `path`, or where that link leads, once it is whole.

    Raises OSError; that and whatever is raised within leave what was there.
    """
    import tempfile  # noqa: PLC0415 - slow to load, and most runs write no such file

    target = Path(os.path.realpath(path))
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(fd)
        temporary.chmod(_usual_mode(target))
        temporary.replace(target)
        sync_directory(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _usual_mode(target: Path) -> int:
    """That of the file which is replaced, or of any new one: a temporary file is for its owner."""
    if target.exists():
        return target.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
