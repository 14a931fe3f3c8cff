"""Where the lines of a batch are read from: a file, bytes in memory, or a byte range of either."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from typing import BinaryIO, Protocol, cast

from batch_gateway.engine.line_blocks import LineTooLongError, iter_blocks
from batch_gateway.errors import InputError
from batch_gateway.wire.json_check import BYTE_ORDER_MARK

__all__ = ["BytesSource", "FileSource", "RangeSource", "Source", "changed", "numbered_lines"]

_COPY_BYTES = 1024 * 1024
# Lines are mostly read in the order of the file. Asking the system twice for each, for its bytes
# and whether the file changed, would take a twentieth of the CPU of a run.
_LINES_AHEAD = 16
_AHEAD_BYTES = 64 * 1024


class Source(Protocol):
    """Bytes that stay as they are, to be read more than once and from any place."""

    @property
    def name(self) -> str:
        """What to call them in messages."""
        ...

    def size(self) -> int:
        """How many bytes there are."""
        ...

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Pairs (offset, block of whole lines) that together are the bytes from `start` to `end`.

        The last block need not end with a line break. Raises InputError when the bytes changed or
        cannot be read, and LineTooLongError.
        """
        ...

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Raises InputError as `blocks` does."""
        ...

    def is_file(self, state: os.stat_result) -> bool:
        """Whether it is the local file of this `os.stat`, which then must not be written to."""
        ...

    def close(self) -> None:
        """Give back what it holds. A second call does nothing."""
        ...


def numbered_lines(source: Source) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, where it begins, the line with its break) of each.

    A byte order mark before the first belongs to none. Raises InputError as `blocks` does, and for
    a line that is too long.
    """
    number = 0
    try:
        for offset, block in source.blocks():
            text = block if offset else block.removeprefix(BYTE_ORDER_MARK)
            end = offset + len(block) - len(text)
            for number, line in enumerate(io.BytesIO(text), number + 1):  # noqa: B020
                start, end = end, end + len(line)
                yield number, start, line
    except LineTooLongError as error:
        raise InputError(f"{source.name}: the line at byte {error.offset:,} is too long") from error


def changed(name: str) -> InputError:
    """The error for an input that is not what it was when its plan was made."""
    return InputError(
        f"{name} changed while it was running: put the old content back and run the "
        "same command again, or run the new content with another output"
    )


class FileSource:
    """A local file, held open; made by `open`, `spool` or `keep`.

    Attributes:
        origin: what its lines were made of, which closes with it.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self.origin: Source | None = None
        self._fd = fd
        state = os.fstat(fd)
        self._size, self._modified_ns = state.st_size, state.st_mtime_ns
        # The place and the bytes of what was read ahead, and the end of what was asked for last.
        self._ahead = 0, b""
        self._asked_to = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FileSource:
        """The file at `path`; a pipe is read to its end, and kept. Raises InputError."""
        name = os.fspath(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            mode = os.fstat(fd).st_mode
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from error
        if stat.S_ISREG(mode):
            return cls(fd, name)
        if stat.S_ISDIR(mode):
            os.close(fd)
            raise InputError(f"{name} is a directory: name a file of JSON lines")
        # A pipe (`<(zcat file)`) can be read only once, and is wanted twice.
        with os.fdopen(fd, "rb") as stream:
            return cls.spool(stream, name)

    @classmethod
    def spool(
        cls,
        stream: BinaryIO,
        name: str = "standard input",
        directory: str | os.PathLike[str] | None = None,
    ) -> FileSource:
        """All of `stream`; see `keep`."""
        return cls.keep(iter(partial(stream.read, _COPY_BYTES), b""), name, directory)

    @classmethod
    def keep(
        cls,
        chunks: Iterable[bytes],
        name: str,
        directory: str | os.PathLike[str] | None = None,
    ) -> FileSource:
        """All these bytes, in a nameless temporary file that vanishes with the source.

        `directory` needs room for it; None takes the system's temporary folder. Raises InputError
        when it cannot be written, or what `chunks` come from not read.
        """
        # Loaded with the compressions of archives, which few inputs are worth.
        import tempfile  # noqa: PLC0415

        try:
            copy = cast("BinaryIO", tempfile.TemporaryFile(dir=directory))  # noqa: SIM115
        except OSError as error:
            where = tempfile.gettempdir() if directory is None else os.fspath(directory)
            raise InputError(f"{name} cannot be kept in {where}: {error.strerror}") from error
        with copy:
            try:
                copy.writelines(chunks)
                copy.flush()
                return cls(os.dup(copy.fileno()), name)
            except OSError as error:
                raise InputError(f"{name} cannot be kept on disk: {error.strerror}") from error

    def size(self) -> int:
        return self._size

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        # Not to the end of the file, which may move on for ever.
        yield from iter_blocks(self._pread, start, self._size if end is None else end)
        if not self._is_unchanged():
            raise InputError(
                f"{self.name} changed while it was being read: is it still being written?"
            )

    def read(self, start: int, end: int) -> bytes:
        place, ahead = self._ahead
        skipped, self._asked_to = start - self._asked_to, end
        if skipped >= 0 and place <= start and end <= place + len(ahead):
            return ahead[start - place : end - place]
        length = end - start
        ahead_bytes = min(length * _LINES_AHEAD, _AHEAD_BYTES)
        wanted = max(length, ahead_bytes) if 0 <= skipped < ahead_bytes else length
        data = self._pread(wanted, start)
        if not self._is_unchanged():
            raise changed(self.name)
        if wanted > length:
            self._ahead = start, data
        return data[:length]

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> InputError:
        return InputError(f"{self.name}: {error.strerror}")

    def _is_unchanged(self) -> bool:
        try:
            state = os.fstat(self._fd)
        except OSError as error:
            raise self._unreadable(error) from error
        return state.st_mtime_ns == self._modified_ns and state.st_size == self._size

    def is_file(self, state: os.stat_result) -> bool:
        is_origin = self.origin is not None and self.origin.is_file(state)
        return is_origin or os.path.samestat(state, os.fstat(self._fd))

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self.origin is not None:
            self.origin.close()


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes, name: str = "the input") -> None:
        self.name = name
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        return iter_blocks(self._part, start, end)

    def _part(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]

    def read(self, start: int, end: int) -> bytes:
        return self._data[start:end]

    def is_file(self, state: os.stat_result) -> bool:
        return False

    def close(self) -> None:
        pass


class RangeSource:
    """A part of another source, its bytes counted from 0. Closing it leaves the whole open."""

    def __init__(self, whole: Source, start: int, end: int) -> None:
        self.name = whole.name
        self._whole = whole
        self._start, self._end = start, end

    def size(self) -> int:
        return self._end - self._start

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        for offset, block in self._whole.blocks(self._start + start, self._place(end)):
            yield offset - self._start, block

    def read(self, start: int, end: int) -> bytes:
        # As `_place` does, without a call: this runs once a line.
        begin, place = self._start, self._start + end
        return self._whole.read(begin + start, min(self._end, place))

    def _place(self, end: int | None) -> int:
        return self._end if end is None else min(self._start + end, self._end)

    def is_file(self, state: os.stat_result) -> bool:
        return self._whole.is_file(state)

    def close(self) -> None:
        pass
