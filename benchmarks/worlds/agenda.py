"""What is to happen when: the simulated time, and a queue of actions."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["Agenda"]


class Agenda:
    """Actions in order of time, and of being planned where the time is the same.

    Attributes:
        now: simulated seconds; set by whoever runs the simulation.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], Any]] = []
        self._order = 0

    def at(self, when: float, action: Callable[..., None], argument: Any = None) -> None:
        """Call `action(argument)` when it is `when`."""
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, action, argument))

    def after(self, seconds: float, action: Callable[..., None], argument: Any = None) -> None:
        self.at(self.now + seconds, action, argument)

    def next_time(self, end: float) -> float:
        """When the next action is due; `end` where there is none."""
        return self._heap[0][0] if self._heap else end

    def run_next(self) -> None:
        _, _, action, argument = heapq.heappop(self._heap)
        action(argument)
