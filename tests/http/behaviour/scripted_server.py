"""A server on a real socket whose every byte, pause, close and reset the test writes itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "LIMIT",
    "Peer",
    "ReceivedRequest",
    "Script",
    "ScriptedServer",
    "answer",
    "echo",
    "serving",
]

LIMIT = 30.0
"""Seconds that anything in this suite may take before the test fails; reached by none."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came off the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def tls(self) -> ssl.SSLObject | None:
        return self._writer.get_extra_info("ssl_object")

    async def read_head(self) -> tuple[str, list[tuple[str, str]]]:
        """The request line and headers. Raises IncompleteReadError when the client left."""
        async with asyncio.timeout(LIMIT):
            head = await self._reader.readuntil(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")[:-2]
        pairs = [text.split(": ", 1) for text in rest]
        return line, [(name, value) for name, value in pairs]

    async def request(self) -> ReceivedRequest:
        line, headers = await self.read_head()
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        async with asyncio.timeout(LIMIT):
            body = await self._reader.readexactly(int(lengths[0])) if lengths else b""
        return ReceivedRequest(line, headers, body)

    def send(self, *parts: bytes) -> None:
        self._writer.write(b"".join(parts))

    async def drain(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self._writer.drain()

    async def read_some(self, count: int = 65536) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self._reader.read(count)

    def close(self) -> None:
        """Close in good order, after what was sent."""
        self._writer.close()

    def finish_sending(self) -> None:
        """Half-close: the client reads the end, and may go on sending."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Close now, without sending what is still buffered."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def join(self, host: str, port: int) -> None:
        """Pass everything on, both ways, until either end is closed."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(_pass_on(self._reader, writer), _pass_on(reader, self._writer))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def until_client_left(self) -> bytes:
        """Wait for the client to close or reset; what it sent until then."""
        received = b""
        async with asyncio.timeout(LIMIT):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while chunk := await self._reader.read(65536):
                    received += chunk
        return received

    async def closed(self) -> None:
        """Wait until this end is closed."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


Script = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """Runs the script once for each connection. Read the attributes; call nothing but `serving`."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: list[Peer] = []
        self._failures: list[BaseException] = []
        self.base_url = ""
        self.port = 0
        self.accepted = 0
        self.accepted_one = asyncio.Event()
        self.open = 0
        self.most_open = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._run(Peer(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, peer: Peer) -> None:
        self.accepted += 1
        self.accepted_one.set()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            # The client left between requests, or under one, which tests assert on its side.
            pass
        except asyncio.CancelledError:
            # A client that does not read would keep a polite close waiting for ever.
            peer.abort()
        except Exception as error:  # noqa: BLE001 - raised by `stop`, in the test itself
            self._failures.append(error)
        finally:
            self.open -= 1
            peer.close()
            await peer.closed()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failures:
            raise self._failures[0]


@contextlib.asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, unix: Path | None = None, host: str = ""
) -> AsyncIterator[ScriptedServer]:
    """The server, listening on 127.0.0.1 (or `host`, or a Unix socket), closed at the end.

    A failure inside the script fails the test.
    """
    scripted = ScriptedServer(script)
    if unix is not None:
        server = await asyncio.start_unix_server(scripted.accept, unix, ssl=tls, backlog=1024)
        scripted.base_url = "http://gateway.test"
    else:
        host = host or "127.0.0.1"
        server = await asyncio.start_server(scripted.accept, host, 0, ssl=tls, backlog=1024)
        scripted.port = server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        scripted.base_url = f"{'https' if tls else 'http'}://{shown}:{scripted.port}"
    try:
        yield scripted
    finally:
        server.close()
        await scripted.stop()
        await server.wait_closed()


def answer(body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A complete response with a content length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def echo(peer: Peer) -> None:
    """A script that gives back every body that it gets."""
    while True:
        request = await peer.request()
        peer.send(answer(request.body))
        await peer.drain()
