"""The floor of reading streams: asyncio.Protocol, httptools and a scan for `data:`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from benchmarks.contenders.contract import Send, Target
from benchmarks.contenders.floor import Exchange, Worker
from benchmarks.payload import REQUEST

__all__ = ["open_client"]


class _Stream(Exchange):
    """Counts events and decodes none."""

    _events = 0

    def on_message_begin(self) -> None:
        self._events = 0

    def on_body(self, body: bytes) -> None:
        at = body.find(b"data:")
        while at >= 0:
            self._events += 1
            at = body.find(b"data:", at + 5)

    def on_message_complete(self) -> None:
        assert self.answer is not None
        self.answer.set_result(b"%d" % self._events)


class _Worker(Worker):
    exchange = _Stream
    request: ClassVar = {**REQUEST, "stream": True}

    async def send(self) -> str:
        return (await self.post()).decode()


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[Callable[[], Send]]:
    yield lambda: _Worker(target).send
    await asyncio.sleep(0)
