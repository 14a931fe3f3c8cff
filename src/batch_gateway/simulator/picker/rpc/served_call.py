"""One gRPC call as its handler sees it: whole messages in, whole messages out, a status."""

from __future__ import annotations

import asyncio
from typing import Protocol

from batch_gateway.wire.http2.grpc_messages import (
    MAX_MESSAGE,
    CompressedMessageError,
    MessageReader,
    MessageTooLargeError,
    prefixed,
)
from batch_gateway.wire.http2.grpc_status import StatusCode
from batch_gateway.wire.http2.http2_errors import ErrorCode
from batch_gateway.wire.http2.windows import ReceiveWindow

__all__ = ["STREAM_WINDOW", "Call", "CallError"]

STREAM_WINDOW = 4 * 1024 * 1024
"""How much a client may send on a call, of which everything is taken off it as it comes."""

_HELD_BACK_BYTES = 256 * 1024


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
    def go_away(self, code: int = ...) -> None: ...
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
        self.window = ReceiveWindow(STREAM_WINDOW)
        self.pending = bytearray()
        self.ending: tuple[int, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self._reader = MessageReader(MAX_MESSAGE)
        self._failure: CallError | None = None
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None

    # -- for the handler -------------------------------------------------------------------

    async def read(self) -> bytes | None:
        """The next message, None when the client sends no more. May be cancelled and repeated.

        Raises CallError for a message that is too large or compressed.
        """
        while not self._reader.messages:
            if self._failure is not None:
                raise self._failure
            if self.half_closed:
                return None
            self._reading = asyncio.get_running_loop().create_future()
            await self._reading
        return self._reader.messages.popleft()

    async def write(self, message: bytes) -> None:
        """Send a message; waits while the client takes no more."""
        if self.over:
            return
        self.connection.send_message(self, prefixed(message))
        while len(self.pending) > _HELD_BACK_BYTES and not self.over:
            self._writing = asyncio.get_running_loop().create_future()
            await self._writing

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """End the call with RST_STREAM, without a status."""
        self.connection.reset_call(self, code)

    # -- for the connection ----------------------------------------------------------------

    def data_received(self, data: bytes, *, end: bool) -> None:
        self.half_closed = self.half_closed or end
        if self._failure is None:
            try:
                self._reader.feed(data)
            except CompressedMessageError:
                self._failure = CallError(StatusCode.UNIMPLEMENTED, "compressed messages")
            except MessageTooLargeError as error:
                self._failure = CallError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({error.length} vs. {error.limit})",
                )
        _wake(self._reading)

    def written(self) -> None:
        """Some of what was pending is on its way, or the call is over."""
        if self.over or len(self.pending) <= _HELD_BACK_BYTES:
            _wake(self._writing)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
