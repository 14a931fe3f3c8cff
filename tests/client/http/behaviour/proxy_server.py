"""A small HTTP proxy for tests: absolute-form requests and CONNECT tunnels, to any port here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from .scripted_server import LIMIT

__all__ = ["ProxyServer", "proxying"]


class ProxyServer:
    """Remembers what it was asked; refuses CONNECT with `refuse_with` when that is set."""

    def __init__(self) -> None:
        self.url = ""
        self.request_lines: list[str] = []
        self.authorizations: list[str] = []
        self.refuse_with: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._serve(reader, writer)
        finally:
            await _closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        self.request_lines.append(line.decode())
        self.authorizations += [
            header.split(": ", 1)[1]
            for header in rest.decode().split("\r\n")
            if header.lower().startswith("proxy-authorization:")
        ]
        method, target, version = line.split(b" ")
        if self.refuse_with:
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % self.refuse_with)
            return
        if method == b"CONNECT":
            parts = urlsplit(b"//" + target)
            first = b""
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target)
            first = b"%s %s %s\r\n%s" % (method, parts.path, version, rest)
        up_reader, up_writer = await asyncio.open_connection(
            (parts.hostname or b"").decode(), parts.port
        )
        try:
            up_writer.write(first)
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            await _closed(up_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxying() -> AsyncIterator[ProxyServer]:
    """The proxy, listening on 127.0.0.1; every tunnel is closed at the end."""
    proxy = ProxyServer()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        async with asyncio.timeout(LIMIT):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()
