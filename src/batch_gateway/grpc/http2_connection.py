"""The socket of an HTTP/2 connection: carries bytes between the event loop and the session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from batch_gateway.errors import InferenceError
from batch_gateway.grpc.grpc_call import Call
from batch_gateway.grpc.outcomes import hung_up
from batch_gateway.grpc.session import Session
from batch_gateway.grpc.session_limits import SessionLimits
from batch_gateway.grpc.stream_state import StreamState
from batch_gateway.http.connection_errors import broken_error, closed_error
from batch_gateway.http.dial import Dialled

__all__ = ["GrpcConnection"]

_NEVER = float("inf")
_HIGH_WATER = 1024 * 1024

# Everything is said by then. Many servers do not return the farewell of TLS at all.
_FAREWELL_SECONDS = 0.2


class GrpcConnection(Dialled):
    """The protocol of one socket, plain or TLS, and the calls on it.

    `on_change` is told when `room`, `count` or `draining` may have changed.

    Attributes:
        idle_since: when the last call ended, in monotonic seconds; infinity while there are any.
    """

    __slots__ = (
        "_farewell",
        "_greeted",
        "_loop",
        "_lost",
        "_lost_cause",
        "_on_change",
        "_peer",
        "_session",
        "_transport",
        "idle_since",
    )

    awaited = "its HTTP/2 settings had not come"
    _transport: asyncio.Transport

    def __init__(
        self,
        peer: str,
        limits: SessionLimits,
        on_change: Callable[[GrpcConnection], None],
    ) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._peer = peer
        self._on_change = on_change
        self._session = Session(peer, limits, self._output_waits)
        self._lost: asyncio.Future[None] = loop.create_future()
        self._lost_cause: Exception | None = None
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._farewell: asyncio.TimerHandle | None = None
        self.idle_since = time.monotonic()

    # --- for the channel ---

    @property
    def room(self) -> int:
        """How many calls may begin now."""
        return self._session.room

    @property
    def count(self) -> int:
        """How many calls are under way."""
        return len(self._session.streams)

    @property
    def draining(self) -> bool:
        """Whether no call will ever begin on it again."""
        return self._session.draining

    @property
    def is_lost(self) -> bool:
        return self._lost.done()

    def begin(self, block: bytes, deadline: float) -> Call:
        """Begin a call, for which there must be `room`. Past `deadline` somebody calls `expire`."""
        self.idle_since = _NEVER
        state = self._session.open(block, deadline)
        return Call(state, self._peer, self.settle, self._loop)

    def expire(self, now: float) -> float:
        """Fail the calls whose deadline has passed. Returns the earliest of the others."""
        earliest = self._session.expire(now)
        self.settle()
        return earliest

    def close(self) -> None:
        """Take leave in good order, with no call under way."""
        self.idle_since = _NEVER
        self._session.leave()
        self._hang_up()

    def abort(self, error: InferenceError | None = None) -> None:
        """Drop the connection now; calls under way get `error`."""
        failure = error or closed_error()
        self._session.lost(lambda _: failure.copy_for("", attempts=0))
        self.settle()
        self._transport.abort()

    async def opened(self, *, tls: bool) -> None:
        """Wait for the peer's settings. Raises InferenceError when it does not speak HTTP/2."""
        await self._greeted
        if self._session.failure is not None:
            raise self._session.failure
        if self._lost.done():
            raise self._session.failure or hung_up(self._lost_cause, self._peer, tls=tls)

    async def wait_lost(self) -> None:
        """Return once the socket is closed."""
        await asyncio.shield(self._lost)

    def settle(self) -> None:
        """Tell those concerned about what has changed in the session."""
        session = self._session
        while session.touched:
            touched, session.touched = session.touched, []
            for state in touched:
                state.touched = False
                state.on_change()
        if not session.changed:
            return
        session.changed = False
        if not self._greeted.done() and (session.ready or session.over):
            self._greeted.set_result(None)
        if not session.streams:
            if session.draining:
                self._hang_up()
            elif self.idle_since == _NEVER:
                self.idle_since = time.monotonic()
        self._on_change(self)

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of it, so this cannot be checked.
        self._transport = cast("asyncio.Transport", transport)
        # The windows of the calls bound what is written, and who is held back costs a task a turn.
        self._transport.set_write_buffer_limits(_HIGH_WATER)
        # Now, as the server may speak first, and no answer may go out before our greeting.
        self._session.greet()

    def data_received(self, data: bytes) -> None:
        self._session.feed(data)
        self.settle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost_cause = exc
        self._lost.set_result(None)
        if self._farewell is not None:
            self._farewell.cancel()
        self._session.lost(self._broken)
        self.settle()

    def pause_writing(self) -> None:
        self._session.congested = True

    def resume_writing(self) -> None:
        self._session.relieved()
        self.settle()

    # --- the rest ---

    def _output_waits(self) -> None:
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        output = self._session.output
        if output and not self._transport.is_closing():
            self._transport.write(b"".join(output))
        output.clear()

    def _hang_up(self) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        self._flush()
        transport.close()
        # It would wait for ever for a peer that does not read, or does not return TLS's farewell.
        self._farewell = self._loop.call_later(_FAREWELL_SECONDS, transport.abort)

    def _broken(self, state: StreamState) -> InferenceError:
        return broken_error(
            self._lost_cause,
            self._peer,
            reused=state.reused,
            received=int(state.received),
            progress="the call had not ended",
        )
