"""gRPC messages as the bytes of a stream: five before each one say how long it is."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from batch_gateway.wire.http2.frames import DATA, END_STREAM

__all__ = [
    "MAX_MESSAGE",
    "PREFIX_SIZE",
    "CompressedMessageError",
    "FrameAround",
    "MessageError",
    "MessageReader",
    "MessageTooLargeError",
    "frame_around",
    "message_frame",
    "message_prefix",
    "messages_frame",
    "prefixed",
]

PREFIX_SIZE = 5

MAX_MESSAGE = 4 * 1024 * 1024
"""What a message that is received may measure, in every implementation's defaults."""

# Whether it is compressed, and its length.
_PREFIX = struct.Struct(">BI")
# The head of a frame: length in two parts, type, flags, stream; and with a prefix behind it.
_DATA_HEAD = struct.Struct(">HBBBI")
_FRAME_HEAD = struct.Struct(">HBBBIBI")
# That of a stream's number, with which the head of a frame ends.
_NUMBER_SIZE = 4


class MessageError(Exception):
    """What arrived cannot be taken for messages. The text completes "host:port sent …"."""


class CompressedMessageError(MessageError):
    def __init__(self) -> None:
        super().__init__("a compressed message, which it was not asked for")


class MessageTooLargeError(MessageError):
    """A message of `length` bytes, where at most `limit` were to come."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a message of {length} bytes, where {limit} are the most")
        self.length = length
        self.limit = limit


class MessageReader:
    """Cuts what arrives into messages, which it appends to `messages`."""

    __slots__ = ("_held", "_limit", "_needed", "messages")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._needed = PREFIX_SIZE
        self.messages: deque[bytes] = deque()

    @property
    def held(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Raises MessageError for a message that is compressed or larger than the limit.

        Those before it are among `messages`; nothing may be fed after it.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        at, size = 0, len(data)
        length = max(0, size - PREFIX_SIZE)
        if data[:PREFIX_SIZE] == _PREFIX.pack(0, length) and length <= self._limit:
            # Most come alone and whole.
            self.messages.append(data[PREFIX_SIZE:])
            return
        self._needed = PREFIX_SIZE
        while size - at >= PREFIX_SIZE:
            compressed, length = _PREFIX.unpack_from(data, at)
            if compressed:
                raise CompressedMessageError
            if length > self._limit:
                raise MessageTooLargeError(length, self._limit)
            end = at + PREFIX_SIZE + length
            if end > size:
                self._needed = end - at
                break
            self.messages.append(data[at + PREFIX_SIZE : end])
            at = end
        if at < size:
            self._held += data[at:]


def message_prefix(size: int) -> bytes:
    """What goes before a message of so many bytes, not compressed, in a stream."""
    return _PREFIX.pack(0, size)


def prefixed(message: bytes) -> bytes:
    """A message, not compressed, as it goes into a stream."""
    return _PREFIX.pack(0, len(message)) + message


def message_frame(stream: int, message: bytes, *, end: bool) -> bytes:
    """A whole message in one DATA frame, put together at once: most are sent so."""
    size = len(message)
    length = size + PREFIX_SIZE
    head = _FRAME_HEAD.pack(
        length >> 8, length & 0xFF, DATA, END_STREAM if end else 0, stream, 0, size
    )
    return head + message


class FrameAround(NamedTuple):
    """A DATA frame with a message in it, but for the stream's number and the message's end.

    Attributes:
        before, behind: what goes before the number, and between it and the end.
        size: that of the payload.
    """

    before: bytes
    behind: bytes
    size: int


def frame_around(start: bytes, rest: int) -> FrameAround:
    """For messages that begin with `start`, behind which so many bytes follow."""
    message = len(start) + rest
    size = message + PREFIX_SIZE
    head = _DATA_HEAD.pack(size >> 8, size & 0xFF, DATA, 0, 0)
    return FrameAround(head[:-_NUMBER_SIZE], message_prefix(message) + start, size)


def messages_frame(stream: int, messages: Sequence[bytes], length: int, *, end: bool) -> bytes:
    """Whole messages in one DATA frame, of `length` bytes with their prefixes."""
    flags = END_STREAM if end else 0
    parts = [_DATA_HEAD.pack(length >> 8, length & 0xFF, DATA, flags, stream)]
    for message in messages:
        parts += (_PREFIX.pack(0, len(message)), message)
    return b"".join(parts)
