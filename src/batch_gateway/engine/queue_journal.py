"""A journal in memory: each result goes to whoever takes them, and nothing outlives the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.journal import Ledger

__all__ = ["QueueJournal", "Recorded"]

_MOST_WAITING = 64


class Recorded(msgspec.Struct, frozen=True):
    """A result: the request it is of, its line with line break, and whether it is a success."""

    index: int
    line: bytes
    ok: bool


class QueueJournal(Ledger):
    """Results to be taken with `async for`, in the order in which they came; for one taker.

    The loop ends once the run has finished the journal and every result was taken. The run waits
    while more than `most_waiting` are not taken, so that memory stays flat; whoever leaves the
    loop early has to stop the run. `requests` are those of the plan (`Plan.requests`).

    Attributes:
        broken: never set.
    """

    def __init__(self, requests: range, *, most_waiting: int = _MOST_WAITING) -> None:
        super().__init__(Bitmap(requests), Bitmap(requests))
        self.broken = asyncio.Event()
        self._most_waiting = most_waiting
        self._waiting: deque[Recorded] = deque()
        self._finished = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def append(self, index: int, line: bytes, ok: bool) -> None:
        """Hand over the result of request `index`, and wait while too many are not taken."""
        self.take(index, ok)
        self._waiting.append(Recorded(index, line, ok))
        self._arrived.set()
        if len(self._waiting) > self._most_waiting:
            self._room.clear()
            await self._room.wait()

    async def flush(self) -> None:
        """Nothing is safer than it was when it was handed over."""

    async def finish(self, *, ordered: bool = False) -> None:
        """Nothing more will come; what came stays in the order of its arrival, `ordered` or not."""
        self._finished = True
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Recorded]:
        while True:
            while self._waiting:
                result = self._waiting.popleft()
                if len(self._waiting) <= self._most_waiting:
                    self._room.set()
                yield result
            if self._finished:
                return
            self._arrived.clear()
            await self._arrived.wait()
