"""What a process may believe of its own work without asking the database. Pure.

Whoever gives no sign of life for the length of a lease may be taken over. A process that cannot
reach the database, or that stood still, has to know by itself when that may have happened.
"""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import Final

__all__ = ["LOOKS_A_LEASE", "Fence", "Standing", "boot_time"]

LOOKS_A_LEASE: Final = 30
"""How often `look` is to be called in the time of a lease."""


def boot_time() -> float:
    """Seconds on a clock that runs on while the process, or the machine, stands still."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Standing(Enum):
    """Whose the work is."""

    OURS = auto()
    """Nobody else can have it."""
    DOUBTFUL = auto()
    """Somebody else may have it: nothing more is to be begun."""
    SLEPT = auto()
    """Somebody else may have it for long, since the process stood still: all is to be dropped."""


class Fence:
    """The lease as its holder sees it, in seconds on the clock of `now`."""

    def __init__(self, lease: float, now: float) -> None:
        self._lease = lease
        self._between = lease / LOOKS_A_LEASE
        self._sure_until = self._looked = now
        self.confirmed(now)

    def confirmed(self, sent: float) -> None:
        """The database took a sign of life that was sent then, and counts from later on."""
        self._sure_until = sent + self._lease - self._between

    def look(self, now: float) -> Standing:
        """To be called a few times in each lease, whatever else is done."""
        missed, self._looked = now - self._looked, now
        if now < self._sure_until:
            return Standing.OURS
        return Standing.SLEPT if missed > self._lease / 3 else Standing.DOUBTFUL
