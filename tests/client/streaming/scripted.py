"""A server that does what a test says, and the answer that a client makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from batch_gateway import (
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
)

Script = Callable[["Exchange"], Awaitable[None]]
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
REQUEST = InferenceRequest(
    params={"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
)


@dataclass
class Exchange:
    """One request that has arrived, and what is written back."""

    body: Any
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))


@dataclass
class Scripted:
    """Where a scripted server listens, and what it was asked."""

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Scripted]:
    """Every request of a connection goes through `script`; a failed write ends the connection."""
    server = Scripted()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                    body = json.loads(await reader.readexactly(size))
                    server.bodies.append(body)
                    await script(Exchange(body, writer))
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def once(answer: bytes) -> Script:
    """A script that gives this answer and closes the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(answer)
        exchange.writer.close()

    return script


def asking(url: str, **settings: Any) -> HTTPInferenceClient:
    """A client that streams upstream and sends everything once, unless told otherwise."""
    config = HTTPInferenceClientConfig(url, **{"retry": None, "stream_upstream": True, **settings})
    return HTTPInferenceClient(config)


async def answer_to(
    script: Script, *, request: InferenceRequest = REQUEST, streamed: bool = False, **settings: Any
) -> InferenceResponse:
    """What a client makes of a server with this script, by `generate` or by `stream`."""
    async with scripted(script) as server, asking(server.url, **settings) as client:
        async with asyncio.timeout(20):
            return await answer_of(client, request, streamed=streamed)


async def answer_of(
    client: HTTPInferenceClient, request: InferenceRequest, *, streamed: bool
) -> InferenceResponse:
    """What a client is answered, by `generate` or by `stream`."""
    if not streamed:
        return await client.generate(request)
    stream = client.stream(request)
    assert [chunk async for chunk in stream]
    assert stream.response is not None
    return stream.response
