"""The seam between what is said to a gRPC service and the HTTP/2 beneath it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from batch_gateway.wire.http2.grpc_messages import FrameAround

__all__ = ["GrpcChannel", "GrpcStatusError", "GrpcStream"]


class GrpcStatusError(Exception):
    """The call ended with a status other than OK.

    Attributes:
        code: the number of the status (google.rpc.Code): 13 is INTERNAL, 14 UNAVAILABLE.
        message: what the service said, percent-decoded.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class GrpcStream(Protocol):
    """One call under way: messages as bytes in both directions.

    A stream is over once `receive` returned None or raised, or `cancel` was called; until then
    whoever opened it owes it a `cancel`.
    """

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message; `end` half-closes. Waits only while flow control allows no more.

        Does nothing when the service has ended the call already: `receive` says how. Raises as
        `receive` does when the connection is gone.
        """
        ...

    def send_nowait(self, messages: Sequence[bytes], *, end: bool = False) -> bool:
        """Send all of `messages` now, as `send` would one after another; `end` half-closes.

        False when that cannot be, because of flow control or because the call is over: then
        nothing was sent, and `send` does what is to be done.
        """
        ...

    async def half_close(self) -> None:
        """Say that no more is sent."""
        ...

    async def receive(self) -> bytes | None:
        """The next message, or None when the service ended the call with OK.

        Raises GrpcStatusError; GatewayConnectionError when the connection was lost; and
        RequestTimeoutError past the deadline of the call.
        """
        ...

    def listen(self, callback: Callable[[], None] | None) -> None:
        """Call back, on the event loop, each time something can be received without waiting.

        For who has something else to wait for. Called at once when something is there already.
        """
        ...

    def offer(self, take: Callable[[bytes, int, int], int] | None) -> None:
        """Offer frames to `take`, which is given bytes, and where in them begins and ends what one
        carries. It returns where that ends which it has taken of it.

        For who knows what the next messages are, as they go into a stream, and can spare reading
        them. Any frame may come unoffered, and what follows a message that has not been received
        does.
        """
        ...

    @property
    def send_around(self) -> Callable[[FrameAround, bytes], bool]:
        """As `send_nowait`, for one message of which all but the end is in its frame already."""
        ...

    def receive_all(self, take: Callable[[bytes], None]) -> bool:
        """Give `take` each message that `receive` would not wait for.

        Whether the service has ended the call with OK. Raises as `receive` does, and what `take`
        raises.
        """
        ...

    def cancel(self) -> None:
        """Give the call up, whatever its state. The service sees RST_STREAM unless it ended."""
        ...


class GrpcChannel(Protocol):
    """Calls to one target, over as few connections as the target's stream limits allow."""

    async def open(
        self,
        method: str,
        *,
        metadata: Sequence[tuple[str, str]] = (),
        deadline: float,
        begin_by: float = float("inf"),
    ) -> GrpcStream:
        """Begin a call. `method` is the whole path; `deadline` in `time.monotonic()` seconds, as is
        `begin_by`, past which no connection is waited for.

        Raises GatewayConnectionError (TLSError among them) and RequestTimeoutError.
        """
        ...

    async def unary(self, method: str, message: bytes, *, deadline: float) -> bytes:
        """One message there, one back. Raises as `open` and `GrpcStream.receive` do."""
        ...

    async def connect(self, *, deadline: float) -> None:
        """Make sure that the target can be reached: name, TCP, TLS, HTTP/2 settings."""
        ...

    async def aclose(self) -> None:
        """Close every connection; calls under way are aborted."""
        ...
