"""The store as the event loop sees it: nothing here waits for a disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from batch_gateway.client.layers.cache.store import StoredAnswer
from batch_gateway.client.layers.cache.store_worker import Errands, StoreWorker

__all__ = ["LONGEST_LOOK_UP", "StoreThread"]

LONGEST_LOOK_UP = 2.0
"""Seconds after which an answer counts as not kept: the disk hangs."""

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
        self._errands: Errands | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._worker = StoreWorker(
            path,
            (max_bytes, max_age),
            wall_time,
            deliver=lambda errands, found: self._on_loop(_deliver, errands, found),
            written=lambda keys: self._on_loop(self._forget, keys),
        )
        self._thread = threading.Thread(target=self._run, name="answer-cache", daemon=True)
        self._thread.start()

    def get(self, key: bytes) -> asyncio.Future[StoredAnswer | None]:
        """What is kept under `key`; None when that is nothing, or unknown after LONGEST_LOOK_UP."""
        found: asyncio.Future[StoredAnswer | None] = self._loop.create_future()
        unwritten = self._unwritten.get(key)
        if unwritten is not None:
            # Not at once, or who asks for the same again and again would never let others run.
            self._loop.call_soon(_give, found, unwritten)
            return found
        errands = self._errands_of_this_turn()
        errands.keys.append(key)
        errands.waiting.append(found)
        return found

    def put(self, key: bytes, answer: StoredAnswer) -> None:
        """Keep an answer soon. It is found from now on."""
        if self._unwritten_bytes > _MOST_PENDING_BYTES:
            return
        if key in self._unwritten:
            self._forget([key])
        self._unwritten[key] = answer
        self._unwritten_bytes += len(answer.body)
        self._errands_of_this_turn().answers[key] = answer

    async def close(self) -> None:
        """Write what is to be written and end the thread."""
        if self._loop.is_closed():
            # Nobody will be told; what is to be written is on its way to the thread.
            self._worker.errands.put(None)
            await asyncio.to_thread(self._thread.join, _CLOSE_LIMIT)
            return
        self._hand_over()
        self._worker.errands.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_LIMIT):
                await asyncio.shield(self._ended)
            self._thread.join()

    def _errands_of_this_turn(self) -> Errands:
        if self._errands is None:
            self._errands = Errands()
            self._loop.call_soon(self._hand_over)
        return self._errands

    def _hand_over(self) -> None:
        errands, self._errands = self._errands, None
        if errands is None:
            return
        if errands.keys:
            errands.limit = self._loop.call_later(LONGEST_LOOK_UP, _give_up, errands)
        self._worker.errands.put(errands)

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

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        # The loop may be gone when a client was never closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)


def _deliver(errands: Errands, found: Sequence[StoredAnswer | None]) -> None:
    if errands.limit is not None:
        errands.limit.cancel()
    for waiting, answer in zip(errands.waiting, found, strict=True):
        _give(waiting, answer)


def _give_up(errands: Errands) -> None:
    for waiting in errands.waiting:
        _give(waiting, None)


def _give(waiting: asyncio.Future[StoredAnswer | None], answer: StoredAnswer | None) -> None:
    if not waiting.done():
        waiting.set_result(answer)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
