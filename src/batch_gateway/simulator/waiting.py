"""Sequences, and the queue in which they wait for a seat."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from enum import Enum

__all__ = ["Sequence", "SequenceState", "WaitingQueue"]


class SequenceState(Enum):
    WAITING = 1
    RUNNING = 2
    GONE = 3


class Sequence:
    """One request in the engine. `width` is how many sequences it decodes side by side."""

    __slots__ = (
        "finish_step",
        "first_step",
        "id",
        "kv_tokens",
        "order",
        "output_tokens",
        "priority",
        "prompt_left",
        "seats",
        "state",
        "width",
    )

    def __init__(
        self, sequence_id: Hashable, prompt: int, output: int, width: int, priority: int
    ) -> None:
        self.id = sequence_id
        self.prompt_left = prompt
        self.output_tokens = output
        self.width = width
        self.priority = priority
        self.kv_tokens = prompt + output * width
        self.seats = width
        self.order = 0
        self.first_step: int | None = None
        self.finish_step = 0
        self.state = SequenceState.WAITING

    def __lt__(self, other: Sequence) -> bool:
        """Who gets a seat first: the higher priority, then whoever came first."""
        return (-self.priority, self.order) < (-other.priority, other.order)


class WaitingQueue:
    """Who waits: highest priority first, then in order of arrival, each perhaps with an expiry.

    Sequences that left early stay in the heaps until they come to the top.
    """

    def __init__(self) -> None:
        self._heap: list[Sequence] = []
        self._expiries: list[tuple[float, int, Sequence]] = []
        self._order = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, sequence: Sequence, expires: float | None) -> None:
        self._order += 1
        sequence.order = self._order
        self._size += 1
        heapq.heappush(self._heap, sequence)
        if expires is not None:
            heapq.heappush(self._expiries, (expires, sequence.order, sequence))

    def head(self) -> Sequence | None:
        """Who is next, or None."""
        while self._heap and self._heap[0].state is not SequenceState.WAITING:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def last(self) -> Sequence:
        """Who would be served last. Looks at all of them."""
        return max(s for s in self._heap if s.state is SequenceState.WAITING)

    def remove(self, sequence: Sequence, state: SequenceState) -> None:
        """It waits no longer: it has its seat, or it is gone."""
        sequence.state = state
        self._size -= 1

    def next_expiry(self) -> float | None:
        while self._expiries and self._expiries[0][2].state is not SequenceState.WAITING:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def pop_expired(self, now: float) -> Sequence | None:
        """Take out one whose time is up, or None."""
        at = self.next_expiry()
        if at is None or at > now:
            return None
        sequence = heapq.heappop(self._expiries)[2]
        self.remove(sequence, SequenceState.GONE)
        return sequence
