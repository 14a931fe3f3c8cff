"""A raw server that does what a test says, byte by byte, and small things around it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.http.native import NativeExchanger

# For what happens at once, on a machine that is busy with other things.
LIMIT = 30.0


class Peer:
    """The server's side of one connection. `signal` is between a script and its test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.signal = asyncio.Event()
        self.transport = cast("asyncio.Transport", writer.transport)

    async def request(self) -> tuple[str, bytes]:
        """The next request's head and body; IncompleteReadError when the client hangs up."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, body: bytes = b"{}", status: str = "200 OK", extra: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        await self.send(head.encode() + body)

    async def gone(self) -> None:
        """Return when the client has hung up; whatever it sends before is ignored."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    async def hold(self) -> None:
        """Keep the connection open, reading nothing more, until `signal` or the test's end."""
        self.transport.pause_reading()
        await self.signal.wait()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Runs a script for each connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.open = 0
        self.most_open = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self, **options: Any) -> None:
        if "path" in options:
            self._server = await asyncio.start_unix_server(self._connected, **options)
        else:
            self._server = await asyncio.start_server(
                self._connected, options.pop("host", "127.0.0.1"), 0, backlog=1024, **options
            )
            self.port = self._server.sockets[0].getsockname()[1]
            scheme = "https" if options.get("ssl") else "http"
            self.url = f"{scheme}://127.0.0.1:{self.port}"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(Peer(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        self.peers.append(peer)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - `stop` shows it
            self.errors.append(error)
        finally:
            self.open -= 1
            peer.writer.close()
            with contextlib.suppress(Exception):
                await peer.writer.wait_closed()

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=LIMIT)
        await self._server.wait_closed()
        assert not self.errors, self.errors


async def echo(peer: Peer) -> None:
    """Answer every request with its own body."""
    while True:
        _, body = await peer.request()
        await peer.respond(body)


class Bench:
    """Starts servers and exchangers for one test, and ends them."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack

    async def server(self, script: Script = echo, **options: Any) -> Server:
        server = Server(script)
        await server.start(**options)
        self._stack.push_async_callback(server.stop)
        return server

    def exchanger(self, url: str, **settings: Any) -> NativeExchanger:
        exchanger = NativeExchanger(HTTPInferenceClientConfig(url, **settings))
        self._stack.push_async_callback(exchanger.aclose)
        return exchanger

    async def pair(self, script: Script = echo, **settings: Any) -> tuple[Server, NativeExchanger]:
        server = await self.server(script)
        return server, self.exchanger(server.url, **settings)


async def wait_until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Return as soon as `condition()` holds; fail after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.002)


def soon(seconds: float = LIMIT) -> float:
    """A deadline."""
    return time.monotonic() + seconds
