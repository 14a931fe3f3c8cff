"""What a channel leaves running in the event loop: connections, dials, the queue, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time

from batch_gateway.errors import GatewayConnectionError, InferenceError
from batch_gateway.grpc.grpc_call import Call
from batch_gateway.grpc.http2_connection import GrpcConnection
from batch_gateway.grpc.session_limits import SessionLimits
from batch_gateway.grpc.slots import Slots
from batch_gateway.http.connection_errors import closed_error
from batch_gateway.http.dial import Dialler
from batch_gateway.http.sweeper import Sweeper
from batch_gateway.http.target import Target

__all__ = ["CallInLine", "Links"]

# How long `close` waits for peers to say goodbye before it hangs up on them.
_FAREWELL_SECONDS = 2.0
_NEVER = float("inf")


class CallInLine:
    """A call that waits for a connection with room. Without a block it only wants to know.

    It waits until `deadline`, and has as long as `last_until` once it has begun.
    """

    __slots__ = ("_block", "_call", "_last_until", "deadline", "turn")

    def __init__(self, block: bytes | None, deadline: float, last_until: float) -> None:
        self._block = block
        self._last_until = last_until
        self._call: Call | None = None
        self.deadline = deadline
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        return self.turn.done()

    def grant(self, connection: GrpcConnection) -> None:
        # Begun at once, or others would take the room before the task that waits wakes up.
        if self._block is not None:
            self._call = connection.begin(self._block, self._last_until)
        self.turn.set_result(None)

    def fail(self, error: InferenceError) -> None:
        if not self.turn.done():
            self.turn.set_exception(error)
            # Marks it as seen: a task that is cancelled in this very moment will not look.
            self.turn.exception()

    def call(self) -> Call:
        """The call that was begun."""
        assert self._call is not None  # noqa: S101 - it has had its turn
        return self._call

    def give_up(self) -> None:
        if self._call is not None:
            self._call.cancel()


class Links:
    """The connections of one channel."""

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        limits: SessionLimits,
        *,
        connect_timeout: float,
        slots: Slots[GrpcConnection],
    ) -> None:
        self.slots = slots
        self._peer = target.name
        self.deadlines = Sweeper(slots.expire)
        self._eviction = Sweeper(slots.evict)
        self._dial_task: asyncio.Task[None] | None = None
        self._closed = False
        self._dialler = Dialler(
            target,
            context,
            connect_timeout,
            lambda: GrpcConnection(target.name, limits, self._changed),
        )

    async def wait(self, waiter: CallInLine) -> None:
        """Wait for a connection with room, which is made if there is none."""
        self.slots.enqueue(waiter)
        self._dial_if_needed()
        try:
            await waiter.turn
        except BaseException:
            self.slots.withdraw(waiter)
            waiter.give_up()
            raise

    async def close(self) -> None:
        """Close everything; calls under way and waiting ones fail."""
        self._stop()
        remaining = self.slots.connections()
        self.slots.fail_waiters(closed_error())
        for connection in remaining:
            if connection.count:
                connection.abort(closed_error())
            else:
                connection.close()
        if self._dial_task is not None:
            await asyncio.wait([self._dial_task])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                for connection in remaining:
                    await connection.wait_lost()
            return
        for connection in remaining:
            connection.abort()
        for connection in remaining:
            await connection.wait_lost()

    def abandon(self) -> None:
        """Hang up, for a channel that nobody closed."""
        self._stop()
        for connection in self.slots.connections():
            connection.abort()

    def _stop(self) -> None:
        self._closed = True
        self.deadlines.stop()
        self._eviction.stop()
        self._dialler.close()
        if self._dial_task is not None:
            self._dial_task.cancel()

    def _changed(self, connection: GrpcConnection) -> None:
        self._eviction.arm(self.slots.changed(connection, time.monotonic()))
        self._dial_if_needed()

    def _dial_if_needed(self) -> None:
        if not self._closed and self.slots.start_dial(time.monotonic()):
            self._dial_task = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        try:
            connection = await self._dialler.dial(_NEVER)
        except InferenceError as error:
            self.slots.dial_failed(error, time.monotonic())
        except asyncio.CancelledError:
            self.slots.dial_failed(closed_error(), time.monotonic())
            raise
        else:
            self._dialled(connection)
        self._dial_task = None
        self._dial_if_needed()

    def _dialled(self, connection: GrpcConnection) -> None:
        now = time.monotonic()
        if connection.draining or self._closed:
            connection.abort()
            reason = f"{self._peer} ended the connection as soon as it was made"
            error = closed_error() if self._closed else GatewayConnectionError(reason)
            self.slots.dial_failed(error, now)
        else:
            self.slots.dialled(connection, now)
            self._eviction.arm(self.slots.changed(connection, now))
