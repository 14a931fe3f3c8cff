"""HTTP/2 frames, and the few header blocks that a gRPC server sends.

Sources: RFC 9113 §4 and §6, RFC 7541 §6.2.2, and gRPC over HTTP/2 (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple
from urllib.parse import quote

__all__ = [
    "CONNECTION_PREFACE",
    "DEFAULT_WINDOW",
    "MAX_FRAME_SIZE",
    "MAX_STREAM_ID",
    "ErrorCode",
    "Flag",
    "Frame",
    "FrameType",
    "ProtocolError",
    "Setting",
    "encode_frame",
    "encode_goaway",
    "encode_reset",
    "encode_settings",
    "encode_window_update",
    "payload_of",
    "read_frame",
    "read_settings",
    "response_headers",
    "trailers",
]

CONNECTION_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW = 65_535
MAX_FRAME_SIZE = 16_384
MAX_STREAM_ID = 2**31 - 1

_HEAD = struct.Struct("!HBBBL")
_SETTING = struct.Struct("!HL")
_UINT32 = struct.Struct("!L")


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    ACK = 0x1
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(IntEnum):
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """The client broke the rules of HTTP/2; the connection ends with `code`."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Frame(NamedTuple):
    """One frame as it came; `kind` is its number, known or not."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


def read_frame(data: bytearray) -> Frame | None:
    """Take the first frame off `data`, or None while it is not there whole."""
    if len(data) < 9:
        return None
    high, low, kind, flags, stream_id = _HEAD.unpack_from(data)
    length = high << 8 | low
    if length > MAX_FRAME_SIZE:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
    if len(data) < 9 + length:
        return None
    payload = bytes(data[9 : 9 + length])
    del data[: 9 + length]
    return Frame(kind, flags, stream_id & MAX_STREAM_ID, payload)


def payload_of(frame: Frame) -> bytes:
    """The payload of DATA or HEADERS without padding and priority."""
    payload = frame.payload
    if frame.flags & Flag.PADDED:
        padding = payload[0] if payload else 0
        if padding >= len(payload):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        payload = payload[1 : len(payload) - padding]
    if frame.kind == FrameType.HEADERS and frame.flags & Flag.PRIORITY:
        payload = payload[5:]
    return payload


def read_settings(frame: Frame) -> dict[int, int]:
    if len(frame.payload) % 6:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "half a setting")
    return dict(_SETTING.iter_unpack(frame.payload))


def encode_frame(kind: FrameType, flags: int, stream_id: int, payload: bytes) -> bytes:
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def encode_settings(settings: dict[Setting, int]) -> bytes:
    payload = b"".join(_SETTING.pack(number, value) for number, value in settings.items())
    return encode_frame(FrameType.SETTINGS, 0, 0, payload)


def encode_window_update(stream_id: int, increment: int) -> bytes:
    return encode_frame(FrameType.WINDOW_UPDATE, 0, stream_id, _UINT32.pack(increment))


def encode_reset(stream_id: int, code: int) -> bytes:
    return encode_frame(FrameType.RST_STREAM, 0, stream_id, _UINT32.pack(code))


def encode_goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    payload = _UINT32.pack(last_stream_id) + _UINT32.pack(code) + debug
    return encode_frame(FrameType.GOAWAY, 0, 0, payload)


# -- header blocks: literals without indexing, so that there is no table to keep in step -------


def _text(text: bytes) -> bytes:
    # A 7-bit prefix integer, not Huffman coded.
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    head = bytearray((127,))
    length -= 127
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + text


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _text(name) + _text(value)


# Entry 8 of the static table is `:status: 200`.
_HEADERS = b"\x88" + _literal(b"content-type", b"application/grpc")
_OK = _literal(b"grpc-status", b"0")


def response_headers() -> bytes:
    """The block that goes before the first message."""
    return _HEADERS


def trailers(status: int, message: str, *, alone: bool) -> bytes:
    """The block that ends a call; `alone` when nothing went before it."""
    start = _HEADERS if alone else b""
    if status == 0:
        return start + _OK
    text = quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    return start + _literal(b"grpc-status", str(status).encode()) + _literal(b"grpc-message", text)
