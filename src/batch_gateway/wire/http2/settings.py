"""HTTP/2 SETTINGS (RFC 9113 §6.5): their names, limits and first values; in and out."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from batch_gateway.wire.http2.frames import ACK, SETTINGS, frame
from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError

__all__ = [
    "ENABLE_PUSH",
    "FIRST_FRAME_SIZE",
    "FIRST_WINDOW",
    "HEADER_TABLE_SIZE",
    "INITIAL_WINDOW_SIZE",
    "LARGEST_WINDOW",
    "MAX_CONCURRENT_STREAMS",
    "MAX_FRAME_SIZE",
    "MAX_HEADER_LIST_SIZE",
    "SETTINGS_ACK",
    "read_settings",
    "settings_frame",
]

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

LARGEST_WINDOW = 2**31 - 1
"""Also the largest number of a stream."""

# Until somebody says otherwise (RFC 9113 §6.5.2, §6.9.2).
FIRST_WINDOW = 65_535
FIRST_FRAME_SIZE = 16_384

SETTINGS_ACK = frame(SETTINGS, ACK, 0, b"")

_FRAME_SIZES = range(2**14, 2**24)

_ENTRY = struct.Struct(">HI")


def settings_frame(entries: Iterable[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_ENTRY.pack(*entry) for entry in entries))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The entries, in order. Raises ProtocolError for values that the RFC forbids to everybody."""
    if len(payload) % 6:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    entries = list(_ENTRY.iter_unpack(payload))
    for name, value in entries:
        if name == ENABLE_PUSH and value > 1:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"an ENABLE_PUSH of {value}")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
        if name == MAX_FRAME_SIZE and value not in _FRAME_SIZES:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a frame size of {value} bytes")
    return entries
