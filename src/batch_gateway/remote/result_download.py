"""A file of a server, brought to disk: with resume, and all of it or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from batch_gateway.engine.result_file import sync_directory
from batch_gateway.errors import BadResponseError, InferenceError, JournalError
from batch_gateway.remote.batch_server import BatchServer
from batch_gateway.remote.outage import Outage

__all__ = ["check_target", "download"]

Progress = Callable[[int, int | None], None]
"""Told (bytes here, bytes in all or None)."""

_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/(?:([0-9]{1,18})|\*)", re.ASCII)


def check_target(target: Path) -> Path:
    """Where a download to `target` goes, which is elsewhere when that is a link.

    Raises JournalError for a place where a download would destroy something, or cannot be.
    """
    try:
        if target.is_dir():
            raise JournalError(f"{target} is a folder; give the name of a file")
        if target.exists() and not target.is_file():
            # A device or a pipe, whose place the download would take.
            raise JournalError(f"{target} is not a regular file; name one that is, or a new one")
        if target.exists() and target.stat().st_size:
            raise JournalError(f"{target} is there already: remove it, or name another file")
    except OSError as error:
        raise _unwritable(target, error) from error
    if not target.parent.is_dir():
        raise JournalError(f"{target}: there is no folder {target.parent}")
    return Path(os.path.realpath(target))


async def download(
    server: BatchServer, file_id: str, target: Path, outage: Outage, on_progress: Progress
) -> None:
    """Bring the file to `target`.

    What has come stands beside it under a hidden name until it is whole, and is gone on with by
    the next download of the same file to the same place; servers without ranges send all of it
    again. Raises JournalError, and InferenceError once the outage has lasted too long.
    """
    target = check_target(target)
    # Whoever may choose a server's ids shall not choose a name here.
    digest = hashlib.sha256(f"{server.url}\0{file_id}".encode()).hexdigest()[:12]
    part = target.with_name(f".{target.name}.{digest}.part")
    with _opened(part, target) as fd:
        fetching = _Fetching(server, file_id, fd, outage, on_progress)
        while not fetching.is_whole:
            try:
                await fetching.go_on()
            except InferenceError as error:
                await outage.wait_out(error)
        os.fsync(fd)
        part.replace(target)
        sync_directory(target)


@contextlib.contextmanager
def _opened(part: Path, target: Path) -> Generator[int]:
    """The part file, held against other processes; OSErrors within become JournalErrors."""
    fd = -1
    try:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    except BlockingIOError as error:
        raise JournalError(f"{target}: another command is downloading to it") from error
    except InferenceError:  # some of which are OSErrors
        raise
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        if fd >= 0:
            os.close(fd)


class _Fetching:
    """One download into an open file. An outage is over when it is further than ever before."""

    def __init__(
        self, server: BatchServer, file_id: str, fd: int, outage: Outage, on_progress: Progress
    ) -> None:
        self.is_whole = False
        self._server, self._file_id, self._fd = server, file_id, fd
        self._outage, self._on_progress = outage, on_progress
        self._most = os.fstat(fd).st_size

    async def go_on(self) -> None:
        """One question. Raises InferenceError, with what came kept, and OSError."""
        have = os.fstat(self._fd).st_size
        async with self._server.content(self._file_id, have) as answer:
            start, total = placed(answer.status_code, answer.headers, have)
            if start < have:
                os.ftruncate(self._fd, start)
            end = start
            while answer.status_code != 416 and (piece := await answer.read()):
                _write(self._fd, piece, end)
                end += len(piece)
                self._on_progress(end, total)
                if end > self._most:
                    self._most = end
                    self._outage.answered()
        self.is_whole = total is None or end == total
        if not self.is_whole and answer.status_code == 206 and end == start:
            raise BadResponseError("the server answered with a range of no bytes")


def placed(status: int, headers: Mapping[str, str], have: int) -> tuple[int, int | None]:
    """Where the bytes of an answer belong, and how many there are in all if it says so.

    `have` bytes were there when it was asked for the rest. Raises BadResponseError for a range
    that leaves a hole.
    """
    if status == 200:
        length = headers.get("content-length", "")
        return 0, int(length) if length.isdecimal() else None
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    start, total = (found[1], found[2]) if found else (None, None)
    if status == 416:
        # Behind its end: whole if that is where we are, and of another file if not.
        return (have, have) if total and int(total) == have else (0, -1)
    if start is None or int(start) > have:
        raise BadResponseError("the server answered with another range than was asked for")
    return int(start), int(total) if total else None


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _unwritable(target: Path, error: OSError) -> JournalError:
    return JournalError(f"{target} cannot be written: {error.strerror or error}")
