"""Why a batch does not go on just now, as its users see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from batch_gateway.errors import BatchGatewayError
from batch_gateway.service.batch_records import note
from batch_gateway.service.database import Database

__all__ = ["Notices"]


class Notices:
    """The notice of one batch, from whatever it waits for at the moment."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database, self._batch_id = database, batch_id
        self._words: dict[str, str] = {}
        self._shown: str | None = None
        self._writing: asyncio.Task[None] | None = None

    def about(self, what: str) -> Callable[[str | None], None]:
        """Takes what is to be said of `what`, and None when there is nothing more to say."""
        return partial(self._take, what)

    def _take(self, what: str, words: str | None) -> None:
        # The usual case first: nothing is wrong, nor was before.
        if words == self._words.get(what):
            return
        if words is None:
            del self._words[what]
        else:
            self._words[what] = words
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Until what is shown is what is to be said."""
        while (said := next(iter(self._words.values()), None)) != self._shown:
            with contextlib.suppress(BatchGatewayError):
                await self._database.write(partial(note, batch_id=self._batch_id, words=said))
            self._shown = said

    async def aclose(self) -> None:
        """Nothing is waited for any more."""
        self._words.clear()
        if self._writing is not None:
            await self._writing
        await self._write()
