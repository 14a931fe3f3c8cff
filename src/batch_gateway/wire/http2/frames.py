"""HTTP/2 frames (RFC 9113 §4, §6): bytes in, frames out, and frames as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError, require_size

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "NO_TAKERS",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITISED",
    "PRIORITY",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Frame",
    "FrameReader",
    "FrameTaker",
    "content",
    "data_frame",
    "frame",
    "goaway_frame",
    "header_frames",
    "ping_ack",
    "read_goaway",
    "read_reset",
    "read_window_update",
    "reset_frame",
    "window_update",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says before its first frame."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""

# Length in two parts (24 bits), type, flags, stream.
_HEAD = struct.Struct(">HBBBI")
_WORD = struct.Struct(">I")
_TWO_WORDS = struct.Struct(">II")
_HEAD_SIZE = 9
# The highest bit of stream numbers and increments is reserved, and to be ignored.
_LOW_BITS = 0x7FFFFFFF
_LONGEST_QUOTE = 80


class FrameTaker(Protocol):
    """Knows what a stream brings next, and takes it without a frame being made of it.

    Attributes:
        spare: how much may be taken until somebody must look at the stream's window; less than
            nothing while nothing may be taken.
    """

    spare: int

    def offer_to(self, data: bytes, start: int, end: int, /) -> int:
        """Take what a DATA frame carries, or the beginning of it; returns where that ends."""
        ...


NO_TAKERS: Mapping[int, FrameTaker] = MappingProxyType({})


class FrameReader:
    """Cuts what arrives into frames. `limit` is the largest payload that was announced.

    Attributes:
        takers: by streams, of which plain frames with data are offered to them first.
        taken: bytes of the payloads of what was fed last that they have got.
    """

    __slots__ = ("_held", "_limit", "_needed", "taken", "takers")

    def __init__(self, limit: int, takers: Mapping[int, FrameTaker] = NO_TAKERS) -> None:
        self._limit = limit
        self._held = bytearray()
        self._needed = _HEAD_SIZE
        self.takers = takers
        self.taken = 0

    @property
    def held(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, but for what takers have got; take them all.

        Raises ProtocolError for a frame that is too large, after those before it.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                self.taken = 0
                return
            data = bytes(self._held)
            self._held.clear()
        at, size, passed = 0, len(data), 0
        self._needed = _HEAD_SIZE
        while size - at >= _HEAD_SIZE:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > self._limit:
                raise ProtocolError(
                    ErrorCode.FRAME_SIZE_ERROR,
                    f"a frame of {length} bytes, where {self._limit} are the most",
                )
            start = at + _HEAD_SIZE
            end = start + length
            if end > size:
                self._needed = end - at
                break
            at = end
            taker = self.takers.get(stream)
            if taker is not None and not (kind or flags) and length <= taker.spare:
                begins, start = start, taker.offer_to(data, start, end)
                taker.spare -= start - begins
                passed += start - begins
                if start == end:
                    continue
            yield kind, flags, stream & _LOW_BITS, data[start:end]
        self.taken = passed
        if at < size:
            self._held += data[at:]


def content(kind: int, flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries, without padding and priority."""
    end = len(payload)
    start = 0
    if flags & PADDED:
        if not payload:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without content")
        start = 1
        end -= payload[0]
    if kind == HEADERS and flags & PRIORITISED:
        start += 5
    if end < start:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return payload[start:end]


def read_goaway(payload: bytes) -> tuple[int, int, str]:
    """The last stream that was or may be processed, the code, and what else was said."""
    if len(payload) < 8:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a broken length")
    last, code = _TWO_WORDS.unpack_from(payload)
    said = payload[8 : 8 + _LONGEST_QUOTE].decode("ascii", "replace")
    return last & _LOW_BITS, code, "".join(c if c.isprintable() else "?" for c in said)


def read_reset(payload: bytes) -> int:
    """The code of RST_STREAM."""
    require_size("RST_STREAM", payload, 4)
    return int.from_bytes(payload)


def read_window_update(payload: bytes) -> int:
    """By how much a window grows; 0 is an error, of the stream or of the connection."""
    require_size("WINDOW_UPDATE", payload, 4)
    return int.from_bytes(payload) & _LOW_BITS


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def data_frame(stream: int, piece: bytes, *, end: bool) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, piece)


def header_frames(stream: int, block: bytes, largest: int, *, end: bool = False) -> bytes:
    """HEADERS, and CONTINUATION where one frame is too small; `end` says that no more follows."""
    size = len(block)
    flags = END_STREAM if end else 0
    if size <= largest:
        flags |= END_HEADERS
        return _HEAD.pack(size >> 8, size & 0xFF, HEADERS, flags, stream) + block
    pieces = [block[start : start + largest] for start in range(largest, size, largest)]
    last = len(pieces) - 1
    return frame(HEADERS, flags, stream, block[:largest]) + b"".join(
        frame(CONTINUATION, END_HEADERS if n == last else 0, stream, piece)
        for n, piece in enumerate(pieces)
    )


def reset_frame(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def ping_ack(payload: bytes) -> bytes:
    return frame(PING, ACK, 0, payload)


def goaway_frame(last: int, code: int, said: bytes = b"") -> bytes:
    """The last word on a connection; `last` is the last stream of the peer that was looked at."""
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last, code) + said)
