"""Whether a cache can be where the user wants it, before SQLite opens anything there.

A process that closes a file loses all its locks on it, also those that SQLite has through another
descriptor (https://www.sqlite.org/howtocorrupt.html, 2.2). So nothing here opens a file that a
store of this process has open.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from batch_gateway.errors import ConfigError

__all__ = ["APPLICATION_ID", "FileId", "check_place", "occupy", "vacate"]

FileId = tuple[int, int]
"""Device and inode: the file itself, whatever its name is by now."""

_lock = threading.Lock()
_occupied: Counter[FileId] = Counter()

APPLICATION_ID = 0x62676368
"""In the header of the file, "bgch": tells our databases from those of others."""

_MAGIC = b"SQLite format 3\0"
_NOT_IN_TEXT = frozenset({*range(32), 127} - set(b"\t\n\r\f\x1b"))


def check_place(path: Path) -> None:
    """Raises ConfigError for a place where no file can be, or where something else is.

    A cache that a crash has left in a bad state starts with zeros or with anything; text and the
    databases of others do not come about that way, and are not ours to set aside.
    """
    try:
        if not path.parent.is_dir():
            raise ConfigError("cache.path", f"there is no folder {path.parent}")
        if path.is_dir():
            raise ConfigError("cache.path", f"{path} is a folder; give the path of a file")
        with _lock:
            known = not path.exists() or _id_of(path) in _occupied
            owner = "" if known else _owner(path)
    except OSError as error:
        raise ConfigError("cache.path", f"{path}: {error.strerror}") from error
    if owner:
        raise ConfigError("cache.path", f"{path} is {owner}, not an answer cache")


def occupy(path: Path) -> FileId:
    """Before SQLite opens it: make the file, for its owner alone, unless it is there.

    To be followed by `vacate` after SQLite has closed it. Raises OSError.
    """
    with _lock:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        file = _id_of(path)
        _occupied[file] += 1
        return file


def vacate(file: FileId) -> None:
    with _lock:
        _occupied[file] -= 1
        if not _occupied[file]:
            del _occupied[file]


def _id_of(path: Path) -> FileId:
    found = path.stat()
    return found.st_dev, found.st_ino


def _owner(path: Path) -> str:
    """What a file is when it is not a cache, damaged or not; else empty."""
    with path.open("rb") as file:
        start = file.read(100)
    if start.startswith(_MAGIC):
        # Ours gets its name and its first table at once; most programs give their files no name.
        tables, owner = (int.from_bytes(start[at : at + 4], "big") for at in (40, 68))
        is_ours = owner == APPLICATION_ID or (owner == 0 and tables == 0)
        return "" if is_ours else "another program's database"
    # Random bytes, as a crash may leave them, are hardly ever without a control character.
    return "a text file" if start and not _NOT_IN_TEXT.intersection(start) else ""
