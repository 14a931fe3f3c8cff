"""The cache's real worker and file, as quick as virtual time is: answers come at once, in order."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from batch_gateway.client.cache.store import StoredAnswer
from batch_gateway.client.cache.store_worker import Found, Keep, Lookup, StoreWorker
from tests.virtual_time import VirtualTimeLoop

LIMIT = 20.0


class PromptStore:
    """What a `StoreThread` is for the loop, except that time stands still while its thread owes
    an answer, and that every look-up goes to the thread."""

    def __init__(
        self, path: Path, max_bytes: int, max_age: float, wall_time: Callable[[], float]
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self._loop = loop
        self._owed = 0
        self._delivered: queue.SimpleQueue[Found] = queue.SimpleQueue()
        began = wall_time()
        self._worker = StoreWorker(
            path,
            (max_bytes, max_age),
            lambda: began + loop.time(),
            deliver=self._delivered.put,
            written=lambda _: None,
        )
        self._thread = threading.Thread(target=self._worker.run)
        self._thread.start()
        loop.settle_first(self._settle)

    async def get(self, key: bytes) -> StoredAnswer | None:
        found: asyncio.Future[StoredAnswer | None] = self._loop.create_future()
        self._owed += 1
        self._worker.commands.put(Lookup(key, found))
        return await found

    def put(self, key: bytes, answer: StoredAnswer) -> None:
        self._worker.commands.put(Keep(key, answer))

    async def close(self) -> None:
        self._worker.commands.put(None)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()

    def _settle(self) -> bool:
        owed = self._owed
        while self._owed:
            for lookup, answer in self._delivered.get(timeout=LIMIT):
                self._owed -= 1
                if not lookup.found.done():
                    lookup.found.set_result(answer)
        return bool(owed)
