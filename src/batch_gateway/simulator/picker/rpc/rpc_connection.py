"""One HTTP/2 connection of the gRPC server."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from hpack import Decoder

from batch_gateway.simulator.picker.rpc.pings import PingPolicy
from batch_gateway.simulator.picker.rpc.response_blocks import response_headers, trailers
from batch_gateway.simulator.picker.rpc.rpc_limits import ConnectionLimits
from batch_gateway.simulator.picker.rpc.served_call import STREAM_WINDOW, Call, CallError
from batch_gateway.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FrameReader,
    content,
    data_frame,
    frame,
    goaway_frame,
    header_frames,
    ping_ack,
    read_reset,
    read_window_update,
    reset_frame,
    window_update,
)
from batch_gateway.wire.http2.grpc_status import StatusCode
from batch_gateway.wire.http2.header_blocks import MAX_HEADER_LIST, OpenBlock, decode_block
from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError, out_of_order
from batch_gateway.wire.http2.settings import (
    FIRST_FRAME_SIZE,
    FIRST_WINDOW,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    SETTINGS_ACK,
    read_settings,
    settings_frame,
)
from batch_gateway.wire.http2.windows import ReceiveWindow

__all__ = ["Handler", "Listener", "RpcConnection"]

Handler = Callable[[Call], Awaitable[None]]

_CONNECTION_WINDOW = 64 * 1024 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# The first of two farewells, as of grpc-go: any call may be the last, the answer to the ping comes
# behind it, and then the second names it. Who does not answer is told it all the same.
_LAST_CALLS = b"farewell"
_FIRST_FAREWELL = goaway_frame(LARGEST_WINDOW, ErrorCode.NO_ERROR) + frame(PING, 0, 0, _LAST_CALLS)
_FAREWELL_SECONDS = 5.0


class Listener(Protocol):
    """Where connections belong."""

    @property
    def limits(self) -> ConnectionLimits: ...
    def opened(self, connection: RpcConnection) -> None: ...
    def closed(self, connection: RpcConnection) -> None: ...
    def handler(self, method: str) -> Handler | None: ...


class RpcConnection(asyncio.Protocol):
    """Reads frames, runs a handler for each call, and sends what flow control allows."""

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._greeting = b""
        self._greeted = False
        self._frames = FrameReader(FIRST_FRAME_SIZE)
        self._decoder = Decoder(MAX_HEADER_LIST)
        self._open_block: OpenBlock | None = None
        self._calls: dict[int, Call] = {}
        self._held_up: dict[int, Call] = {}
        self._last_stream_id = 0
        self._opened = 0
        self._parting = self._leaving = False
        self._initial_window = FIRST_WINDOW
        self._frame_size = FIRST_FRAME_SIZE
        self._send_window = FIRST_WINDOW
        self._window = ReceiveWindow(_CONNECTION_WINDOW)
        self._outgoing: list[bytes] = []
        self._pings = PingPolicy(listener.limits.ping_interval)
        # First until it is too old, then until it takes no more calls.
        self._timer: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._listener.opened(self)
        limits = self._listener.limits
        settings = [(INITIAL_WINDOW_SIZE, STREAM_WINDOW)]
        if limits.concurrent_streams is not None:
            settings.append((MAX_CONCURRENT_STREAMS, limits.concurrent_streams))
        self._send(settings_frame(settings))
        self._send(window_update(0, _CONNECTION_WINDOW - FIRST_WINDOW))
        if limits.age is not None:
            self._timer = self._loop.call_later(limits.age, self.go_away)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        for call in list(self._calls.values()):
            self._forget(call)
        for task in self.tasks:
            task.cancel()
        self._listener.closed(self)

    def data_received(self, data: bytes) -> None:
        try:
            if not self._greeted:
                data = self._greet(data)
            for frame in self._frames.feed(data):
                if self._transport is None:
                    return
                self._take(*frame)
        except ProtocolError as error:
            self._send(goaway_frame(self._last_stream_id, error.code, error.problem.encode()))
            self._flush()
            if self._transport is not None:
                self._transport.close()

    def _greet(self, data: bytes) -> bytes:
        """What follows the client's preface, which may come in pieces."""
        self._greeting += data
        if len(self._greeting) < len(PREFACE):
            return b""
        if not self._greeting.startswith(PREFACE):
            raise out_of_order("this port speaks HTTP/2")
        self._greeted = True
        return self._greeting.removeprefix(PREFACE)

    # -- frames ----------------------------------------------------------------------------

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._open_block is not None and kind != CONTINUATION:
            raise out_of_order("a header block was interrupted")
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            handler(self, flags, stream_id, payload)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        end = bool(flags & END_STREAM)
        call = self._calls.get(stream_id)
        self._acknowledge(len(payload), None if end else call)
        if call is not None and not call.half_closed:
            call.data_received(content(DATA, flags, payload), end=end)

    def _acknowledge(self, size: int, call: Call | None) -> None:
        """Give the client its window back, half a window at a time."""
        self._window.take(size)
        if increment := self._window.use(size):
            self._send(window_update(0, increment))
        if call is None:
            return
        call.window.take(size)
        if increment := call.window.use(size):
            self._send(window_update(call.stream_id, increment))

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = content(HEADERS, flags, payload)
        end = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._headers_complete(stream_id, block, end=end)
        else:
            self._open_block = OpenBlock(stream_id, block, end=end)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._open_block
        if block is None or block.number != stream_id:
            raise out_of_order("a CONTINUATION of nothing")
        block.append(payload)
        if flags & END_HEADERS:
            self._open_block = None
            self._headers_complete(stream_id, bytes(block.data), end=block.end)

    def _headers_complete(self, stream_id: int, block: bytes, *, end: bool) -> None:
        headers = decode_block(self._decoder, block)
        call = self._calls.get(stream_id)
        if call is not None:
            # Trailers: a client of gRPC sends none, but it may.
            call.data_received(b"", end=end)
            return
        method = next((value for name, value in headers if name == b":path"), b"")
        self._begin(stream_id, method.decode("latin-1"), end=end)

    def _begin(self, stream_id: int, method: str, *, end: bool) -> None:
        if stream_id <= self._last_stream_id or not stream_id % 2:
            raise out_of_order(f"stream {stream_id} cannot begin")
        limits = self._listener.limits
        most = limits.concurrent_streams
        if self._leaving or (most is not None and len(self._calls) >= most):
            self._send(reset_frame(stream_id, ErrorCode.REFUSED_STREAM))
            return
        self._last_stream_id = stream_id
        self._opened += 1
        call = Call(self, stream_id, method)
        call.send_window = self._initial_window
        self._calls[stream_id] = call
        call.data_received(b"", end=end)
        call.task = self._loop.create_task(self._run(call))
        self.tasks.add(call.task)
        call.task.add_done_callback(self.tasks.discard)
        if limits.streams is not None and self._opened >= limits.streams:
            self.go_away()

    async def _run(self, call: Call) -> None:
        handler = self._listener.handler(call.method)
        if handler is None:
            self.end_call(call, StatusCode.UNIMPLEMENTED, f"unknown method {call.method}")
            return
        try:
            await handler(call)
        except CallError as error:
            self.end_call(call, error.code, error.message)
        except Exception:
            self.end_call(call, StatusCode.UNKNOWN, "the simulated picker failed")
            raise
        else:
            self.end_call(call, StatusCode.OK, "")

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        read_reset(payload)
        call = self._calls.get(stream_id)
        if call is not None:
            self._forget(call)
            if call.task is not None:
                call.task.cancel()

    def _on_settings(self, flags: int, _stream_id: int, payload: bytes) -> None:
        if flags & ACK:
            return
        settings = dict(read_settings(payload))
        window = settings.get(INITIAL_WINDOW_SIZE, self._initial_window)
        self._frame_size = settings.get(MAX_FRAME_SIZE, self._frame_size)
        for call in self._calls.values():
            call.send_window += window - self._initial_window
        self._initial_window = window
        self._send(SETTINGS_ACK)
        self._send_pending()

    def _on_ping(self, flags: int, _stream_id: int, payload: bytes) -> None:
        if flags & ACK:
            if self._parting and payload == _LAST_CALLS:
                self._leave(ErrorCode.NO_ERROR)
            return
        self._send(ping_ack(payload))
        if not self._pings.ping(time.monotonic(), calls=bool(self._calls)):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        increment = read_window_update(payload)
        if stream_id == 0:
            self._send_window += increment
        elif stream_id in self._calls:
            self._calls[stream_id].send_window += increment
        self._send_pending()

    _HANDLERS: dict[int, Callable[[RpcConnection, int, int, bytes], None]] = {  # noqa: RUF012 - never changed
        DATA: _on_data,
        HEADERS: _on_headers,
        CONTINUATION: _on_continuation,
        RST_STREAM: _on_reset,
        SETTINGS: _on_settings,
        PING: _on_ping,
        WINDOW_UPDATE: _on_window_update,
    }

    # -- for calls -------------------------------------------------------------------------

    def send_message(self, call: Call, data: bytes) -> None:
        """Send a message, with its prefix, as far as the windows allow; the rest follows."""
        if not call.headers_sent:
            call.headers_sent = True
            self._send_block(call, response_headers(), end=False)
        call.pending += data
        self._send_data(call)

    def end_call(self, call: Call, code: int, message: str) -> None:
        """Send the status once everything before it has been sent."""
        if call.over or call.ending is not None:
            return
        call.ending = code, message
        self._send_data(call)

    def reset_call(self, call: Call, code: int) -> None:
        if not call.over:
            self._send(reset_frame(call.stream_id, code))
            self._forget(call)

    def go_away(self, code: int = ErrorCode.NO_ERROR) -> None:
        """Ask the client to leave; the connection closes behind the last call that is under way.

        With an error no call is taken from now on. Else those that are on their way still are.
        """
        if code:
            self._leave(code)
        elif not (self._parting or self._leaving):
            self._parting = True
            self._send(_FIRST_FAREWELL)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(_FAREWELL_SECONDS, self._leave, code)

    def _leave(self, code: int) -> None:
        if not self._leaving:
            self._leaving = True
            self._send(goaway_frame(self._last_stream_id, code))
            self._close_if_done()

    def break_off(self) -> None:
        """Close at once with a TCP reset, whatever is under way."""
        if self._transport is None:
            return
        self._outgoing.clear()
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    # -- sending ---------------------------------------------------------------------------

    def _send_pending(self) -> None:
        for call in list(self._held_up.values()):
            self._send_data(call)

    def _send_data(self, call: Call) -> None:
        while call.pending:
            size = min(len(call.pending), self._frame_size, call.send_window, self._send_window)
            if size <= 0:
                self._held_up[call.stream_id] = call
                return
            data = bytes(call.pending[:size])
            del call.pending[:size]
            self._pings.sent()
            call.send_window -= size
            self._send_window -= size
            self._send(data_frame(call.stream_id, data, end=False))
        self._held_up.pop(call.stream_id, None)
        call.written()
        if call.ending is not None and not call.over:
            code, message = call.ending
            self._send_block(call, trailers(code, message, alone=not call.headers_sent), end=True)
            if not call.half_closed:
                # The client need not send what nobody reads.
                self._send(reset_frame(call.stream_id, ErrorCode.NO_ERROR))
            self._forget(call)

    def _send_block(self, call: Call, block: bytes, *, end: bool) -> None:
        self._pings.sent()
        self._send(header_frames(call.stream_id, block, self._frame_size, end=end))

    def _send(self, data: bytes) -> None:
        # What is sent within one turn of the loop goes out in one write.
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _forget(self, call: Call) -> None:
        call.over = True
        self._calls.pop(call.stream_id, None)
        self._held_up.pop(call.stream_id, None)
        call.written()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._leaving and not self._calls and self._transport is not None:
            self._flush()
            self._transport.close()
