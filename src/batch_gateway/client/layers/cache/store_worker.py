"""The thread in which the store lives: look-ups at once, writes together, damage set aside."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batch_gateway.client.layers.cache.store import AnswerStore, StoredAnswer, is_busy, is_damage

__all__ = ["Errands", "StoreWorker"]

_log = logging.getLogger("batch_gateway.cache")

# Answers of so many seconds, or so many of them, are written together.
_WRITE_EVERY = 0.2
_MOST_PENDING = 2048
# Switching a new file to WAL does not wait for others that do the same.
_OPEN_ATTEMPTS = 40
_OPEN_WAIT = 0.05


@dataclass(slots=True)
class Errands:
    """What one turn of the event loop wants: going to another thread costs more than a look-up.

    Attributes:
        keys, waiting: somebody waits for what is kept under each of the keys.
        answers: to be written some time soon.
        limit: ends the wait.
    """

    keys: list[bytes] = field(default_factory=list[bytes])
    waiting: list[asyncio.Future[StoredAnswer | None]] = field(
        default_factory=list["asyncio.Future[StoredAnswer | None]"]
    )
    answers: dict[bytes, StoredAnswer] = field(default_factory=dict[bytes, StoredAnswer])
    limit: asyncio.TimerHandle | None = None


class StoreWorker:
    """`run` is the thread. `deliver` and `written` are called from it with what was done.

    None among the errands ends the thread.
    """

    def __init__(
        self,
        path: Path,
        limits: tuple[int, float],
        wall_time: Callable[[], float],
        deliver: Callable[[Errands, Sequence[StoredAnswer | None]], None],
        written: Callable[[list[bytes]], None],
    ) -> None:
        self.errands: queue.SimpleQueue[Errands | None] = queue.SimpleQueue()
        self._path = path
        self._limits = limits
        self._wall_time = wall_time
        self._deliver = deliver
        self._written = written
        self._store: AnswerStore | None = None
        self._broken = False
        self._answers: dict[bytes, StoredAnswer] = {}
        self._used: set[bytes] = set()
        self._write_at = 0.0

    def run(self) -> None:
        """Until told to end; what is pending is written first."""
        ending = False
        while not ending:
            lookups, ending = self._take()
            for lookup in lookups:
                self._deliver(lookup, self._find(lookup.keys))
            if self._pending and (ending or self._is_due()):
                self._write(insist=ending)
        if self._store is not None:
            self._store.close()

    @property
    def _pending(self) -> int:
        return len(self._answers) + len(self._used)

    def _is_due(self) -> bool:
        return len(self._answers) >= _MOST_PENDING or time.monotonic() >= self._write_at

    def _take(self) -> tuple[list[Errands], bool]:
        """Everything that waits to be done, or what comes until the next write is due."""
        timeout = max(0.0, self._write_at - time.monotonic()) if self._pending else None
        lookups: list[Errands] = []
        try:
            errands = self.errands.get(timeout=timeout)
            while errands is not None:
                if errands.answers:
                    self._plan_write()
                    self._answers |= errands.answers
                if errands.keys:
                    lookups.append(errands)
                errands = self.errands.get_nowait()
        except queue.Empty:
            return lookups, False
        return lookups, True

    def _plan_write(self) -> None:
        if not self._pending:
            self._write_at = time.monotonic() + _WRITE_EVERY

    def _find(self, keys: Sequence[bytes]) -> list[StoredAnswer | None]:
        found = {key: self._answers[key] for key in keys if key in self._answers}
        elsewhere = [key for key in keys if key not in found]
        store = self._open() if elsewhere else None
        if store is not None:
            try:
                found |= store.find(elsewhere, self._wall_time())
            except sqlite3.Error as error:
                self._failed(error)
        if found:
            self._plan_write()
            self._used.update(found)
        return [found.get(key) for key in keys]

    def _write(self, *, insist: bool) -> None:
        """Write what is pending; when another process is writing, later or, to `insist`, now."""
        for _ in range(_OPEN_ATTEMPTS if insist else 1):
            store = self._open()
            if store is None:
                break
            try:
                store.write(self._answers, self._used, self._wall_time())
                break
            except sqlite3.Error as error:
                if not is_busy(error):
                    self._failed(error)
                    if self._broken:
                        break
            self._write_at = time.monotonic() + _WRITE_EVERY
            if len(self._answers) < 8 * _MOST_PENDING and not insist:
                return
        self._written(list(self._answers))
        self._answers, self._used = {}, set()

    def _open(self) -> AnswerStore | None:
        """The store, opened when it is not; None when it cannot be used."""
        if self._store is not None or self._broken:
            return self._store
        for _ in range(_OPEN_ATTEMPTS):
            try:
                self._store = AnswerStore(self._path, *self._limits, self._wall_time())
                return self._store
            except sqlite3.Error as error:
                if is_busy(error):
                    time.sleep(_OPEN_WAIT)
                else:
                    self._failed(error)
            except OSError as error:
                self._give_up(error.strerror or error)
            if self._broken:
                return None
        self._give_up("other processes hold on to it")
        return None

    def _failed(self, error: sqlite3.Error) -> None:
        if is_busy(error):
            return
        opened = None if self._store is None else self._store.file
        if self._store is not None:
            self._store.close()
            self._store = None
        if not is_damage(error):
            self._give_up(error)
            return
        try:
            self._set_aside(opened, error)
        except OSError as problem:
            self._give_up(problem.strerror or problem)

    def _set_aside(self, opened: tuple[int, int] | None, error: sqlite3.Error) -> None:
        """Make way for a new file, unless another process has done so."""
        found = self._path.stat()
        if opened not in (None, (found.st_dev, found.st_ino)):
            return
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        self._path.rename(aside)
        for ending in ("-wal", "-shm"):
            # They belong to the old file; beside a new one they would damage that too.
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        _log.warning(
            "the answer cache %s is damaged (%s); it was set aside as %s and a new one begun",
            self._path,
            error,
            aside.name,
        )

    def _give_up(self, reason: object) -> None:
        if not self._broken:
            _log.warning("the answer cache %s is not used any more: %s", self._path, reason)
        self._broken = True
