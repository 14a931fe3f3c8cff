"""One gRPC call as its handler sees it: whole messages in, whole messages out, a status."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Protocol

from batch_gateway.wire.http2.errors import ErrorCode

__all__ = ["MAX_MESSAGE_BYTES", "Call", "CallError", "StatusCode"]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""gRPC's limit for a message that is received, in every implementation's defaults."""

_PREFIX = struct.Struct("!BL")
_HELD_BACK_BYTES = 256 * 1024


class StatusCode:
    """The numbers of the statuses in use (google.rpc.Code)."""

    OK = 0
    UNKNOWN = 2
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallError(Exception):
    """The call ends with this status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CallConnection(Protocol):
    """The connection as one of its calls needs it."""

    def send_message(self, call: Call, data: bytes) -> None: ...
    def end_call(self, call: Call, code: int, message: str) -> None: ...
    def reset_call(self, call: Call, code: int) -> None: ...
    def go_away(self, code: int = ..., debug: bytes = ...) -> None: ...
    def break_off(self) -> None: ...


class Call:
    """A call from its headers to its status.

    Attributes:
        method: the `:path`.
        over: whether nothing more can be sent.
        headers_sent: whether anything was sent before the trailers.
        half_closed: whether the client has said that it sends no more.
    """

    def __init__(self, connection: CallConnection, stream_id: int, method: str) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.method = method
        self.over = False
        self.headers_sent = False
        self.half_closed = False
        self.send_window = 0
        self.unacknowledged = 0
        self.pending = bytearray()
        self.ending: tuple[int, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self._received = bytearray()
        self._messages: deque[bytes] = deque()
        self._failure: CallError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    # -- for the handler -------------------------------------------------------------------

    async def read(self) -> bytes | None:
        """The next message, None when the client sends no more. May be cancelled and repeated.

        Raises CallError for a message that is too large or compressed.
        """
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self.half_closed:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._messages.popleft()

    async def write(self, message: bytes) -> None:
        """Send a message; waits while the client takes no more."""
        if self.over:
            return
        self.connection.send_message(self, _PREFIX.pack(0, len(message)) + message)
        while len(self.pending) > _HELD_BACK_BYTES and not self.over:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """End the call with RST_STREAM, without a status."""
        self.connection.reset_call(self, code)

    # -- for the connection ----------------------------------------------------------------

    def data_received(self, data: bytes, *, end: bool) -> None:
        self._received += data
        self.half_closed = self.half_closed or end
        while len(self._received) >= 5 and self._failure is None:
            compressed, length = _PREFIX.unpack_from(self._received)
            if compressed:
                self._failure = CallError(StatusCode.UNIMPLEMENTED, "compressed messages")
            elif length > MAX_MESSAGE_BYTES:
                self._failure = CallError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({length} vs. {MAX_MESSAGE_BYTES})",
                )
            elif len(self._received) < 5 + length:
                break
            else:
                self._messages.append(bytes(self._received[5 : 5 + length]))
                del self._received[: 5 + length]
        _wake(self._reader)

    def written(self) -> None:
        """Some of what was pending is on its way, or the call is over."""
        if self.over or len(self.pending) <= _HELD_BACK_BYTES:
            _wake(self._writer)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
