"""The native HTTP/1.1 transport: head, pool, dialler, connection and deadlines put together."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from batch_gateway.durations import seconds
from batch_gateway.errors import RequestTimeoutError, StaleConnectionError
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.connection import Connection
from batch_gateway.http.connection_errors import closed_error, require_unread
from batch_gateway.http.content_coding import unpacked
from batch_gateway.http.dial import Dialler
from batch_gateway.http.exchange import Early, HTTPResponse
from batch_gateway.http.origin_headers import origin_headers
from batch_gateway.http.own_loop import own_loop
from batch_gateway.http.pool import DialSlot, Pool, PoolStatistics
from batch_gateway.http.proxies import ProxyRoute, request_heads
from batch_gateway.http.reuse import Reuse, promised
from batch_gateway.http.slot_waiter import SlotWaiter
from batch_gateway.http.stream_block import StreamBlock
from batch_gateway.http.sweeper import Sweeper
from batch_gateway.http.target import Target
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.http.upload import Body

__all__ = ["HeadBuilder", "NativeExchanger"]

# How long `aclose` waits for peers to say goodbye before it hangs up on them.
_FAREWELL_SECONDS = 2.0

# A dial that takes longer is held up by the network or by a dead peer, and holds up no other.
_LONG_DIAL_SECONDS = 0.25


class HeadBuilder(Protocol):
    """Builds request heads."""

    def build(self, path: str, headers: Sequence[tuple[str, str]], length: int) -> bytes:
        """The bytes before the body of a request of `length` bytes to `path`.

        Raises InferenceError for what cannot be sent.
        """
        ...


class NativeExchanger:
    """An `HTTPExchanger` on asyncio.Protocol and llhttp, for asyncio and uvloop.

    Belongs to the event loop of its first request. Raises ConfigError at construction when the
    API key, a certificate or the proxy cannot be used.

    `heads` are for requests whose headers are another's business altogether: the configured ones
    and the API key are then not added to them. `context` is for several that share one; without
    it the configuration's is made.
    """

    def __init__(
        self,
        config: TransportConfig,
        *,
        heads: HeadBuilder | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        target = Target.of(config)
        route = ProxyRoute.of(config, target)
        self._peer = target.name if route is None else route.peer
        self._heads = heads or request_heads(target, route, origin_headers(config))
        pool: Pool[Connection] = Pool(
            max_idle=config.max_idle_connections,
            idle_timeout=seconds(config.idle_timeout),
            max_connections=config.max_connections,
        )
        if context is None and target.tls:
            context = config.tls.ssl_context()
        if context is not None:
            context.set_alpn_protocols(["http/1.1"])
        self._pool = pool
        self._reuse = Reuse()
        self._most_bytes = config.max_response_bytes
        # The event loop keeps connections and timers alive, and all that they refer to. That
        # must not be this object, or it could not notice that it is dropped unclosed.
        self._dialler = Dialler(
            target,
            context,
            seconds(config.connect_timeout),
            partial(Connection, self._peer, config.max_response_bytes, pool.lost),
            route,
        )
        self._deadlines = Sweeper(pool.expire)
        self._eviction = Sweeper(pool.evict)

    async def post(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: Body,
        *,
        deadline: float,
    ) -> HTTPResponse:
        """See `HTTPExchanger.post`. Raises InvalidRequestError for what cannot be sent."""
        if self._closed or self._loop is not asyncio.get_running_loop():
            self._require_usable()
        head = self._heads.build(path, headers, len(body))
        connection = self._pool.take() or await self._acquire(deadline)
        while True:
            sent_at = time.monotonic()
            try:
                if deadline <= sent_at:
                    raise RequestTimeoutError("the deadline passed before the request was sent")
                if deadline < self._deadlines.wakes_at:
                    self._deadlines.arm(deadline)
                response = await connection.post(head, body, deadline)
                break
            except StaleConnectionError as error:
                self._require_unread(error, connection, sent_at)
            finally:
                # A connection whose exchange is not over, because the task was cancelled, is not
                # reusable: releasing it aborts it.
                self._release(connection)
            connection = await self._acquire_new(deadline)
        if response.coding:
            response = await unpacked(response, self._peer, self._most_bytes)
        return response

    def stream(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
        early: Early | None = None,
    ) -> StreamBlock:
        """See `HTTPExchanger.stream`. Raises InvalidRequestError for what cannot be sent."""
        block = StreamBlock(self._release, early)
        block.opening = self._open_stream(
            block,
            path,
            headers,
            body,
            deadline=deadline,
            begin_by=begin_by,
            idle_timeout=idle_timeout,
        )
        return block

    async def _open_stream(
        self,
        block: StreamBlock,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
    ) -> BodyStream:
        if self._closed or self._loop is not asyncio.get_running_loop():
            self._require_usable()
        head_by = min(deadline, begin_by)
        block.unread = self._heads.build(path, headers, len(body)), body
        # Where it is large, and the answer takes hours.
        del body
        connection = block.connection = self._pool.take() or await self._acquire(head_by)
        stream = self._body_of(block, deadline, begin_by, idle_timeout)
        try:
            sent_at = self._begin_stream(block, head_by, stream)
            try:
                await stream.wait_head()
            except StaleConnectionError as error:
                self._require_unread(error, connection, sent_at)
                self._release(connection)
                stream.close()
                block.connection = await self._acquire_new(head_by)
                stream = self._body_of(block, deadline, begin_by, idle_timeout)
                self._begin_stream(block, head_by, stream)
                await stream.wait_head()
        except BaseException:
            self._release(block.connection)
            stream.close()
            raise
        block.stream = stream
        return stream

    def _begin_stream(self, block: StreamBlock, head_by: float, stream: BodyStream) -> float:
        """When it was sent."""
        now = time.monotonic()
        if head_by <= now:
            raise RequestTimeoutError("the deadline passed before the request was sent")
        if head_by < self._deadlines.wakes_at:
            self._deadlines.arm(head_by)
        head, body = block.unread
        block.connection.begin(head, body, head_by, stream)
        return now

    def _body_of(
        self, block: StreamBlock, deadline: float, begin_by: float, idle_timeout: float
    ) -> BodyStream:
        connection, deadlines = block.connection, self._deadlines

        def set_deadline(at: float) -> None:
            if connection.is_busy:
                connection.deadline = at
                if at < deadlines.wakes_at:
                    deadlines.arm(at)

        return BodyStream(
            self._peer,
            connection.pause_reading,
            set_deadline,
            deadline=deadline,
            begin_by=begin_by,
            idle_timeout=idle_timeout,
            early=block.begins,
        )

    async def connect(self, *, deadline: float) -> None:
        """See `HTTPExchanger.connect`. A connection that had to be made stays in the pool."""
        self._require_usable()
        self._release(self._pool.take() or await self._acquire(deadline))

    def statistics(self) -> PoolStatistics:
        """How many connections there are, and how many requests wait for one."""
        return self._pool.statistics()

    async def aclose(self) -> None:
        """Close every connection; requests under way fail with GatewayConnectionError."""
        self._closed = True
        if self._loop is not None and self._loop.is_closed():
            # Its connections cannot be spoken to any more; they end with their transports.
            return
        self._deadlines.stop()
        self._eviction.stop()
        self._dialler.close()
        remaining = self._pool.connections()
        self._pool.close_idle()
        for waiter in self._pool.waiters():
            waiter.fail(closed_error())
        for connection in self._pool.connections():
            connection.abort(closed_error())
        await self._wait_lost(remaining)

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is None or self._closed or not pool.connections():
            return
        warnings.warn(
            f"unclosed {self!r}: call aclose()", ResourceWarning, stacklevel=2, source=self
        )
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # The collector may run in any thread.
            loop.call_soon_threadsafe(_abandon, pool, self._deadlines, self._eviction)

    def __repr__(self) -> str:
        return f"<NativeExchanger {self._peer} {self._pool.statistics()}>"

    # --- connections ---

    async def _acquire(self, deadline: float) -> Connection:
        """A connection in use by the caller: dialled, or waited for in the queue."""
        turn = self._pool.reserve() or await self._wait_turn(deadline)
        if isinstance(turn, Connection):
            if turn.is_alive():
                return turn
            turn = self._pool.swap_for_slot(turn)
        return await self._dial(turn, deadline)

    def _require_unread(
        self, error: StaleConnectionError, connection: Connection, sent_at: float
    ) -> None:
        """Raises GatewayConnectionError when the request was out for so long before its
        kept-alive connection was closed that the server may have worked on it.
        """
        now = time.monotonic()
        require_unread(error, now - sent_at)
        self._reuse.lost(connection.served, connection.made, now)

    async def _acquire_new(self, deadline: float) -> Connection:
        """A connection that nothing has been sent on yet."""
        turn = self._pool.reserve() or await self._wait_turn(deadline)
        if isinstance(turn, Connection):
            turn = self._pool.swap_for_slot(turn)
        return await self._dial(turn, deadline)

    async def _dial(self, slot: DialSlot, deadline: float) -> Connection:
        """Dial in a slot, which is given back when that fails."""
        loop = asyncio.get_running_loop()
        lingering = loop.call_later(_LONG_DIAL_SECONDS, self._pool.linger, slot)
        try:
            connection = await self._dialler.dial(deadline)
        except BaseException:
            self._pool.dial_failed(slot)
            raise
        finally:
            lingering.cancel()
        self._pool.dialled(slot, connection)
        if self._closed:
            self._release(connection)
            raise closed_error()
        return connection

    async def _wait_turn(self, deadline: float) -> Connection | DialSlot:
        waiter = SlotWaiter(asyncio.get_running_loop(), self._peer, deadline)
        self._pool.enqueue(waiter)
        self._deadlines.arm(deadline)
        try:
            return await waiter.turn
        except BaseException:
            self._pool.withdraw(waiter)
            if waiter.granted():
                # Cancelled in the moment of its turn: what it was given goes to the next.
                self._give_back(waiter.turn.result())
            raise

    def _give_back(self, turn: Connection | DialSlot) -> None:
        if isinstance(turn, Connection):
            self._release(turn)
        else:
            self._pool.dial_failed(turn)

    def _release(self, connection: Connection) -> None:
        now, reuse, served = time.monotonic(), self._reuse, connection.served
        if served == 1 and connection.reusable:
            # Servers say the same on all their connections, and with each answer again.
            idle, most = promised(connection.keep_alive())
            reuse.promise(most)
            self._pool.limit_idle(idle)
        if self._closed or (served >= reuse.most and not reuse.keeps(served, now)):
            connection.reusable = False
        elif reuse.suspected:
            reuse.answered(served)
        needed = self._pool.release(connection, now)
        if needed < self._eviction.wakes_at:
            self._eviction.arm(needed)

    # --- life ---

    def _require_usable(self) -> None:
        self._loop = own_loop(self._loop, closed=self._closed)

    async def _wait_lost(self, connections: Sequence[Connection]) -> None:
        """Wait until the sockets are closed, so that nothing is left for after the loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                for connection in connections:
                    await connection.wait_lost()
            return
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.wait_lost()


def _abandon(pool: Pool[Connection], *sweepers: Sweeper) -> None:
    """Hang up on every connection of an exchanger that nobody closed."""
    for sweeper in sweepers:
        sweeper.stop()
    for connection in pool.connections():
        connection.abort()
