"""The gRPC channel: calls to one target over connections that are made when they are needed."""

from __future__ import annotations

import asyncio
import ssl
import time
import warnings
from collections.abc import Sequence

from batch_gateway.durations import seconds
from batch_gateway.errors import (
    BadResponseError,
    RequestTimeoutError,
)
from batch_gateway.grpc.grpc_call import Call
from batch_gateway.grpc.links import CallInLine, Links
from batch_gateway.grpc.request_blocks import RequestBlocks
from batch_gateway.grpc.session_limits import SessionLimits
from batch_gateway.grpc.slots import ChannelStatistics, Slots
from batch_gateway.http.own_loop import own_loop
from batch_gateway.http.target import Target
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.version import __version__

__all__ = ["Http2Channel"]

# Each carries as many calls as the server allows, a hundred at least where it heeds the RFC.
_MAX_CONNECTIONS = 64

_NEVER = float("inf")


class Http2Channel:
    """A `GrpcChannel` on asyncio.Protocol, for asyncio and uvloop.

    Belongs to the event loop of its first call. No pings are sent: servers take them amiss; a
    peer that died is noticed by TCP keepalive. With `context` it speaks TLS.
    """

    def __init__(
        self,
        target: Target,
        *,
        context: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        idle_timeout: float = 300.0,
        max_connections: int = _MAX_CONNECTIONS,
        limits: SessionLimits | None = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._target = target
        self._blocks = RequestBlocks(
            # With its port, which is not the one that the scheme of the request implies.
            target.name if target.unix_socket is None else target.host_header,
            tls=context is not None,
            user_agent=f"batch-gateway/{__version__}",
        )
        # As in the HTTP transport: what the event loop keeps alive must not be this object.
        self._links = Links(
            target,
            context,
            limits or SessionLimits(),
            connect_timeout=connect_timeout,
            slots=Slots(target.name, max_connections=max_connections, idle_timeout=idle_timeout),
        )

    @classmethod
    def of(cls, config: TransportConfig) -> Http2Channel:
        """To the host of a configuration, with its TLS and its connect timeout.

        The limits of connections are for those that carry one request at a time. Raises
        ConfigError when a certificate cannot be used.
        """
        target = Target.of(config)
        context = config.tls.ssl_context() if target.tls else None
        if context is not None:
            context.set_alpn_protocols(["h2"])
        return cls(target, context=context, connect_timeout=seconds(config.connect_timeout))

    async def open(
        self,
        method: str,
        *,
        metadata: Sequence[tuple[str, str]] = (),
        deadline: float,
        begin_by: float = _NEVER,
    ) -> Call:
        """See `GrpcChannel.open`. Raises InvalidRequestError for what cannot be sent."""
        if self._closed or self._loop is not asyncio.get_running_loop():
            self._require_usable()
        now, begin_by = time.monotonic(), min(deadline, begin_by)
        if begin_by <= now:
            raise RequestTimeoutError("the deadline passed before the call was sent")
        links = self._links
        block = self._blocks.build(method, metadata, deadline - now)
        if begin_by < links.deadlines.wakes_at:
            links.deadlines.arm(begin_by)
        connection = links.slots.find()
        if connection is not None:
            return connection.begin(block, deadline)
        waiter = CallInLine(block, begin_by, deadline)
        await links.wait(waiter)
        return waiter.call()

    async def unary(self, method: str, message: bytes, *, deadline: float) -> bytes:
        """See `GrpcChannel.unary`."""
        call = await self.open(method, deadline=deadline)
        try:
            await call.send(message, end=True)
            answer = await call.receive()
            if answer is None or await call.receive() is not None:
                problem = "no message" if answer is None else "several messages"
                raise BadResponseError(
                    f"{self._target.name} answered {method} with {problem} where one is due"
                )
            return answer
        finally:
            call.cancel()

    async def connect(self, *, deadline: float) -> None:
        """See `GrpcChannel.connect`. The connection stays for the calls to come."""
        self._require_usable()
        links = self._links
        if not links.slots.connected:
            links.deadlines.arm(deadline)
            await links.wait(CallInLine(None, deadline, deadline))

    def statistics(self) -> ChannelStatistics:
        """How many connections and calls there are, and how many calls wait."""
        return self._links.slots.statistics()

    async def aclose(self) -> None:
        """See `GrpcChannel.aclose`."""
        self._closed = True
        if self._loop is not None and self._loop.is_closed():
            # Its connections cannot be spoken to any more; they end with their transports.
            return
        await self._links.close()

    def __del__(self) -> None:
        links = getattr(self, "_links", None)
        if links is None or self._closed or not links.slots.connections():
            return
        warnings.warn(
            f"unclosed {self!r}: call aclose()", ResourceWarning, stacklevel=2, source=self
        )
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # The collector may run in any thread.
            loop.call_soon_threadsafe(links.abandon)

    def __repr__(self) -> str:
        return f"<Http2Channel {self._target.name} {self.statistics()}>"

    def _require_usable(self) -> None:
        self._loop = own_loop(self._loop, closed=self._closed)
