"""A call as its caller sees it: waits for what its stream's state says can be had."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from batch_gateway.errors import InferenceError
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.outcomes import timed_out
from batch_gateway.grpc.stream_state import StreamState
from batch_gateway.wire.http2.grpc_messages import FrameAround
from batch_gateway.wire.http2.grpc_status import StatusCode

__all__ = ["Call"]

# What a server says whose own clock for the call ran out a moment before ours.
_ENDED_BY_TIME = (StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED)


class Call:
    """A `GrpcStream`. `settle` tells the connection that something was done to the stream."""

    __slots__ = ("_listener", "_loop", "_peer", "_senders", "_settle", "_state", "_waiter")

    def __init__(
        self,
        state: StreamState,
        peer: str,
        settle: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._state = state
        self._loop = loop
        self._peer = peer
        self._settle = settle
        self._waiter: asyncio.Future[None] | None = None
        self._senders: list[asyncio.Future[None]] = []
        self._listener: Callable[[], None] | None = None
        state.on_change = self._changed

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """See `GrpcStream.send`."""
        state = self._state
        if not state.over:
            state.send(message, end=end)
            if state.held_back:
                await self._sent()
        if isinstance(state.error, InferenceError):
            raise state.error

    def send_nowait(self, messages: Sequence[bytes], *, end: bool = False) -> bool:
        """See `GrpcStream.send_nowait`."""
        return not self._state.over and self._state.send_at_once(messages, end=end)

    async def half_close(self) -> None:
        """See `GrpcStream.half_close`."""
        if not self._state.over:
            self._state.half_close()

    async def receive(self) -> bytes | None:
        """See `GrpcStream.receive`. One at a time."""
        state = self._state
        while not state.messages:
            if state.over:
                return self._outcome()
            if self._waiter is not None:
                raise RuntimeError("somebody else waits for this call's next message")
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return state.take()

    def listen(self, callback: Callable[[], None] | None) -> None:
        """See `GrpcStream.listen`."""
        self._listener = callback
        if callback is not None and (self._state.messages or self._state.over):
            callback()

    def offer(self, take: Callable[[bytes, int, int], int] | None) -> None:
        """See `GrpcStream.offer`."""
        self._state.offer(take)

    @property
    def send_around(self) -> Callable[[FrameAround, bytes], bool]:
        """See `GrpcStream.send_around`."""
        return self._state.send_around

    def receive_all(self, take: Callable[[bytes], None]) -> bool:
        """See `GrpcStream.receive_all`."""
        state = self._state
        while state.messages:
            take(state.take())
        if state.over:
            self._outcome()
        return state.over

    def cancel(self) -> None:
        """See `GrpcStream.cancel`."""
        self._listener = None
        self._state.messages.clear()
        if not self._state.over:
            self._state.cancel()
            self._settle()

    async def _sent(self) -> None:
        while self._state.held_back:
            turn = self._loop.create_future()
            self._senders.append(turn)
            await turn

    def _outcome(self) -> None:
        error = self._state.error
        if error is None:
            return
        by_time = isinstance(error, GrpcStatusError) and error.code in _ENDED_BY_TIME
        if by_time and time.monotonic() >= self._state.deadline:
            raise timed_out(self._state, self._peer) from error
        raise error

    def _changed(self) -> None:
        waiter, state = self._waiter, self._state
        if waiter is not None and not waiter.done() and (state.messages or state.over):
            waiter.set_result(None)
        if self._senders and not state.held_back:
            for turn in self._senders:
                if not turn.done():
                    turn.set_result(None)
            self._senders.clear()
        listener = self._listener
        if state.over:
            # The last time; without a circle of references all of it goes at once.
            state.on_change = _nobody
            self._listener = None
        if listener is not None and (state.messages or state.over):
            listener()


def _nobody() -> None:
    """Nothing more happens to a call that has ended."""
