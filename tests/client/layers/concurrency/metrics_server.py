"""A server of metrics that says, for as long as it is told to, whatever a test wants."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self

__all__ = ["MetricsServer", "vllm_page"]


def vllm_page(running: float, waiting: float, usage: float = 0.5) -> bytes:
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}\n'
        f'vllm:num_requests_waiting{{engine="0"}} {waiting}\n'
        f'vllm:kv_cache_usage_perc{{engine="0"}} {usage}\n'
    ).encode()


class MetricsServer:
    """Answers every GET with `page` and `status`; with `silent`, not at all.

    Attributes:
        heads: of the requests so far.
    """

    def __init__(self, page: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        self.page = page
        self.status = 200
        self.silent = False
        self.heads: list[str] = []
        self._tls = tls
        self._asked = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/metrics"

    async def looked_at(self, times: int = 2) -> None:
        """Wait for so many more looks: after the second, the first has been acted upon."""
        async with asyncio.timeout(20):
            for _ in range(times):
                self._asked.clear()
                await self._asked.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self._asked.set()
            if self.silent:
                await reader.read()
                return
            head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.page)}\r\n\r\n"
            writer.write(head.encode() + self.page)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()
