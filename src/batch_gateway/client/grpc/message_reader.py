"""gRPC messages out of the bytes of a stream: five bytes say how long each one is."""

from __future__ import annotations

import struct
from collections import deque

__all__ = ["MessageError", "MessageReader"]

_HEAD = struct.Struct(">BI")
_HEAD_SIZE = 5


class MessageError(Exception):
    """What arrived cannot be taken for messages. The text completes "host:port sent …"."""


class MessageReader:
    """Cuts what arrives into messages, which it appends to `messages`."""

    __slots__ = ("_held", "_limit", "_needed", "messages")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._needed = _HEAD_SIZE
        self.messages: deque[bytes] = deque()

    @property
    def held(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Raises MessageError for a message that is compressed or larger than the limit."""
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        at, size = 0, len(data)
        self._needed = _HEAD_SIZE
        while size - at >= _HEAD_SIZE:
            compressed, length = _HEAD.unpack_from(data, at)
            if compressed:
                raise MessageError("a compressed message, which it was not asked for")
            if length > self._limit:
                raise MessageError(f"a message of {length} bytes, where {self._limit} are the most")
            end = at + _HEAD_SIZE + length
            if end > size:
                self._needed = end - at
                break
            self.messages.append(data[at + _HEAD_SIZE : end])
            at = end
        if at < size:
            self._held += data[at:]
