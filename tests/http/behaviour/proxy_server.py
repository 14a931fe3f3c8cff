"""A small HTTP proxy for tests: absolute-form requests and CONNECT tunnels, to any port here."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from .scripted_server import LIMIT

__all__ = ["ProxyServer", "proxying"]


class ProxyServer:
    """Remembers what it was asked.

    `refuse_with` is a status that it answers everything with when it is set, and `refusal` a whole
    answer; `accept_with` is what it says before a tunnel begins. Names that end in `.test` are
    those of this machine.
    """

    def __init__(self) -> None:
        self.url = ""
        self.request_lines: list[str] = []
        self.headers: list[list[tuple[str, str]]] = []
        self.refuse_with: bytes = b""
        self.refusal: bytes = b""
        self.accept_with: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def authorizations(self) -> list[str]:
        return self.sent("proxy-authorization")

    def sent(self, wanted: str) -> list[str]:
        """The values of a header in all that it was asked."""
        return [value for head in self.headers for name, value in head if name.lower() == wanted]

    def drop_everything(self) -> None:
        """As when it is restarted."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
                await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)
            await _closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        self.request_lines.append(line.decode())
        pairs = [one.split(": ", 1) for one in rest.decode().split("\r\n") if one]
        self.headers.append([(name, value) for name, value in pairs])
        method, target, version = line.split(b" ")
        if self.refuse_with:
            self.refusal = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % self.refuse_with
        if self.refusal:
            writer.write(self.refusal)
            await writer.drain()
            await reader.read()  # leaving it to the client to close
            return
        if method == b"CONNECT":
            parts = urlsplit(b"//" + target)
            first = b""
            writer.write(self.accept_with)
        else:
            parts = urlsplit(target)
            kept = [one for one in rest.split(b"\r\n") if not one.lower().startswith(b"proxy-")]
            first = b"%s %s %s\r\n%s" % (method, parts.path, version, b"\r\n".join(kept))
        host = (parts.hostname or b"").decode()
        up_reader, up_writer = await asyncio.open_connection(
            "127.0.0.1" if host.endswith(".test") else host, parts.port or 80
        )
        try:
            up_writer.write(first)
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            await _closed(up_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxying(
    proxy: ProxyServer | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ProxyServer]:
    """The proxy, listening on 127.0.0.1; every tunnel is closed at the end."""
    proxy = proxy or ProxyServer()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield proxy
    finally:
        server.close()
        async with asyncio.timeout(LIMIT):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()
