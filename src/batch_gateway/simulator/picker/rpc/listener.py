"""A port on which gRPC calls are answered."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping

from batch_gateway.simulator.listening import stop_listening
from batch_gateway.simulator.picker.rpc.rpc_connection import Handler, RpcConnection
from batch_gateway.simulator.picker.rpc.rpc_limits import ConnectionLimits

__all__ = ["RpcListener"]

_BACKLOG = 8192
_CLOSE_SECONDS = 5.0


class RpcListener:
    """Accepts connections until it is stopped; it may be started again on the same port.

    Attributes:
        handlers: by the full path of the method; may be changed at any time.
        limits: of connections from now on.
        port: where it listens; what it was given before its first start.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.handlers = handlers
        self.limits = ConnectionLimits()
        self.port = port
        self._host = host
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[RpcConnection] = set()
        self._idle = asyncio.Event()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: RpcConnection(self, loop),
            self._host,
            self.port,
            ssl=self._tls,
            backlog=_BACKLOG,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break every connection off; returns when all calls have ended."""
        server, self._server = self._server, None
        if server is None:
            return
        await stop_listening(server)
        tasks = {task for connection in self._connections for task in connection.tasks}
        for connection in tuple(self._connections):
            connection.break_off()
        if self._connections:
            self._idle.clear()
            await self._idle.wait()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A handshake that somebody left half done is no connection of ours yet.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), _CLOSE_SECONDS)

    def go_away(self) -> None:
        """Ask every client to leave; their calls under way go on."""
        for connection in tuple(self._connections):
            connection.go_away()

    # -- for connections -------------------------------------------------------------------

    def opened(self, connection: RpcConnection) -> None:
        self._connections.add(connection)

    def closed(self, connection: RpcConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._idle.set()

    def handler(self, method: str) -> Handler | None:
        return self.handlers.get(method)
