"""One line for each request, in input order: a result file written anew and put in place at once.

Needed after a crash or `--retry-failed` left two lines for one request, and for `--ordered`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.line_blocks import iter_blocks
from batch_gateway.engine.result_file import ResultFile, lock_exclusively
from batch_gateway.engine.result_line import can_begin_result
from batch_gateway.engine.result_reader import ResultReader
from batch_gateway.errors import JournalError
from batch_gateway.wire.lines import LINE_ID_PREFIX

__all__ = ["leftover_path", "reconcile", "remove_leftover"]

Which = Literal["first", "last"]

_WRITE_BYTES = 1024 * 1024
_LOOK_BYTES = 8192
_ID = LINE_ID_PREFIX.encode()
# Offsets are held for a window of requests at a time, and the file is read once for each window:
# at most eight readings, and 12 bytes for an eighth of the requests.
_MIN_WINDOW = 262_144
_MAX_WINDOWS = 8
_NOWHERE = 0xFFFF_FFFF_FFFF_FFFF


def leftover_path(path: Path) -> Path:
    """Where the new file grows; what a crash leaves there is worthless."""
    return path.with_name(f".{path.name}.rewrite")


def remove_leftover(path: Path) -> None:
    """Remove what a crash left there.

    Raises JournalError for anything else, which is somebody's; and OSError.
    """
    leftover = leftover_path(path)
    try:
        is_file = stat.S_ISREG(leftover.lstat().st_mode)
        beginning = _beginning(leftover) if is_file else b"?"
    except FileNotFoundError:
        return
    # Lines stay as they are, and another program may have put their fields in another order.
    if _ID not in beginning and not can_begin_result(beginning):
        raise JournalError(
            f"{leftover}: is in the place where {path.name} is put in order, and no file of this "
            "program; move it, or choose another output"
        )
    leftover.unlink()


def _beginning(path: Path) -> bytes:
    """The first bytes, without the zeros that a power cut leaves."""
    with path.open("rb") as file:
        return file.read(_LOOK_BYTES).partition(b"\0")[0]


def reconcile(file: ResultFile, reader: ResultReader, keep: Bitmap, which: Which) -> None:
    """Rewrite `file` with exactly the requests in `keep`, one line each, in input order.

    Of several lines for one request the first or the last one stays. The old file remains as it
    is until the new one is safely on disk. Raises OSError and JournalError.
    """
    target = leftover_path(file.path)
    remove_leftover(file.path)
    fd = os.open(target, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Locked before it has the name, so that no other run can slip in between.
        lock_exclusively(fd)
        os.fchmod(fd, stat.S_IMODE(os.fstat(file.fd).st_mode))
        _write(fd, _lines_in_order(file, reader, keep, which))
        os.fsync(fd)
        file.replace(target, fd, len(keep))
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink()
        if file.fd != fd:
            os.close(fd)
        raise


def _lines_in_order(
    file: ResultFile, reader: ResultReader, keep: Bitmap, which: Which
) -> Iterator[bytes]:
    requests = keep.range
    window = max(_MIN_WINDOW, -(-len(requests) // _MAX_WINDOWS))
    for low in range(requests.start, requests.stop, window):
        size = min(window, requests.stop - low)
        offsets = array("Q", [_NOWHERE]) * size
        lengths = array("I", [0]) * size
        for index, offset, length in _places(file, reader):
            place = index - low
            if 0 <= place < size and (which == "last" or offsets[place] == _NOWHERE):
                offsets[place], lengths[place] = offset, length
        for place in range(size):
            if low + place in keep:
                yield file.read(lengths[place], offsets[place])


def _places(file: ResultFile, reader: ResultReader) -> Iterator[tuple[int, int, int]]:
    """(index, offset, length with line break) of every sound line."""
    number = 0
    for start, block in iter_blocks(file.read, end=file.size):
        offset = start
        for line in block.split(b"\n")[:-1]:
            number += 1
            length = len(line) + 1
            index = reader.index_of(line, number)
            if index is not None:
                yield index, offset, length
            offset += length


def _write(fd: int, lines: Iterator[bytes]) -> None:
    buffer = bytearray()
    for line in lines:
        buffer += line
        if len(buffer) >= _WRITE_BYTES:
            _write_all(fd, buffer)
            buffer.clear()
    _write_all(fd, buffer)


def _write_all(fd: int, data: bytearray) -> None:
    written = 0
    with memoryview(data) as view:
        while written < len(view):
            written += os.write(fd, view[written:])
