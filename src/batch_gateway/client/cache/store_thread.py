"""The store as the event loop sees it: nothing here waits for a disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from batch_gateway.client.cache.store import StoredAnswer
from batch_gateway.client.cache.store_worker import Found, Keep, Lookup, StoreWorker

__all__ = ["StoreThread"]

# A disk that does not keep up must not fill the memory: beyond this, answers are not kept.
_MOST_PENDING_BYTES = 64 * 2**20
_CLOSE_LIMIT = 10.0


class StoreThread:
    """Looks answers up and has them written, for one event loop.

    Nothing here fails: a store that cannot be read or written is reported once in the log
    "batch_gateway.cache", and from then on nothing is found in it.
    """

    def __init__(
        self, path: Path, max_bytes: int, max_age: float, wall_time: Callable[[], float]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        # Answers that are not on disk yet.
        self._unwritten: dict[bytes, StoredAnswer] = {}
        self._unwritten_bytes = 0
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._worker = StoreWorker(
            path,
            (max_bytes, max_age),
            wall_time,
            deliver=lambda found: self._on_loop(_deliver, found),
            written=lambda keys: self._on_loop(self._forget, keys),
        )
        self._thread = threading.Thread(target=self._run, name="answer-cache", daemon=True)
        self._thread.start()

    async def get(self, key: bytes) -> StoredAnswer | None:
        waiting = self._unwritten.get(key)
        if waiting is not None:
            # Or who asks for the same again and again would never let others run.
            await asyncio.sleep(0)
            return waiting
        found: asyncio.Future[StoredAnswer | None] = self._loop.create_future()
        self._worker.commands.put(Lookup(key, found))
        return await found

    def put(self, key: bytes, answer: StoredAnswer) -> None:
        """Keep an answer soon. It is found from now on."""
        if self._unwritten_bytes > _MOST_PENDING_BYTES:
            return
        self._forget([key])
        self._unwritten[key] = answer
        self._unwritten_bytes += len(answer.body)
        self._worker.commands.put(Keep(key, answer))

    async def close(self) -> None:
        """Write what is to be written and end the thread."""
        self._worker.commands.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_LIMIT):
                await asyncio.shield(self._ended)
            self._thread.join()

    def _run(self) -> None:
        try:
            self._worker.run()
        finally:
            self._on_loop(_end, self._ended)

    def _forget(self, keys: list[bytes]) -> None:
        for key in keys:
            answer = self._unwritten.pop(key, None)
            if answer is not None:
                self._unwritten_bytes -= len(answer.body)

    def _on_loop(self, callback: Callable[[Any], None], argument: object) -> None:
        # The loop may be gone when a client was never closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, argument)


def _deliver(found: Found) -> None:
    for lookup, answer in found:
        if not lookup.found.done():
            lookup.found.set_result(answer)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
