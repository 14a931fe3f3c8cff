"""Makes connections: name, TCP or Unix socket, TLS; within the connect timeout."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from batch_gateway.client.http.addresses import Address, Addresses
from batch_gateway.client.http.connection_errors import closed_error, dial_error
from batch_gateway.client.http.race import first_to_connect
from batch_gateway.client.http.target import Target
from batch_gateway.durations import format_duration
from batch_gateway.errors import InferenceError, RequestTimeoutError

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
    """Dials one target. `close()` fails the dials under way.

    Bound to the event loop of its first dial, as connections are.
    """

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        connect_timeout: float,
        make_connection: Callable[[], D],
    ) -> None:
        self._target = target
        self._context = context
        self._connect_timeout = connect_timeout
        self._make_connection = make_connection
        self._addresses = Addresses(target.host, target.port)
        self._under_way: set[asyncio.Timeout] = set()
        self._closed = False

    async def dial(self, deadline: float) -> D:
        """A new connection, before `deadline` (monotonic seconds) and the connect timeout.

        Raises GatewayConnectionError, TLSError, RequestTimeoutError.
        """
        left = deadline - time.monotonic()
        phase = _Phase()
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
                raise dial_error(error, self._target.name) from error
            raise self._timeout_error(left, phase.name, error) from error
        except OSError as error:
            self._addresses.distrust()
            raise dial_error(error, self._target.name) from error

    def close(self) -> None:
        self._closed = True
        self._addresses.close()
        for timeout in self._under_way:
            if not timeout.expired():
                timeout.reschedule(0.0)

    async def _connect(self, phase: _Phase) -> D:
        loop, context, path = asyncio.get_running_loop(), self._context, self._target.unix_socket
        if path is None:
            sock = await self._connect_tcp(phase)
            open_transport = loop.create_connection
        else:
            sock = await _connect_unix(path)
            open_transport = loop.create_unix_connection
        phase.name = "the TLS handshake was not over"
        # From here on the socket belongs to the transport, which closes it when this fails.
        _, connection = await open_transport(
            self._make_connection,
            sock=sock,
            ssl=context,
            server_hostname=None if context is None else self._target.host,
            ssl_shutdown_timeout=None if context is None else _TLS_FAREWELL,
        )
        phase.name = connection.awaited
        try:
            await connection.opened(tls=context is not None)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect_tcp(self, phase: _Phase) -> socket.socket:
        phase.name = "its name was being looked up"
        addresses = await self._addresses.resolve()
        phase.name = "it did not answer"
        return await first_to_connect(addresses, _connect_address)

    def _timeout_error(self, left: float, phase: str, cause: TimeoutError) -> Exception:
        if self._closed:
            return closed_error()
        name = self._target.name
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
    """What a dial is busy with, for the message when it takes too long."""

    name = "it did not answer"


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
