"""The copy of an object on this machine, kept for whoever wants the same one soon."""

from __future__ import annotations

import asyncio
import os
from typing import Final

__all__ = ["KEPT_SECONDS", "KeptCopy"]

KEPT_SECONDS: Final = 60.0
"""For so long nobody has to fetch an object again of which somebody wanted the whole."""


class KeptCopy:
    """At most one file, the last that was kept, until nobody has wanted it for a while."""

    def __init__(self) -> None:
        self._name, self._fd = "", -1
        self._ending: asyncio.TimerHandle | None = None

    def keep(self, name: str, fd: int) -> None:
        """`fd` is a file with all of the object `name`; it stays the caller's to be closed."""
        self.drop()
        self._name, self._fd = name, os.dup(fd)
        self._wait()

    def find(self, name: str) -> int | None:
        """A descriptor of such a file, to be closed by the caller; None where there is none."""
        if self._fd < 0 or self._name != name:
            return None
        self._wait()
        return os.dup(self._fd)

    def forget(self, *names: str) -> None:
        """What is under these names is not what it was."""
        if self._name in names:
            self.drop()

    def drop(self) -> None:
        """Close it, which frees its room once nobody reads it any more."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _wait(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(KEPT_SECONDS, self.drop)
