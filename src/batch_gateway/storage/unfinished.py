"""A file that has no name of its own yet: written aside, synced, and then put in its place.

Each is locked by the process that writes it, and the system unlocks it when that process dies, so
that whoever comes next knows the abandoned ones and removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from typing import Self

__all__ = ["UnfinishedFile", "remove_abandoned", "sync_folder"]

_MADE_AGAIN = 100


class UnfinishedFile:
    """A temporary file in `folder`. All methods block, and raise OSError."""

    def __init__(self, folder: Path) -> None:
        # Between its making and its locking a file looks abandoned to others, who may remove it.
        for _ in range(_MADE_AGAIN):
            self._path = folder / secrets.token_hex(16)
            self._fd = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self._fd).st_nlink:
                    return
            self.close()
        raise BlockingIOError(f"{folder} is being cleared without end")

    def write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def become(self, target: Path, root: Path, *, replace: bool) -> bool:
        """Make the file durable as `target`, in folders below `root` that are made as needed.

        Without `replace` it is False when `target` is there, which then stays.
        """
        os.fsync(self._fd)
        for _ in range(_MADE_AGAIN):
            try:
                _make_folders(target.parent, root)
                if replace:
                    self._path.replace(target)
                else:
                    target.hardlink_to(self._path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                # Somebody removed the last object of the folder, and the folder.
                continue
            # Somebody may have removed this very object, and its folder, by now.
            with contextlib.suppress(FileNotFoundError):
                sync_folder(target.parent)
            return True
        raise FileNotFoundError(f"the folder of {target.name} is being removed without end")

    def close(self) -> None:
        """Give the file up, unless it has become something. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files of processes that are no more."""
    for path in folder.iterdir():
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in `folder` outlives a loss of power."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_folders(folder: Path, root: Path) -> None:
    missing: list[Path] = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True, mode=0o700)
        sync_folder(made.parent)
