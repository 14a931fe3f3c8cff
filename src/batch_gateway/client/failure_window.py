"""How many of the last seconds' requests failed: counts in a ring of buckets. Pure."""

from __future__ import annotations

__all__ = ["FailureWindow"]

_BUCKETS = 10


class FailureWindow:
    """Counts of the last `length` seconds. Times are monotonic seconds."""

    def __init__(self, length: float) -> None:
        self._bucket_length = length / _BUCKETS
        self.clear()

    def clear(self) -> None:
        self._failures = [0] * _BUCKETS
        self._totals = [0] * _BUCKETS
        self._newest: int | None = None

    def add(self, now: float, *, failed: bool) -> None:
        place = self._move_to(now)
        self._totals[place] += 1
        self._failures[place] += failed

    def counts(self, now: float) -> tuple[int, int]:
        self._move_to(now)
        return sum(self._failures), sum(self._totals)

    def _move_to(self, now: float) -> int:
        number = int(now / self._bucket_length)
        if number == self._newest:
            return number % _BUCKETS
        newest = number if self._newest is None else self._newest
        for passed in range(newest + 1, min(number, newest + _BUCKETS) + 1):
            self._totals[passed % _BUCKETS] = self._failures[passed % _BUCKETS] = 0
        self._newest = max(number, newest)
        return self._newest % _BUCKETS
