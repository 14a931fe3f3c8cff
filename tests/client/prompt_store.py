"""The cache's store, thread and file and all, as quick as virtual time is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from batch_gateway.client.layers.cache.store import StoredAnswer
from batch_gateway.client.layers.cache.store_thread import StoreThread
from tests.virtual_time import VirtualTimeLoop

__all__ = ["PromptStore"]


class PromptStore(StoreThread):
    """Time stands still while its thread is waited for."""

    def __init__(
        self, path: Path, max_bytes: int, max_age: float, wall_time: Callable[[], float]
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self._virtual_time = loop
        began = wall_time() - loop.time()
        # Asked by the thread, where no loop runs.
        super().__init__(path, max_bytes, max_age, lambda: began + loop.time())

    def get(self, key: bytes) -> asyncio.Future[StoredAnswer | None]:
        found = super().get(key)
        still = ExitStack()
        still.enter_context(self._virtual_time.standing_still())
        found.add_done_callback(lambda _: still.close())
        return found

    async def close(self) -> None:
        with self._virtual_time.standing_still():
            await super().close()
