"""A file of result lines that only one run may write, and that never keeps half a line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
from pathlib import Path

from batch_gateway.errors import JournalError

__all__ = [
    "ResultFile",
    "TakenAwayError",
    "lock_exclusively",
    "no_folder",
    "open_result_file",
    "sync_directory",
]

_NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
_FILE_MODE = 0o666


_MOVED = "moved to another name", "put it back and run the same command again"
_GONE = "removed or replaced", "the same command sends the lines again whose results were in it"
_NO_FOLDER = (
    "removed with its folder",
    "make the folder again; then the same command sends all again",
)
_CUT = "cut short", "the same command sends the lines again whose results are missing"
_SHARED = (
    "written to by another program",
    "stop that, take out what is no result, and run the same command again",
)


class TakenAwayError(OSError):
    """Somebody else removed, moved, replaced or changed the file while a run wrote to it.

    Attributes:
        advice: how to go on.
    """

    def __init__(self, name: str, what: str, advice: str) -> None:
        super().__init__(errno.ESTALE, f"was {what} while the run wrote to it", name)
        self.advice = advice


class ResultFile:
    """An open, locked file. Its methods block; they are meant for a thread.

    Attributes:
        name: as the user wrote it, for messages.
        path: with symbolic links resolved, so that replacing it leaves the links alone.
        size: bytes, always at the end of a whole line once the file was scanned.
        lines: how many lines it holds.
        created: this run made it.
        had_content: it was not empty when it was opened.
    """

    def __init__(self, name: str, path: Path, fd: int, *, created: bool) -> None:
        self.name = name
        self.path = path
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.had_content = self.size > 0
        self.lines = 0
        self.created = created

    def append(self, data: bytes, lines: int) -> None:
        """Write so many whole lines. When that fails, what remains in the file still ends with one.

        Raises OSError; `size` and `lines` then tell what was kept.
        """
        written = 0
        try:
            with memoryview(data) as view:
                while written < len(data):
                    written += os.write(self.fd, view[written:])
        except OSError as error:
            error.filename = self.name
            written = data.rfind(b"\n", 0, written) + 1
            lines = data.count(b"\n", 0, written)
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size + written)
            raise
        finally:
            self.size += written
            self.lines += lines

    def read(self, length: int, offset: int) -> bytes:
        """So many bytes from `offset`, or as many as there are. Raises OSError."""
        return os.pread(self.fd, length, offset)

    def cut(self, size: int) -> None:
        """Drop everything after the first `size` bytes."""
        os.ftruncate(self.fd, size)
        self.size = size

    def sync(self) -> None:
        """Return once the device has everything."""
        os.fsync(self.fd)

    def check(self, *, writing: bool = False) -> None:
        """Raises TakenAwayError when somebody else laid hands on the file.

        While another thread is `writing`, the file may be longer than `size`. An empty one that
        is gone is no loss.
        """
        size = self.size  # before the look at the file, which may grow meanwhile
        state = os.fstat(self.fd)
        if size and not _is_still_at(self.path, self.fd):
            gone = _GONE if self.path.parent.is_dir() else _NO_FOLDER
            raise TakenAwayError(self.name, *(_MOVED if state.st_nlink else gone))
        if state.st_size < size:
            raise TakenAwayError(self.name, *_CUT)
        if state.st_size > size and not writing:
            raise TakenAwayError(self.name, *_SHARED)

    @property
    def is_gone(self) -> bool:
        """Whether the file has no name any more, so that nobody can read what is in it."""
        return os.fstat(self.fd).st_nlink == 0

    def replace(self, new: Path, new_fd: int, lines: int) -> None:
        """Put the locked file `new` in this one's place, atomically. Raises OSError."""
        self.check()
        new.rename(self.path)
        old, self.fd = self.fd, new_fd
        self.size = os.fstat(new_fd).st_size
        self.lines = lines
        os.close(old)
        sync_directory(self.path)

    def close(self, *, remove_if_empty: bool = False) -> None:
        """Unlock and close; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        with contextlib.suppress(OSError):
            # Another file may have this name by now, and this one may have been written to.
            if remove_if_empty and not os.fstat(fd).st_size and _is_still_at(self.path, fd):
                self.path.unlink()
        os.close(fd)


def no_folder(folder: Path) -> str:
    """That a folder for results is not there, and what to do about it."""
    return f"the folder {folder} does not exist: mkdir -p {shlex.quote(str(folder))}"


def open_result_file(name: str | os.PathLike[str]) -> ResultFile:
    """Open or create a result file and lock it. Raises JournalError in the user's words."""
    shown = os.fspath(name)
    path = Path(os.path.realpath(shown))
    try:
        while True:
            file = _open_locked(shown, path)
            if file is not None:
                return file
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            reason = no_folder(path.parent)
        raise JournalError(f"{shown}: cannot be opened for writing: {reason}") from error


def _open_locked(shown: str, path: Path) -> ResultFile | None:
    created = True
    try:
        fd = os.open(path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except FileExistsError:
        if not stat.S_ISREG(path.stat().st_mode):
            raise JournalError(
                f"{shown}: is not a regular file; the results are also the record of what is "
                "done, so they need one"
            ) from None
        fd = os.open(path, _OPEN_FLAGS)
        created = False
    try:
        if not lock_exclusively(fd):
            raise JournalError(
                f"{shown}: another run is writing to it; wait for it, or choose another output"
            )
        # The run that held the lock may have put a new file in its place meanwhile.
        if _is_still_at(path, fd):
            if created:
                sync_directory(path)
            return ResultFile(shown, path, fd, created=created)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def lock_exclusively(fd: int) -> bool:
    """Whether the file is ours now. File systems without locks always say yes."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return True


def _is_still_at(path: Path, fd: int) -> bool:
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return os.path.samestat(there, os.fstat(fd))


def sync_directory(path: Path) -> None:
    """Make the name of `path` survive a power cut, where the file system can."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)
