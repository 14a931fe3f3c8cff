"""How late this process hears what has come, where it is short of CPU."""

from __future__ import annotations

import asyncio
import math

from batch_gateway.clock import Clock

__all__ = ["Lateness"]

_EVERY = 0.05  # seconds: half of what is felt as at once


class Lateness:
    """A timer, twenty times a second while anybody asks: what it is late by is what everything
    waits for its turn in the event loop, or for a CPU that others have. Belongs to one loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._late = 0.0
        self._asked = False

    def seconds(self) -> float:
        """How long ago what is heard now may have come."""
        self._asked = True
        if self._timer is None:
            self._wait()
        return max(self._late, self._clock.monotonic() - self._due)

    def _wait(self) -> None:
        self._asked = False
        self._due = self._clock.monotonic() + _EVERY
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._ran)

    def _ran(self) -> None:
        self._late = max(0.0, self._clock.monotonic() - self._due)
        if self._asked:
            self._wait()
        else:
            self.close()

    def close(self) -> None:
        """Nobody asks any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due, self._late = None, math.inf, 0.0
