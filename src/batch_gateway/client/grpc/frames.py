"""HTTP/2 frames (RFC 9113 §4, §6): bytes in, frames out, and the frames that a client sends."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "PING",
    "PREFACE",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "ErrorCode",
    "Frame",
    "FrameReader",
    "ProtocolError",
    "code_name",
    "content",
    "data_frame",
    "goaway_frame",
    "header_frames",
    "message_frame",
    "out_of_order",
    "ping_ack",
    "read_goaway",
    "require_size",
    "reset_frame",
    "window_update",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
_PADDED = 0x8
_PRIORITISED = 0x20

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""

# Length in two parts (24 bits), type, flags, stream.
_HEAD = struct.Struct(">HBBBI")
# The same with the five bytes before a gRPC message: not compressed, its length.
_MESSAGE_HEAD = struct.Struct(">HBBBIBI")
_WORD = struct.Struct(">I")
_TWO_WORDS = struct.Struct(">II")
_HEAD_SIZE = 9
_STREAM_BITS = 0x7FFFFFFF
_LONGEST_QUOTE = 80


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(Exception):
    """The peer broke a rule of HTTP/2. `stream` names the stream it is confined to, or None."""

    def __init__(self, code: ErrorCode, problem: str, stream: int | None = None) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem
        self.stream = stream


class FrameReader:
    """Cuts what arrives into frames. `limit` is the largest payload that was announced."""

    __slots__ = ("_held", "_limit", "_needed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._needed = _HEAD_SIZE

    @property
    def held(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; take them all.

        Raises ProtocolError for a frame that is too large, after those before it.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        at, size = 0, len(data)
        self._needed = _HEAD_SIZE
        while size - at >= _HEAD_SIZE:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > self._limit:
                raise ProtocolError(
                    ErrorCode.FRAME_SIZE_ERROR,
                    f"a frame of {length} bytes, where {self._limit} are the most",
                )
            end = at + _HEAD_SIZE + length
            if end > size:
                self._needed = end - at
                break
            yield kind, flags, stream & _STREAM_BITS, data[at + _HEAD_SIZE : end]
            at = end
        self._held += data[at:]


def content(kind: int, flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries, without padding and priority."""
    end = len(payload)
    start = 0
    if flags & _PADDED:
        if not payload:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without content")
        start = 1
        end -= payload[0]
    if kind == HEADERS and flags & _PRIORITISED:
        start += 5
    if end < start:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return payload[start:end]


def out_of_order(problem: str) -> ProtocolError:
    """The error for a frame that may not come here or now."""
    return ProtocolError(ErrorCode.PROTOCOL_ERROR, problem)


def require_size(what: str, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{what} of a broken length")


def read_goaway(payload: bytes) -> tuple[int, int, str]:
    """The last stream that was or may be processed, the code, and what else was said."""
    if len(payload) < 8:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a broken length")
    last, code = _TWO_WORDS.unpack_from(payload)
    said = payload[8 : 8 + _LONGEST_QUOTE].decode("ascii", "replace")
    return last & _STREAM_BITS, code, "".join(c if c.isprintable() else "?" for c in said)


def message_frame(stream: int, message: bytes, *, end: bool) -> bytes:
    """A whole gRPC message, not compressed, in one DATA frame."""
    size = len(message)
    length = size + 5
    head = _MESSAGE_HEAD.pack(
        length >> 8, length & 0xFF, DATA, END_STREAM if end else 0, stream, 0, size
    )
    return head + message


def data_frame(stream: int, piece: bytes, *, end: bool) -> bytes:
    return _frame(DATA, END_STREAM if end else 0, stream, piece)


def header_frames(stream: int, block: bytes, largest: int) -> bytes:
    """HEADERS that leave the stream open, and CONTINUATION where one frame is too small."""
    size = len(block)
    if size <= largest:
        return _HEAD.pack(size >> 8, size & 0xFF, HEADERS, END_HEADERS, stream) + block
    pieces = [block[start : start + largest] for start in range(0, size, largest)]
    last = len(pieces) - 1
    return b"".join(
        _frame(CONTINUATION if n else HEADERS, END_HEADERS if n == last else 0, stream, piece)
        for n, piece in enumerate(pieces)
    )


def reset_frame(stream: int, code: int) -> bytes:
    return _frame(RST_STREAM, 0, stream, _WORD.pack(code))


def window_update(stream: int, increment: int) -> bytes:
    return _frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def ping_ack(payload: bytes) -> bytes:
    return _frame(PING, ACK, 0, payload)


def goaway_frame(code: int, detail: str) -> bytes:
    """The last word of a client, which has accepted no stream of the server."""
    return _frame(GOAWAY, 0, 0, _TWO_WORDS.pack(0, code) + detail.encode())


def code_name(code: int) -> str:
    """The name of an HTTP/2 error code for messages."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload
