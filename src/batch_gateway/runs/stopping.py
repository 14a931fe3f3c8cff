"""Being asked to stop: from any thread, before or while a run goes on, politely or at once."""

from __future__ import annotations

import asyncio

__all__ = ["Stop"]


class Stop:
    """What a run waits for to be stopped.

    Attributes:
        asked: nothing more is to be sent.
        asked_again: what is under way is not to be waited for.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.asked = asyncio.Event()
        self.asked_again = asyncio.Event()

    def begin(self) -> bool:
        """A run begins on the loop that runs; False where another has not ended."""
        if self._loop is not None:
            return False
        self._loop = asyncio.get_running_loop()
        return True

    def end(self) -> None:
        """The run is over, and what it was asked does not hold for the next one."""
        self.__init__()

    def ask(self) -> None:
        """May be called from any thread."""
        if self._loop is None:
            self._ask()
        else:
            self._loop.call_soon_threadsafe(self._ask)

    def _ask(self) -> None:
        event = self.asked_again if self.asked.is_set() else self.asked
        event.set()
