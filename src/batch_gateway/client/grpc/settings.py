"""HTTP/2 SETTINGS (RFC 9113 §6.5): what ours say, and what a server's mean."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from batch_gateway.client.grpc.frames import (
    PREFACE,
    SETTINGS,
    ErrorCode,
    ProtocolError,
    window_update,
)
from batch_gateway.client.grpc.header_blocks import MAX_HEADER_LIST

__all__ = [
    "FIRST_FRAME_SIZE",
    "FIRST_WINDOW",
    "INITIAL_WINDOW_SIZE",
    "LARGEST_FRAME",
    "LARGEST_WINDOW",
    "MAX_CONCURRENT_STREAMS",
    "MAX_FRAME_SIZE",
    "SETTINGS_ACK",
    "SessionLimits",
    "greeting",
    "read_settings",
]

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

LARGEST_WINDOW = 2**31 - 1

# Until somebody says otherwise (RFC 9113 §6.5.2, §6.9.2).
FIRST_WINDOW = 65_535
FIRST_FRAME_SIZE = 16_384

# What the server may put into one frame: a picker's chunk of 62,000 bytes fits.
LARGEST_FRAME = 128 * 1024

_FRAME_SIZES = range(2**14, 2**24)

_ENTRY = struct.Struct(">HI")

SETTINGS_ACK = bytes((0, 0, 0, SETTINGS, 1, 0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What a server may make the client hold.

    A stream holds at most `stream_window` bytes beside one incomplete message. What arrives on
    the connection is taken off it at once, so that no slow reader holds up the other streams;
    `connection_window`, of at least 65,535 bytes, is how much may be on its way.
    """

    max_message: int = 4 * 1024 * 1024
    stream_window: int = 256 * 1024
    connection_window: int = 16 * 1024 * 1024


def greeting(limits: SessionLimits) -> bytes:
    """What a client says first."""
    settings = (
        (HEADER_TABLE_SIZE, 0),
        (ENABLE_PUSH, 0),
        (INITIAL_WINDOW_SIZE, limits.stream_window),
        (MAX_FRAME_SIZE, LARGEST_FRAME),
        (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
    )
    payload = b"".join(_ENTRY.pack(*entry) for entry in settings)
    frame = bytes((0, 0, len(payload), SETTINGS, 0, 0, 0, 0, 0)) + payload
    more = limits.connection_window - FIRST_WINDOW
    return PREFACE + frame + (window_update(0, more) if more > 0 else b"")


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The entries, in order. Raises ProtocolError for values that the RFC forbids."""
    if len(payload) % 6:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    for name, value in _ENTRY.iter_unpack(payload):
        # RFC 9113 §6.5.2: a server must not send anything but 0, as only servers push.
        if name == ENABLE_PUSH and value:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS that allow push")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
        if name == MAX_FRAME_SIZE and value not in _FRAME_SIZES:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a frame size of {value} bytes")
        yield name, value
