"""How many bytes of requests and answers may be in memory at a time, and who waits for room.

A line that waits has not been read from its file yet. Lines get their room in the order in which
they asked, so that a large one is not passed over for ever by small ones; and one that is larger
than the whole budget gets it when nothing else is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["DEFAULT_BUDGET", "ByteBudget"]

DEFAULT_BUDGET = 256 * 1024 * 1024

# A request is in memory once, for it is sent in pieces; an answer as it came, and as the line of
# its result. Measured by `python -m benchmarks.memory`.
_COPIES_OF_ANSWER = 2
# Enough to say of an answer before the first has come.
_FIRST_ANSWER = 4 * 1024
# How slowly a large answer is forgotten: by half after some eleven small ones.
_FORGETTING = 16


class ByteBudget:
    """Room for lines under way, in bytes; for one event loop.

    Attributes:
        limit: of all that is under way, as it is reckoned here.
        held: what is under way.
        waited: lines that had to wait for room.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self.held = 0
        self.waited = 0
        self._now = now
        self._answer = _FIRST_ANSWER
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._short_since = 0.0
        self._short_seconds = 0.0

    @property
    def is_short(self) -> bool:
        """Whether lines wait for room just now."""
        return bool(self._waiters)

    @property
    def short_seconds(self) -> float:
        """For how long lines have waited for room, in all."""
        return self._short_seconds + (self._now() - self._short_since if self._waiters else 0.0)

    def cost(self, line_bytes: int) -> int:
        """What a line of so many bytes will take, by what answers took so far."""
        cost = line_bytes + _COPIES_OF_ANSWER * self._answer
        return min(self.limit, cost)

    def take(self, cost: int) -> bool:
        """Room for a line, if there is some and nobody was there before."""
        if self._waiters or self.held + cost > self.limit:
            return False
        self.held += cost
        return True

    async def wait(self, cost: int) -> None:
        """The same for as long as it takes. Who is cancelled has no room, and must not give any."""
        turn = asyncio.get_running_loop().create_future()
        if not self._waiters:
            self._short_since = self._now()
        self._waiters.append((cost, turn))
        self.waited += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(cost)
            else:
                self._leave(cost, turn)
            raise

    def give(self, cost: int) -> None:
        """A line has ended: its room is for others."""
        self.held -= cost
        if self._waiters:
            self._serve()

    def learn(self, answer_bytes: int) -> None:
        """What an answer took. Larger ones count at once, smaller ones little by little."""
        if answer_bytes > self._answer:
            self._answer = answer_bytes
        else:
            self._answer -= (self._answer - answer_bytes) // _FORGETTING

    def _leave(self, cost: int, turn: asyncio.Future[None]) -> None:
        self._waiters.remove((cost, turn))
        self._ended_waiting()
        # It may have been what those behind it waited for.
        self._serve()

    def _serve(self) -> None:
        while self._waiters and self.held + self._waiters[0][0] <= self.limit:
            cost, turn = self._waiters.popleft()
            self._ended_waiting()
            self.held += cost
            turn.set_result(None)

    def _ended_waiting(self) -> None:
        if not self._waiters:
            self._short_seconds += self._now() - self._short_since
