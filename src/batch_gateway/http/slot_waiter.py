"""A request's place in the pool's queue."""

from __future__ import annotations

import asyncio

from batch_gateway.errors import InferenceError, RequestTimeoutError
from batch_gateway.http.connection import Connection
from batch_gateway.http.pool import DialSlot

__all__ = ["SlotWaiter"]


class SlotWaiter:
    """Waits until the pool grants a connection, or a slot to dial one in.

    Attributes:
        deadline: in monotonic seconds; past it somebody must call `expire`.
    """

    __slots__ = ("_peer", "_turn", "deadline")

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str, deadline: float) -> None:
        self._peer = peer
        self._turn: asyncio.Future[Connection | DialSlot] = loop.create_future()
        self.deadline = deadline

    @property
    def turn(self) -> asyncio.Future[Connection | DialSlot]:
        return self._turn

    def done(self) -> bool:
        return self._turn.done()

    def grant(self, turn: Connection | DialSlot) -> None:
        self._turn.set_result(turn)

    def granted(self) -> bool:
        """Whether it had its turn, taken up or not."""
        turn = self._turn
        return turn.done() and not turn.cancelled() and turn.exception() is None

    def expire(self) -> None:
        self.fail(RequestTimeoutError(f"no connection to {self._peer} became free in time"))

    def fail(self, error: InferenceError) -> None:
        if not self._turn.done():
            self._turn.set_exception(error)
            # Marks it as seen: a task that is cancelled in this very moment will not look.
            self._turn.exception()
