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
_WRITE_AHEAD = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_NOTHING_YET = bytes(4)
# What SQLite keeps beside a database, and how it begins (https://www.sqlite.org/fileformat2.html,
# 3.1 and 4.1, and walformat.html, 2.1). What begins otherwise it would overwrite or delete.
_BESIDE = {
    "-wal": (*_WRITE_AHEAD, _NOTHING_YET),
    "-shm": (b"\x18\xe2\x2d\0", b"\0\x2d\xe2\x18", _NOTHING_YET),
    "-journal": (b"\xd9\xd5\x05\xf9", _NOTHING_YET),
}


def check_place(path: Path) -> None:
    """Raises ConfigError for a place where no file can be, or where something else is.

    A cache that a crash has damaged is set aside by whoever opens it. It is known by its first
    page or, where that is lost, by the log of what was being written, which a crash leaves behind.
    """
    try:
        if not path.parent.is_dir():
            raise ConfigError("cache.path", f"there is no folder {path.parent}")
        if path.is_dir():
            raise ConfigError("cache.path", f"{path} is a folder; give the path of a file")
        with _lock:
            if path.exists() and _id_of(path) in _occupied:
                return
            problem = _what_else(path)
    except OSError as error:
        raise ConfigError("cache.path", f"{path}: {error.strerror}") from error
    if problem:
        raise ConfigError("cache.path", problem)


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


def _what_else(path: Path) -> str:
    """Which file would be lost if this were made a cache, in words; empty when there is none."""
    for ending, beginnings in _BESIDE.items():
        beside = path.with_name(path.name + ending)
        start = _start_of(beside, 4)
        if start and start not in beginnings:
            return f"{beside} is in its way, and is not what SQLite keeps there; name another"
    start = _start_of(path, 100)
    if not start:
        return ""
    if start.startswith(_MAGIC):
        # Ours gets its name and its first table at once; most programs give their files no name.
        tables, owner = (int.from_bytes(start[at : at + 4], "big") for at in (40, 68))
        is_ours = owner == APPLICATION_ID or (owner == 0 and tables == 0)
        return "" if is_ours else f"{path} is another program's database, not an answer cache"
    if _start_of(path.with_name(f"{path.name}-wal"), 4) in _WRITE_AHEAD:
        return ""
    if not _NOT_IN_TEXT.intersection(start):
        return f"{path} is a text file, not an answer cache"
    return f"{path} is not an answer cache; name another, or delete it if it was a damaged one"


def _start_of(path: Path, size: int) -> bytes:
    """The first bytes of a file, none when there is no such file."""
    try:
        if not path.is_file():
            return b"" if not path.exists() else b"?"
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""
