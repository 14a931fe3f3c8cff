"""HTTP/2 SETTINGS (RFC 9113 §6.5): what ours say, and what a server's may."""

from __future__ import annotations

from dataclasses import dataclass

from batch_gateway.wire.http2.frames import PREFACE, window_update
from batch_gateway.wire.http2.grpc_messages import MAX_MESSAGE
from batch_gateway.wire.http2.header_blocks import MAX_HEADER_LIST
from batch_gateway.wire.http2.http2_errors import out_of_order
from batch_gateway.wire.http2.settings import (
    ENABLE_PUSH,
    FIRST_WINDOW,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    read_settings,
    settings_frame,
)

__all__ = ["LARGEST_FRAME", "SessionLimits", "greeting", "read_theirs"]

# What the server may put into one frame: a picker's chunk of 62,000 bytes fits.
LARGEST_FRAME = 128 * 1024


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What a server may make the client hold.

    A stream holds at most `stream_window` bytes beside one incomplete message. What arrives on
    the connection is taken off it at once, so that no slow reader holds up the other streams;
    `connection_window`, of at least 65,535 bytes, is how much may be on its way.
    """

    max_message: int = MAX_MESSAGE
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
    more = limits.connection_window - FIRST_WINDOW
    return PREFACE + settings_frame(settings) + (window_update(0, more) if more > 0 else b"")


def read_theirs(payload: bytes) -> list[tuple[int, int]]:
    """A server's entries, in order. Raises ProtocolError for values that the RFC forbids it."""
    entries = read_settings(payload)
    # RFC 9113 §6.5.2: a server must not send anything but 0, as only servers push.
    if any(name == ENABLE_PUSH and value for name, value in entries):
        raise out_of_order("SETTINGS that allow push")
    return entries
