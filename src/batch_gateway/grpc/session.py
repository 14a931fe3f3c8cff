"""One HTTP/2 connection as a client sees it (RFC 9113): bytes in, bytes out, streams. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from batch_gateway.errors import GatewayConnectionError, InferenceError
from batch_gateway.grpc.outcomes import broken_rule, no_http2, not_processed, timed_out
from batch_gateway.grpc.request_blocks import ResponseBlocks
from batch_gateway.grpc.session_limits import LARGEST_FRAME, SessionLimits, greeting, read_theirs
from batch_gateway.grpc.stream_state import StreamState
from batch_gateway.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    NO_TAKERS,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FrameReader,
    FrameTaker,
    content,
    goaway_frame,
    header_frames,
    ping_ack,
    read_goaway,
    read_reset,
    read_window_update,
    window_update,
)
from batch_gateway.wire.http2.header_blocks import OpenBlock
from batch_gateway.wire.http2.http2_errors import (
    ErrorCode,
    ProtocolError,
    code_name,
    out_of_order,
    require_size,
)
from batch_gateway.wire.http2.settings import (
    FIRST_FRAME_SIZE,
    FIRST_WINDOW,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    SETTINGS_ACK,
)

__all__ = ["Session"]

# Sent in one frame even if the server would take more: other streams want their turn.
_LARGEST_SENT = 64 * 1024
# A peer that makes us answer but does not read must not fill memory with answers.
_MOST_UNREAD_ANSWERS = 1_000


class Session:
    """The state of one connection.

    Attributes:
        output: what is to be written; `on_output` is called when it stops being empty.
        streams: those that are open, by number.
        takers: those among them that are offered what comes before it becomes frames.
        touched: streams whose `on_change` is due, which is for the owner to call.
        changed: whether `room`, or something it depends on, has changed; for the owner to reset.
        ready: whether the server's SETTINGS have come.
        draining: whether no further stream may be opened, though some may be open still.
        over: whether nothing may be sent or received any more, `failure` says why.
    """

    def __init__(
        self,
        peer: str,
        limits: SessionLimits,
        on_output: Callable[[], None],
        *,
        first_stream: int = 1,
    ) -> None:
        self.peer = peer
        self._limits = limits
        self._on_output = on_output
        self.output: list[bytes] = []
        self.streams: dict[int, StreamState] = {}
        self.takers: dict[int, FrameTaker] = {}
        self.touched: list[StreamState] = []
        self.changed = False
        self.ready = False
        self.draining = False
        self.over = False
        self.failure: InferenceError | None = None
        self.send_window = FIRST_WINDOW
        self.largest_frame = FIRST_FRAME_SIZE
        self.congested = False
        self._next_stream = first_stream
        self._stream_window = FIRST_WINDOW
        self._max_streams = 2**31  # until it says otherwise
        self._used = 0
        self._portion = max(1, limits.connection_window // 2)
        self._frames = FrameReader(LARGEST_FRAME, self.takers)
        self._blocks = ResponseBlocks()
        self._held_back: dict[StreamState, None] = {}
        self._open_block: OpenBlock | None = None
        self._unread_answers = 0
        self._farewell = ""
        self._heard = 0
        self._first_bytes = b""
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            RST_STREAM: self._on_reset,
            SETTINGS: self._on_settings,
            PUSH_PROMISE: self._on_push,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
            CONTINUATION: self._on_continuation,
        }

    # --- for the owner ---

    @property
    def room(self) -> int:
        """How many streams may be opened now."""
        if self.draining or not self.ready:
            return 0
        return self._max_streams - len(self.streams)

    def greet(self) -> None:
        """Say what a client says first."""
        self.write(greeting(self._limits))

    def open(self, block: bytes, deadline: float) -> StreamState:
        """Open a stream, for which there must be `room`."""
        number = self._next_stream
        self._next_stream = number + 2
        if self._next_stream > LARGEST_WINDOW:  # the largest stream number is the same
            self.draining = True
        stream = StreamState(number, self, self._limits, send_window=self._stream_window)
        stream.deadline = deadline
        stream.reused = not self.streams and number > 1
        stream.heard_before = self._heard
        self.streams[number] = stream
        self.write(header_frames(number, block, self.largest_frame))
        return stream

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""
        if self.over:
            return
        self._heard += len(data)
        frames, handler_of = self._frames, self._handlers.get
        try:
            if not self.ready:
                self._check_beginning(data)
            for kind, flags, number, payload in frames.feed(data):
                if not self.ready or self._open_block is not None:
                    self._require_order(kind, flags)
                handler = handler_of(kind)
                if handler is None:  # PRIORITY, and what is not defined yet
                    continue
                try:
                    handler(flags, number, payload)
                except ProtocolError as violation:
                    stream = self.streams.get(violation.stream or 0)
                    if stream is None:
                        raise
                    stream.violated(violation)
            self._used += frames.taken
            if self._used >= self._portion:
                self._allow_more()
        except ProtocolError as violation:
            self._broken(violation)

    def relieved(self) -> None:
        """What had piled up is written."""
        self.congested = False
        self._unread_answers = 0
        self._send_held_back()

    def leave(self) -> None:
        """Take leave in good order. What streams there are go on."""
        if not self.over:
            self.draining = True
            self.write(goaway_frame(0, ErrorCode.NO_ERROR))

    def expire(self, now: float) -> float:
        """Give up the streams past their deadline. Returns the earliest of the others.

        One in whose whole time nothing has come, on any stream, may have been said to nobody: a
        host that is gone says no more. Streams to come are then better opened elsewhere.
        """
        earliest = float("inf")
        for stream in list(self.streams.values()):
            if stream.deadline > now:
                earliest = min(earliest, stream.deadline)
                continue
            self.draining |= stream.heard_before == self._heard
            stream.cancel(timed_out(stream, self.peer))
        return earliest

    def lost(self, error_of: Callable[[StreamState], InferenceError]) -> None:
        """The connection is gone, and with it the streams that are open."""
        self.over = self.draining = self.changed = True
        said = "" if self.failure is not None else self._farewell
        told = f"{self.peer} ended the connection ({said})"
        for stream in list(self.streams.values()):
            stream.fail(GatewayConnectionError(told) if said else error_of(stream))

    # --- for the streams ---

    def write(self, frames: bytes) -> None:
        if not self.output:
            self._on_output()
        self.output.append(frames)

    def touch(self, stream: StreamState) -> None:
        if not stream.touched:
            stream.touched = True
            self.touched.append(stream)

    def hold_back(self, stream: StreamState) -> None:
        self._held_back[stream] = None

    def forget(self, stream: StreamState) -> None:
        del self.streams[stream.id]
        self.takers.pop(stream.id, None)
        self._held_back.pop(stream, None)
        self.changed = True

    # --- frames ---

    def _require_order(self, kind: int, flags: int) -> None:
        if not self.ready and (kind != SETTINGS or flags & ACK):
            raise out_of_order("it does not begin with SETTINGS")
        if self._open_block is not None and kind != CONTINUATION:
            raise out_of_order("a frame within a block of headers")

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        # Used as it comes, so that the window is at least half open whenever anything comes.
        self._used += size
        if self._used >= self._portion:
            self._allow_more()
        data = payload if flags <= END_STREAM else content(DATA, flags, payload)
        stream = self.streams.get(number) or self._known(number)
        if stream is not None:
            stream.data_received(data, size, end=bool(flags & END_STREAM))

    def _allow_more(self) -> None:
        self.write(window_update(0, self._used))
        self._used = 0

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        block = payload if flags <= END_HEADERS | END_STREAM else content(HEADERS, flags, payload)
        end = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._headers_complete(number, block, end=end)
        else:
            self._known(number)
            self._open_block = OpenBlock(number, block, end=end)
            self._frames.takers = NO_TAKERS

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._open_block
        if block is None or block.number != number:
            raise out_of_order("CONTINUATION without a beginning")
        block.append(payload)
        if flags & END_HEADERS:
            self._open_block = None
            self._frames.takers = self.takers
            self._headers_complete(number, bytes(block.data), end=block.end)

    def _headers_complete(self, number: int, block: bytes, *, end: bool) -> None:
        stream = self.streams.get(number) or self._known(number)
        # Read though nobody may want it: an invalid one is the connection's failure.
        headers = self._blocks.read(block)
        if stream is not None:
            stream.headers_received(headers, end=end)

    def _on_reset(self, _flags: int, number: int, payload: bytes) -> None:
        code = read_reset(payload)
        stream = self._known(number)
        if stream is not None:
            stream.reset_received(code)

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise out_of_order("SETTINGS on a stream")
        if flags & ACK:
            require_size("an acknowledgement of SETTINGS", payload, 0)
            return
        settings = read_theirs(payload)
        # Before anything that they allow: some servers apply them when this arrives.
        self._answer(SETTINGS_ACK)
        for name, value in settings:
            if name == INITIAL_WINDOW_SIZE:
                self._change_windows(value)
            elif name == MAX_FRAME_SIZE:
                self.largest_frame = min(value, _LARGEST_SENT)
            elif name == MAX_CONCURRENT_STREAMS:
                self._max_streams = value
        self.ready = self.changed = True
        self._send_held_back()

    def _on_push(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise out_of_order("a push, which it was told not to make")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise out_of_order("PING on a stream")
        require_size("PING", payload, 8)
        if not flags & ACK:
            self._answer(ping_ack(payload))

    def _on_goaway(self, _flags: int, number: int, payload: bytes) -> None:
        if number:
            raise out_of_order("GOAWAY on a stream")
        last, code, said = read_goaway(payload)
        self.draining = self.changed = True
        reason = "went away"
        if code:
            self._farewell = f"{code_name(code)}: {said}" if said else code_name(code)
            reason = f"ended the connection ({self._farewell})"
        for stream in [one for one in self.streams.values() if one.id > last]:
            stream.fail(not_processed(self.peer, reason))

    def _on_window_update(self, _flags: int, number: int, payload: bytes) -> None:
        increment = read_window_update(payload)
        stream = self._known(number) if number else None
        if number and stream is None:
            return
        if not increment:
            raise out_of_order("a WINDOW_UPDATE of nothing", number or None)
        if stream is not None:
            stream.window_grown(increment)
            return
        self.send_window += increment
        if self.send_window > LARGEST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
        self._send_held_back()

    # --- what follows from them ---

    def _check_beginning(self, data: bytes) -> None:
        """Anything but SETTINGS of less than 64 KiB is no HTTP/2, and may never fill a frame."""
        self._first_bytes = (self._first_bytes + data)[:16]
        if self._first_bytes[:1] > b"\x00":
            raise out_of_order("it does not begin with SETTINGS")

    def _known(self, number: int) -> StreamState | None:
        """An open stream; None for one that was open once.

        What is still on its way when we close a stream is to be ignored.
        """
        stream = self.streams.get(number)
        if stream is None and (not number & 1 or number >= self._next_stream):
            raise out_of_order("a frame on a stream that was never opened")
        return stream

    def _change_windows(self, size: int) -> None:
        change = size - self._stream_window
        self._stream_window = size
        try:
            for stream in list(self.streams.values()):
                stream.window_grown(change)
        except ProtocolError as violation:
            violation.stream = None  # it is not one stream's fault
            raise

    def _send_held_back(self) -> None:
        """One frame for each stream in turn, as long as any may send."""
        going_on = True
        while going_on and self._held_back and self.send_window > 0 and not self.congested:
            going_on = False
            for stream in list(self._held_back):
                going_on |= stream.send_frame()
                if not stream.held_back:
                    del self._held_back[stream]

    def _answer(self, frame: bytes) -> None:
        if self.congested:
            self._unread_answers += 1
            if self._unread_answers > _MOST_UNREAD_ANSWERS:
                raise ProtocolError(
                    ErrorCode.ENHANCE_YOUR_CALM, "it asks for answers and does not read them"
                )
        self.write(frame)

    def _broken(self, violation: ProtocolError) -> None:
        self.write(goaway_frame(0, violation.code, violation.problem.encode()))
        problem, peer, first = violation.problem, self.peer, self._first_bytes
        error = broken_rule(problem, peer) if self.ready else no_http2(first, problem, peer)
        self.failure = error
        self.lost(lambda _: error.copy_for("", attempts=0))
