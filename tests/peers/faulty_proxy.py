"""A proxy in front of an object store, which does to its answers what networks and stores do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

__all__ = ["FaultyProxy", "Rule", "answer", "faulty_proxy"]


@dataclass
class Rule:
    """What happens to the next `times` requests of which the first line has `words` in it.

    `before` answers instead of the server, or with None leaves without a word; `after` makes
    something else of the server's answer, and the connection is closed behind it.
    """

    words: tuple[str, ...]
    times: int = 1
    before: Callable[[], bytes | None] | None = None
    after: Callable[[bytes], bytes] | None = None

    def is_for(self, line: str) -> bool:
        return self.times > 0 and all(word in line for word in self.words)


def answer(status: str, body: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/xml\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
    ).encode()


class FaultyProxy:
    """Where it listens, what it does next, and the first lines of what it was asked."""

    def __init__(self, backend: int) -> None:
        self._backend = backend
        self.rules: list[Rule] = []
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            first = head.partition(b"\r\n")[0].decode()
            headers = dict(
                line.lower().split(": ", 1)
                for line in head.decode().split("\r\n")[1:]
                if ": " in line
            )
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.asked.append(first)
            rule = next((rule for rule in self.rules if rule.is_for(first)), None)
            if rule is not None:
                rule.times -= 1
            if rule is not None and rule.before is not None:
                given = rule.before()
            else:
                given = await self._ask(head, body)
                if rule is not None and rule.after is not None:
                    given = rule.after(given)
            writer.write(given or b"")
            await writer.drain()
        writer.close()

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._backend)
        writer.write(head[:-2] + b"connection: close\r\n\r\n" + body)
        try:
            return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def faulty_proxy(backend: int) -> AsyncGenerator[FaultyProxy, None]:
    """In front of what listens on the port `backend` of 127.0.0.1."""
    proxy = FaultyProxy(backend)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await proxy.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024 * 1024)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
