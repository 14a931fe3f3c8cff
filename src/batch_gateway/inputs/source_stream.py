"""The bytes of a source as a file object of Python, plain or unpacked."""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, BinaryIO, Final

from batch_gateway.engine.first_pass import ProgressCallback
from batch_gateway.engine.foreign_formats import archive_advice
from batch_gateway.engine.source import Source
from batch_gateway.errors import InputError
from batch_gateway.extras import command_for

__all__ = ["GZIP", "ZSTD", "compression_of", "reading", "unpacked"]

GZIP: Final = "gzip"
ZSTD: Final = "zstd"
_MAGIC: Final = ((b"\x1f\x8b", GZIP), (b"\x28\xb5\x2f\xfd", ZSTD))
_MAGIC_BYTES: Final = 8
_BUFFER_BYTES: Final = 256 * 1024


class _SourceStream(io.RawIOBase):
    """Reads a source from its beginning; many of them may read one."""

    def __init__(self, source: Source, on_progress: ProgressCallback | None) -> None:
        self._source = source
        self._on_progress = on_progress
        self._size = source.size()
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), self._size)
        if self._place >= end:
            return 0
        data = self._source.read(self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        if self._on_progress is not None:
            self._on_progress(self._place, self._size)
        return len(data)


def compression_of(source: Source) -> str | None:
    """GZIP or ZSTD by its first bytes, or None.

    Raises InputError for what is compressed otherwise.
    """
    first = source.read(0, min(_MAGIC_BYTES, source.size()))
    if (advice := archive_advice(first)) is not None:
        raise InputError(f"{source.name} {advice}")
    return next((name for magic, name in _MAGIC if first.startswith(magic)), None)


def unpacked(source: Source, on_progress: ProgressCallback | None = None) -> io.BufferedReader[Any]:
    """What `source` holds, decompressed where it is compressed, from its beginning.

    Raises InputError for zstd where nothing can read that.
    """
    plain: io.BufferedReader[Any] = io.BufferedReader(
        _SourceStream(source, on_progress), _BUFFER_BYTES
    )
    packed = compression_of(source)
    if packed == GZIP:
        stream: Any = import_module("gzip").GzipFile(fileobj=plain)
    elif packed == ZSTD:
        stream = _zstd_stream(plain, source.name)
    else:
        return plain
    return io.BufferedReader(stream, _BUFFER_BYTES)


def _zstd_stream(plain: BinaryIO, name: str) -> Any:
    try:
        return import_module("compression.zstd").ZstdFile(plain)
    except ImportError:
        pass
    try:
        zstandard = import_module("zstandard")
    except ImportError as error:
        raise InputError(
            f"{name} is compressed with zstd, and nothing here can read that: install it with "
            f"`{command_for('zstd')}`, or pipe `zstd -dc {name}` into `-`"
        ) from error
    return zstandard.ZstdDecompressor().stream_reader(plain, read_across_frames=True)


@contextmanager
def reading(name: str) -> Generator[None]:
    """Turns what goes wrong while compressed data is read into an InputError."""
    try:
        yield
    except EOFError as error:
        raise InputError(f"{name} is cut off: its compressed data ends too early") from error
    except (OSError, zlib.error) as error:
        raise InputError(f"{name} cannot be unpacked: {error}") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise InputError(f"{name} cannot be unpacked: {error}") from error
