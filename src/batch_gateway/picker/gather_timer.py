"""One timer for all streams that have gathered something: when it is up, it is reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["GatherTimer"]


class GatherTimer:
    """Calls what it is given, once, with the monotonic seconds, at most `interval` seconds later.

    A timer for each stream would cost about as much as the messages that are spared, and what all
    report together goes out in one write.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        # A dict, because one that is left early is taken out again, and each has its turn.
        self._due: dict[Callable[[float], None], None] = {}
        self._handle: asyncio.TimerHandle | None = None

    def add(self, report: Callable[[float], None]) -> None:
        """Call `report` when the time is up. Once is enough until then."""
        self._due[report] = None
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self.interval, self._up)

    def discard(self, report: Callable[[float], None]) -> None:
        """Do not call it, if it was to be called."""
        self._due.pop(report, None)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._due.clear()

    def _up(self) -> None:
        self._handle = None
        due, self._due = self._due, {}
        now = time.monotonic()
        for report in due:
            report(now)
