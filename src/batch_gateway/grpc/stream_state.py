"""One HTTP/2 stream that carries a gRPC call: its states, its windows, its messages. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from batch_gateway.errors import BadResponseError
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.outcomes import broken_rule, reset_error, response_problem, status_outcome
from batch_gateway.grpc.request_blocks import ResponseHeaders
from batch_gateway.grpc.session_limits import SessionLimits
from batch_gateway.wire.http2.frames import FrameTaker, data_frame, reset_frame, window_update
from batch_gateway.wire.http2.grpc_messages import (
    PREFIX_SIZE,
    FrameAround,
    MessageError,
    MessageReader,
    message_frame,
    messages_frame,
    prefixed,
)
from batch_gateway.wire.http2.grpc_status import StatusCode
from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError, out_of_order
from batch_gateway.wire.http2.settings import LARGEST_WINDOW
from batch_gateway.wire.http2.windows import ReceiveWindow

__all__ = ["Outlet", "StreamState"]

_NEVER = float("inf")


def _nobody() -> None:
    """Nobody wants to know yet."""


def _takes_nothing(_data: bytes, start: int, _end: int) -> int:
    return start


class Outlet(Protocol):
    """What a stream needs of its connection.

    Attributes:
        send_window: how many bytes of DATA the server takes on the whole connection.
        largest_frame: how many of them in one frame.
        congested: whether what was written has piled up.
        output: what is written and has not gone out; the first is to be put there by `write`.
        takers: the streams that are offered what comes.
    """

    send_window: int
    largest_frame: int
    congested: bool
    output: list[bytes]
    takers: dict[int, FrameTaker]

    @property
    def peer(self) -> str: ...
    def write(self, frames: bytes) -> None: ...
    def touch(self, stream: StreamState) -> None:
        """Something changed that whoever waits for the stream wants to know."""
        ...

    def hold_back(self, stream: StreamState) -> None:
        """The stream has more to send than it may."""
        ...

    def forget(self, stream: StreamState) -> None:
        """The stream is closed."""
        ...


class StreamState:
    """A call from its request headers to its end.

    Attributes:
        messages: received and not yet taken.
        over: whether the call has ended; `error` then says how, None being OK.
        received: whether anything of a response has arrived.
        reused: whether its connection had been idle, so that the server may have closed it unseen.
        heard_before: how much had come on its connection when it was opened.
        deadline: in monotonic seconds; past it somebody must call `cancel`.
        touched: whether `on_change` is due.
        offer_to, spare: see `FrameTaker`.
        on_change: told when something can be received, when all is sent, and at the end.
    """

    __slots__ = (
        "_granted",
        "_half_closed",
        "_head",
        "_number",
        "_outlet",
        "_reader",
        "_send_window",
        "_taken",
        "_unsent",
        "_unsent_end",
        "_window",
        "deadline",
        "error",
        "heard_before",
        "id",
        "messages",
        "offer_to",
        "on_change",
        "over",
        "received",
        "reused",
        "spare",
        "touched",
    )

    def __init__(
        self, stream_id: int, outlet: Outlet, limits: SessionLimits, *, send_window: int
    ) -> None:
        self.id = stream_id
        self._number = stream_id.to_bytes(4)
        self._outlet = outlet
        self._send_window = send_window
        self._window = ReceiveWindow(limits.stream_window)
        # Most calls are over before the window needs to know of it.
        self._taken = 0
        self._reader = MessageReader(limits.max_message)
        self.messages = self._reader.messages
        self._head: ResponseHeaders | None = None
        self._unsent = bytearray()
        self._unsent_end = False
        self._half_closed = False
        self.over = False
        self.error: Exception | None = None
        self.received = False
        self.reused = False
        self.heard_before = 0
        self.deadline = _NEVER
        self.touched = False
        self.offer_to = _takes_nothing
        self.spare = -1
        # What `spare` was when the window was looked at last.
        self._granted = -1
        self.on_change = _nobody

    # --- for the caller ---

    @property
    def held_back(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._unsent)

    def send(self, message: bytes, *, end: bool) -> None:
        """Send a message, or as much of it as may be sent now."""
        if self._half_closed or self._unsent_end:
            if not self.over:
                raise RuntimeError("a message after the call was half-closed")
            return
        outlet = self._outlet
        size = len(message) + PREFIX_SIZE
        if (
            size <= self._send_window
            and size <= outlet.send_window
            and size <= outlet.largest_frame
            and not self._unsent
            and not outlet.congested
        ):
            self._send_window -= size
            outlet.send_window -= size
            self._half_closed = end
            outlet.write(message_frame(self.id, message, end=end))
            return
        self._unsent += prefixed(message)
        self._unsent_end = end
        self._send_more()

    def send_at_once(self, messages: Sequence[bytes], *, end: bool) -> bool:
        """Send messages in one frame; False, and nothing sent, where they may not go so."""
        outlet = self._outlet
        is_one = len(messages) == 1
        size = len(messages[0]) if is_one else sum(map(len, messages))
        size += PREFIX_SIZE * len(messages)
        left, all_left = self._send_window - size, outlet.send_window - size
        if left < 0 or all_left < 0 or size > outlet.largest_frame or self._half_closed:
            return False
        if self._unsent or outlet.congested:
            return False
        self._send_window, outlet.send_window = left, all_left
        self._half_closed = end
        if is_one:
            outlet.write(message_frame(self.id, messages[0], end=end))
        else:
            outlet.write(messages_frame(self.id, messages, size, end=end))
        return True

    def send_around(self, frame: FrameAround, rest: bytes) -> bool:
        """Send a message whose end is `rest` in a frame; False, and nothing sent, where it may not
        go so.
        """
        before, behind, size = frame
        outlet, left = self._outlet, self._send_window - size
        all_left = outlet.send_window - size
        if left < 0 or all_left < 0 or size > outlet.largest_frame or self._half_closed:
            return False
        if self._unsent or outlet.congested:
            return False
        self._send_window, outlet.send_window = left, all_left
        output = outlet.output
        if not output:
            outlet.write(b"")
        output += (before, self._number, behind, rest)
        return True

    def half_close(self) -> None:
        """Say that no more is sent, once all is."""
        if self._half_closed or self._unsent_end:
            return
        if self._unsent:
            self._unsent_end = True
        else:
            self._half_closed = True
            self._outlet.write(data_frame(self.id, b"", end=True))

    def take(self) -> bytes:
        """The next of `messages`, which makes room for more."""
        message = self.messages.popleft()
        self._taken += len(message) + PREFIX_SIZE
        if self._window.worn and not self.over:
            self._allow_more(self._taken)
        if self.offer_to is not _takes_nothing:
            self._go_on_offering()
        return message

    def offer(self, take: Callable[[bytes, int, int], int] | None) -> None:
        """Offer what comes to `take`, see `GrpcStream.offer`."""
        self._look_at_window()
        if take is None:
            self._outlet.takers.pop(self.id, None)
            self.offer_to = _takes_nothing
        elif not self.over:
            self._outlet.takers[self.id] = self
            self.offer_to = take
            self._go_on_offering()

    def cancel(self, error: Exception | None = None) -> None:
        """Give the call up."""
        if not self.over:
            self._outlet.write(reset_frame(self.id, ErrorCode.CANCEL))
            self.fail(error or GrpcStatusError(StatusCode.CANCELLED, "the call was given up"))

    def fail(self, error: Exception | None) -> None:
        """The call is over: on its own account, or with its connection."""
        if self.over:
            return
        self.over = self._half_closed = True
        self.offer_to = _takes_nothing
        self.error = error
        self._unsent.clear()
        self._outlet.forget(self)
        self._outlet.touch(self)

    # --- for the connection ---

    def headers_received(self, headers: ResponseHeaders, *, end: bool) -> None:
        self.received = True
        peer = self._outlet.peer
        if headers.problem:
            raise self._violation(headers.problem)
        if self._head is not None:
            if not end or headers.http_status is not None:
                raise self._violation("headers in the middle of a response")
            self._end(status_outcome(headers, peer, incomplete=bool(self._reader.held)))
            return
        status = headers.http_status
        if status is None:
            raise self._violation("a response without a status")
        if 100 <= status < 200:
            if end:
                raise self._violation("a response that ends before it begins")
            return
        self._head = headers
        if end and headers.grpc_status is not None:
            self._end(status_outcome(headers, peer, incomplete=False))
            return
        if self.offer_to is not _takes_nothing:
            self._go_on_offering()
        problem = response_problem(headers, peer)
        if end:
            self._end(problem or status_outcome(headers, peer, incomplete=False))
        elif problem is not None:
            self._break_off(ErrorCode.CANCEL, problem)

    def data_received(self, data: bytes, size: int, *, end: bool) -> None:
        """`size` is that of the frame's payload, padding included: flow control counts it all."""
        if self._head is None:
            raise self._violation("content before headers")
        if self.spare >= 0:
            self._look_at_window()
        if not self._window.take(size):
            raise ProtocolError(
                ErrorCode.FLOW_CONTROL_ERROR, "more content than it was allowed", self.id
            )
        try:
            self._reader.feed(data)
        except MessageError as error:
            self._break_off(ErrorCode.CANCEL, BadResponseError(f"{self._outlet.peer} sent {error}"))
            return
        if end:
            self._end(BadResponseError(f"{self._outlet.peer} ended the call without a status"))
        elif self.messages:
            if not self.touched:
                self._outlet.touch(self)
        else:
            # All there is belongs to a message that must become complete.
            self._allow_more(None)
            self._go_on_offering()

    def reset_received(self, code: int) -> None:
        self._half_closed = True
        self.fail(reset_error(code, self._outlet.peer))

    def window_grown(self, increment: int) -> None:
        """By WINDOW_UPDATE, or by a change of SETTINGS, which may be negative."""
        self._send_window += increment
        if self._send_window > LARGEST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large", self.id)
        if self._unsent and self._send_window > 0:
            self._send_more()

    def violated(self, violation: ProtocolError) -> None:
        """The server broke a rule that ends this stream alone."""
        self._break_off(violation.code, broken_rule(violation.problem, self._outlet.peer))

    def send_frame(self) -> bool:
        """Send one frame of what is held back; whether that was possible."""
        outlet, unsent = self._outlet, self._unsent
        size = min(len(unsent), self._send_window, outlet.send_window, outlet.largest_frame)
        if size <= 0 or outlet.congested:
            return False
        piece = bytes(unsent[:size])
        del unsent[:size]
        self._send_window -= size
        outlet.send_window -= size
        end = self._unsent_end and not unsent
        self._half_closed = end
        outlet.write(data_frame(self.id, piece, end=end))
        if not unsent:
            outlet.touch(self)
        return True

    def _send_more(self) -> None:
        while self._unsent and self.send_frame():
            pass
        if self._unsent:
            self._outlet.hold_back(self)

    def _look_at_window(self) -> None:
        """Count what was taken since, and let nothing more be taken until `_go_on_offering`."""
        if self.spare >= 0:
            taken = self._granted - self.spare
            self._window.take(taken)
            self._taken += taken
            self.spare = -1

    def _go_on_offering(self) -> None:
        offered, begun = self.offer_to is not _takes_nothing, self._head is not None
        if offered and begun and not (self.messages or self._reader.held):
            self.spare = self._granted = self._window.spare

    def _allow_more(self, size: int | None) -> None:
        if size is None or not self.messages:
            increment = self._window.use_all()
        else:
            increment = self._window.use(size)
        self._taken = 0
        if increment:
            self._outlet.write(window_update(self.id, increment))

    def _end(self, error: Exception | None) -> None:
        """The server has said its last word."""
        if not self._half_closed:
            # Ours is open still, and there is nobody left to listen (RFC 9113 §8.1).
            self._outlet.write(reset_frame(self.id, ErrorCode.NO_ERROR))
        self.fail(error)

    def _break_off(self, code: ErrorCode, error: Exception) -> None:
        if not self.over:
            self._outlet.write(reset_frame(self.id, code))
            self.fail(error)

    def _violation(self, problem: str) -> ProtocolError:
        return out_of_order(problem, self.id)
