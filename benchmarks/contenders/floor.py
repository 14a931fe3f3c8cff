"""The floor: asyncio.Protocol and httptools, one connection a worker, and nothing else.

No pool, no time limit, no check of anything: what is left is what asyncio, llhttp, orjson and
the kernel cost, so no client built on them can be faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar, cast
from urllib.parse import urlsplit

import httptools
import orjson

from benchmarks.contenders.contract import Send, Target
from benchmarks.payload import PATH, REQUEST

__all__ = ["Exchange", "Worker", "open_client"]


class Exchange(asyncio.Protocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self.answer is not None
        self.answer.set_result(self._body)

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)


class Worker:
    """Sends one request after another over its own connection."""

    exchange = Exchange
    request: ClassVar = REQUEST

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._ssl = target.ssl_context() if target.tls else None
        self._head = (
            f"POST {parts.path}{PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._exchange: Exchange | None = None

    async def send(self) -> str:
        answer = orjson.loads(await self.post())
        return answer["choices"][0]["message"]["content"]

    async def post(self) -> bytes:
        loop = asyncio.get_running_loop()
        if self._exchange is None:
            _, self._exchange = await loop.create_connection(
                self.exchange, self._host, self._port, ssl=self._ssl
            )
        data = orjson.dumps(self.request)
        self._exchange.answer = loop.create_future()
        self._exchange.write(self._head + b"%d\r\n\r\n" % len(data) + data)
        return await self._exchange.answer


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[Callable[[], Send]]:
    yield lambda: Worker(target).send
