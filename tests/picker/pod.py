"""A pod that answers as a test says and keeps what it was sent, on raw sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["Pod", "Received", "running_pod", "whole"]


@dataclass
class Received:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Pod:
    """`received` are the requests so far; `lost` is set when a connection has ended."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.port = 0
        self.connections = 0
        self.open = 0
        self.received: list[Received] = []
        self.arrived = asyncio.Event()
        self.lost = asyncio.Event()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while request := await _read(reader):
                self.received.append(request)
                self.arrived.set()
                ended = asyncio.ensure_future(reader.read(1))
                answering = asyncio.ensure_future(self.answer(writer, request))
                await asyncio.wait({ended, answering}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    answering.cancel()
                    return
                await answering
                if ended.done():
                    return
                ended.cancel()
                await asyncio.gather(ended, return_exceptions=True)
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            self.lost.set()
            writer.close()


Answer = Callable[[asyncio.StreamWriter, Received], Awaitable[None]]


def whole(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Answer every request with `body`."""

    async def answer(writer: asyncio.StreamWriter, _: Received) -> None:
        given = {
            "content-type": "application/json",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        head = f"HTTP/1.1 {status} Status\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


@asynccontextmanager
async def running_pod(answer: Answer) -> AsyncIterator[Pod]:
    pod = Pod(answer)
    server = await asyncio.start_server(pod.serve, "127.0.0.1", 0)
    pod.port = server.sockets[0].getsockname()[1]
    try:
        yield pod
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *rest = head.decode("latin-1").rstrip().split("\r\n")
    headers = dict(item.split(": ", 1) for item in rest)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return Received(line, headers, body)
