"""Undoing, piece by piece, a compression of a body that was not asked for.

A body is taken for what it looks like: servers and proxies are known to say gzip over plain
JSON, to name a character set as a coding, and to send deflate with and without its zlib header
(RFC 9110 §8.4.1.2 speaks of both).
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Protocol

__all__ = ["BodyDecoder", "UndecodableBodyError"]

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_PLAIN = frozenset({"", "identity", "none"})

# Nobody compresses more often than that by mistake.
_MOST_CODINGS = 3

# So many bytes tell text from compressed data beyond doubt.
_TELLING = 16
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

_PIECE = 64 * 1024
# zlib copies what it has left over, for each piece and each member of what it is given.
_SLICE = 4 * 1024


class _Inflater(Protocol):
    """zlib's decompression object, whose class has no public name."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class UndecodableBodyError(Exception):
    """Says in one phrase why a body could not be decoded."""


class BodyDecoder:
    """Decodes a body with the given Content-Encoding; the empty string passes it through.

    Raises UndecodableBodyError at construction when there are too many codings.
    """

    def __init__(self, codings: str) -> None:
        names = [name.strip().lower() for name in codings.split(",")]
        names = [name for name in names if name not in _PLAIN]
        if len(names) > _MOST_CODINGS:
            raise UndecodableBodyError(f"is compressed {len(names)} times over")
        # The last one was applied last.
        self._layers = [_Layer(name) for name in reversed(names)]

    @property
    def is_plain(self) -> bool:
        """Whether nothing is unpacked."""
        return not self._layers

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces of at most 64 KiB, some empty. Consume them all.

        Raises UndecodableBodyError for what is not the coding it says, nor plain text.
        """
        if not self._layers:
            return iter((data,))
        return self._through(0, iter((data,)))

    def finish(self) -> Iterator[bytes]:
        """The body has ended: what had been held back. Raises UndecodableBodyError when the
        end is in the middle of compressed data.
        """
        for number, layer in enumerate(self._layers):
            yield from self._through(number + 1, layer.finish())

    def _through(self, first: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for layer in self._layers[first:]:
            pieces = layer.feed_all(pieces)
        return pieces


class _Layer:
    """One coding of perhaps several."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = b""
        self._is_plain = False
        self._window = 0
        self._inflater: _Inflater | None = None

    def feed_all(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield from self._feed(piece)

    def _feed(self, data: bytes) -> Iterator[bytes]:
        if self._is_plain:
            yield data
            return
        for start in range(0, len(data), _SLICE):
            yield from self._feed_slice(data[start : start + _SLICE])

    def _feed_slice(self, data: bytes) -> Iterator[bytes]:
        if not self._window:
            data = self._start = self._start + data
            if len(data) < _TELLING:
                return
            self._recognise(data)
        if self._is_plain:
            yield data
        else:
            yield from self._inflate(data)

    def finish(self) -> Iterator[bytes]:
        if not self._window and self._start:
            self._recognise(self._start)
            yield from (self._start,) if self._is_plain else self._inflate(self._start)
        if self._inflater is not None and not self._inflater.eof:
            raise UndecodableBodyError(f"ends in the middle of its {self._name} data")

    def _recognise(self, start: bytes) -> None:
        self._is_plain = _is_text(start)
        if not self._is_plain and self._name not in _CODINGS:
            shown = self._name[:20]
            raise UndecodableBodyError(f"is compressed with {shown!r}, which nobody asked for")
        bare = self._name == "deflate" and not _has_header(start)
        self._window = _RAW_DEFLATE if bare else _GZIP_OR_ZLIB

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        piece = b""
        while data or len(piece) == _PIECE:
            inflater = self._member(data)
            if inflater is None:
                return
            try:
                piece = inflater.decompress(data, _PIECE)
            except zlib.error as error:
                raise UndecodableBodyError(
                    f"says it is {self._name} but is not ({error})"
                ) from error
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            # An empty piece gives the reader the chance to do something else meanwhile.
            yield piece

    def _member(self, data: bytes) -> _Inflater | None:
        """What `data` is to be given to; None when it is the padding behind the end.

        Several members read as one (RFC 1952 §2.2).
        """
        if self._inflater is None or (self._inflater.eof and self._may_begin_member(data)):
            self._inflater = zlib.decompressobj(self._window)
        return None if self._inflater.eof else self._inflater

    def _may_begin_member(self, data: bytes) -> bool:
        if self._window == _RAW_DEFLATE:
            return bool(data.strip(b"\0"))
        return _has_header(data)


def _is_text(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return _NOT_TEXT.search(start) is None


def _has_header(start: bytes) -> bool:
    """Whether it begins as gzip (RFC 1952 §2.3.1) or zlib (RFC 1950 §2.2), as far as it goes."""
    if start[:1] == b"\x1f":
        return True
    is_deflate = bool(start) and start[0] & 0x0F == 8
    return is_deflate and (len(start) == 1 or int.from_bytes(start[:2]) % 31 == 0)
