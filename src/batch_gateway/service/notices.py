"""Why a batch does not go on just now, as its users see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from batch_gateway.clock import Clock
from batch_gateway.errors import BatchGatewayError
from batch_gateway.service.batch_records import note
from batch_gateway.service.database import Database

__all__ = ["Notices"]


_AGAIN_SECONDS = 1.0


class Notices:
    """The notice of one batch, from whatever it waits for at the moment.

    `shown` is what its record says, which may be of an earlier run.
    """

    def __init__(self, database: Database, batch_id: str, shown: str | None, clock: Clock) -> None:
        self._database, self._batch_id, self._clock = database, batch_id, clock
        self._words: dict[str, str] = {}
        self._shown = shown
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """What an earlier run waited for is not waited for any more."""
        self._show()

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
        self._show()

    def _show(self) -> None:
        if self._said() != self._shown and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._keep_writing())

    def _said(self) -> str | None:
        return next(iter(self._words.values()), None)

    async def _keep_writing(self) -> None:
        """Until what is shown is what is to be said."""
        while self._said() != self._shown:
            try:
                await self._write()
            except BatchGatewayError:
                await self._clock.sleep(_AGAIN_SECONDS)

    async def _write(self) -> None:
        said = self._said()
        await self._database.write(partial(note, batch_id=self._batch_id, words=said))
        self._shown = said

    async def aclose(self) -> None:
        """Nothing is waited for any more."""
        self._words.clear()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._shown is not None:
            with contextlib.suppress(BatchGatewayError):
                await self._write()
