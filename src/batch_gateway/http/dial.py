"""Makes connections: name, TCP or Unix socket, proxy, TLS; within the connect timeout."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from batch_gateway.durations import format_duration
from batch_gateway.errors import InferenceError, RequestTimeoutError
from batch_gateway.http.addresses import Address, Addresses
from batch_gateway.http.connection_errors import closed_error, dial_error
from batch_gateway.http.proxies import ProxyRoute
from batch_gateway.http.race import first_to_connect
from batch_gateway.http.target import Target
from batch_gateway.http.tls_transport import TLSTransport
from batch_gateway.http.tunnel import Tunnel

__all__ = ["Dialled", "Dialler"]

# A peer that died without a word is noticed after about two minutes, not never: an answer may
# be minutes away, and middleboxes forget connections that are silent for so long.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

# How long a TLS peer may take to return our goodbye.
_TLS_FAREWELL = 1.0

_FULL_QUEUE_WAIT = 0.02


class Dialled(asyncio.Protocol):
    """The protocol of a connection that a `Dialler` makes.

    Attributes:
        awaited: what `opened` waits for, for the message when it takes too long.
    """

    __slots__ = ()
    awaited: ClassVar[str]

    @abstractmethod
    async def opened(self, *, tls: bool) -> None:
        """Whatever must happen on a new connection before it is used.

        Raises InferenceError when it cannot be used; the connection is then aborted.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection now."""


D = TypeVar("D", bound=Dialled)


class Dialler(Generic[D]):
    """Dials one target, perhaps through a proxy. `close()` fails the dials under way.

    Bound to the event loop of its first dial, as connections are.
    """

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        connect_timeout: float,
        make_connection: Callable[[], D],
        route: ProxyRoute | None = None,
    ) -> None:
        self._target = target
        self._route = route
        self._peer = target.name if route is None else route.peer
        self._context = context
        self._connect_timeout = connect_timeout
        self._make_connection = make_connection
        first = target if route is None else route.proxy
        self._addresses = Addresses(first.host, first.port)
        self._under_way: set[asyncio.Timeout] = set()
        self._closed = False

    async def dial(self, deadline: float) -> D:
        """A new connection, before `deadline` (monotonic seconds) and the connect timeout.

        Raises GatewayConnectionError, TLSError, RequestTimeoutError.
        """
        left = deadline - time.monotonic()
        phase = _Phase(self._peer if self._route is None else self._route.first_hop)
        try:
            async with asyncio.timeout(max(0.0, min(left, self._connect_timeout))) as timeout:
                self._under_way.add(timeout)
                try:
                    return await self._connect(phase)
                finally:
                    self._under_way.discard(timeout)
        except InferenceError:  # which may be an OSError too
            raise
        except TimeoutError as error:
            # The kernel's ETIMEDOUT is a TimeoutError as well, but has a number.
            if error.errno is not None:
                self._addresses.distrust()
                raise dial_error(error, phase.peer) from error
            raise self._timeout_error(left, phase.name, error) from error
        except OSError as error:
            self._addresses.distrust()
            raise dial_error(error, phase.peer) from error

    def close(self) -> None:
        self._closed = True
        self._addresses.close()
        for timeout in self._under_way:
            if not timeout.expired():
                timeout.reschedule(0.0)

    async def _connect(self, phase: _Phase) -> D:
        if self._route is None:
            connection = await self._connect_directly(phase)
        else:
            connection = await self._connect_through(self._route, phase)
        phase.name = connection.awaited
        try:
            await connection.opened(tls=self._context is not None)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect_directly(self, phase: _Phase) -> D:
        loop, path = asyncio.get_running_loop(), self._target.unix_socket
        if path is None:
            sock = await self._connect_tcp(phase, "it", "its name")
            open_transport = loop.create_connection
        else:
            sock = await _connect_unix(path)
            open_transport = loop.create_unix_connection
        phase.name = "the TLS handshake was not over"
        connection = self._make_connection()
        # From here on the socket belongs to the transport, which closes it when this fails.
        if self._context is None:
            await open_transport(lambda: connection, sock=sock)
            return connection
        tls = TLSTransport(connection, self._context, self._target.host, _TLS_FAREWELL)
        await open_transport(lambda: tls, sock=sock)
        await tls.handshake()
        return connection

    async def _connect_through(self, route: ProxyRoute, phase: _Phase) -> D:
        loop, tls = asyncio.get_running_loop(), _tls(route.context, route.proxy.host)
        sock = await self._connect_tcp(phase, "the proxy", "the name of the proxy")
        if route.context is not None:
            phase.name = "the TLS handshake with the proxy was not over"
        if route.opening is None:
            _, connection = await loop.create_connection(self._make_connection, sock=sock, **tls)
            return connection
        _, tunnel = await loop.create_connection(lambda: Tunnel(route), sock=sock, **tls)
        phase.name = "the proxy had not opened a tunnel"
        transport = await tunnel.open(route.opening)
        phase.peer, phase.name = self._peer, "the TLS handshake was not over"
        return await self._begin_tls(transport)

    async def _begin_tls(self, transport: asyncio.Transport) -> D:
        """TLS with the gateway, through a tunnel."""
        assert self._context is not None  # noqa: S101 - there are tunnels to https:// only
        connection = self._make_connection()
        # Told now as well, because bytes or an end may come right behind the handshake.
        connection.connection_made(transport)
        try:
            inner = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                self._context,
                server_hostname=self._target.host,
                ssl_shutdown_timeout=_TLS_FAREWELL,
            )
        except BaseException:
            connection.abort()
            raise
        if inner is not None:  # None is what is left of a connection that ended meanwhile
            connection.connection_made(inner)
        return connection

    async def _connect_tcp(self, phase: _Phase, what: str, name: str) -> socket.socket:
        phase.name = f"{name} was being looked up"
        addresses = await self._addresses.resolve()
        phase.name = f"{what} did not answer"
        return await first_to_connect(addresses, _connect_address)

    def _timeout_error(self, left: float, phase: str, cause: TimeoutError) -> Exception:
        if self._closed:
            return closed_error()
        name = self._peer
        if left < self._connect_timeout:
            message = f"the deadline passed while connecting to {name}: {phase}"
        else:
            limit = format_duration(self._connect_timeout)
            message = (
                f"connecting to {name} took longer than {limit}"
                f" (connect_timeout, --connect-timeout): {phase}"
            )
        return RequestTimeoutError(message, cause=cause)


class _Phase:
    """What a dial is busy with, and with whom, for messages."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.name = "it did not answer"


def _tls(context: ssl.SSLContext | None, host: str) -> dict[str, Any]:
    """What the event loop is asked for to make a connection, besides its socket."""
    if context is None:
        return {}
    return {"ssl": context, "server_hostname": host, "ssl_shutdown_timeout": _TLS_FAREWELL}


async def _connect_address(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Requests go out in one piece; waiting for more to send only delays them.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):  # not all of them exist on every system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                # The server's queue is full. Unlike with TCP the kernel will not finish this
                # later, and `loop.sock_connect` would take the socket for connected.
                await asyncio.sleep(_FULL_QUEUE_WAIT)
            else:
                return sock
    except BaseException:
        sock.close()
        raise
