"""What `/ready` answers: whether a load balancer should send requests here, and a rollout go on.

Without its database a process can do nothing. Without the store of files an API still answers
polls, lists and the page, and refuses the rest with 503 and `Retry-After`: since all processes lose
the store at once, to be taken out of service would leave nobody to say so. A worker has nothing to
do then, and no rollout should go on.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from sqlalchemy import text

from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.errors import NotStoredError, RecordsError, StorageError
from batch_gateway.service.database import Database
from batch_gateway.service.one_store import IDENTITY
from batch_gateway.storage.protocol import Storage

__all__ = ["Readiness", "Ready"]

_ANYTHING: Final = text("SELECT 1")
_GOOD_FOR: Final = 10.0
_PATIENCE: Final = 5.0
# Whoever asks has a patience of five seconds in all.
_WAIT: Final = 2.0


class Ready(NamedTuple):
    """Whether a process is, and what there is to say about it."""

    is_ready: bool
    words: str


class Readiness:
    """Looks at the database with each question, and at the store every ten seconds at most.

    `has_api` says that there are requests which need no files. Set `is_stopping` when no more of
    them should come.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        *,
        has_api: bool,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.is_stopping = False
        self._database, self._has_api = database, has_api
        self._store = _StoreLook(storage, clock)

    async def __call__(self) -> Ready:
        if self.is_stopping:
            return Ready(False, "not ready: stopping")
        try:
            await self._database.poll(_ANYTHING)
        except RecordsError as error:
            return Ready(False, f"not ready: {error}")
        trouble = await self._store.trouble()
        if trouble is None:
            return Ready(True, "ok")
        said = f"the store of files cannot be used: {trouble}"
        return (
            Ready(True, f"ok, but {said}") if self._has_api else Ready(False, f"not ready: {said}")
        )


class _StoreLook:
    """What was last seen of the store."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage, self._clock = storage, clock
        self._began = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._is_known = False

    async def trouble(self) -> str | None:
        """Why it cannot be used; None where it can, or where that is not known yet."""
        now = self._clock.monotonic()
        if self._looking is None and now >= self._began + _GOOD_FOR:
            self._began, self._looking = now, asyncio.create_task(self._look())
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=_WAIT)
        if self._looking is not None and self._clock.monotonic() >= self._began + _PATIENCE:
            return "it does not answer"
        return self._trouble

    async def _look(self) -> None:
        try:
            await self._storage.size(IDENTITY)
            self._trouble, self._is_known = None, True
        except NotStoredError:
            # What was there is gone, as the files of a folder that is not mounted any more.
            self._trouble = "its files are gone" if self._is_known else None
        except StorageError as error:
            self._trouble = str(error).partition(": ")[2] or str(error)
        finally:
            self._looking = None
