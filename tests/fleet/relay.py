"""A way between two processes that can be cut: bytes are lost and nobody is told."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

__all__ = ["Relay", "relaying"]


class Relay:
    """Forwards connections on 127.0.0.1 to `target`, another port of it, while it is `open`."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.open, self.listens = threading.Event(), threading.Event()
        self.open.set()
        self._ways = set[asyncio.Task[None]]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = asyncio.Event()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.listens.set()
            await self._is_over.wait()
            for way in self._ways:
                way.cancel()
            await asyncio.gather(*self._ways, return_exceptions=True)

    def end(self) -> None:
        """From any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._is_over.set)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            with contextlib.closing(back):
                ways = [
                    asyncio.ensure_future(self._carry(reader, back)),
                    asyncio.ensure_future(self._carry(there, writer)),
                ]
                self._ways.update(ways)
                await asyncio.wait(ways)
                self._ways.difference_update(ways)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not self.open.is_set():
                    # What is lost cannot be made good: the connection is of no more use.
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def relaying(target: int) -> Iterator[Relay]:
    """A relay on a thread of its own."""
    relay = Relay(target)
    thread = threading.Thread(target=lambda: asyncio.run(relay.run()), name="relay")
    thread.start()
    relay.listens.wait()
    try:
        yield relay
    finally:
        relay.end()
        thread.join()
