"""Durations counted in buckets of fixed relative width, whatever their number."""

from __future__ import annotations

import math
from array import array

__all__ = ["DurationHistogram", "bucket_of"]

_PER_OCTAVE = 8
_LOWEST = -10  # powers of two in seconds: one millisecond
_HIGHEST = 17  # a day and a half
_FROM, _TO = 2.0**_LOWEST, 2.0**_HIGHEST
_SIZE = (_HIGHEST - _LOWEST) * _PER_OCTAVE + 2


class DurationHistogram:
    """Counts of durations in seconds; each bucket ends 9 % above where it begins.

    Shorter ones than a millisecond share the first bucket, longer ones than 36 hours the last.

    Attributes:
        count: how many were added.
        shortest, longest: exactly; infinity and 0 while there are none.
    """

    __slots__ = ("_counts", "count", "longest", "shortest")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _SIZE))
        self.count = 0
        self.shortest = math.inf
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        self.add_in(bucket_of(seconds), seconds)

    def add_in(self, bucket: int, seconds: float) -> None:
        """`add`, by who has `bucket_of(seconds)` already."""
        # Called for every request: comparing is cheaper than calling min and max.
        self._counts[bucket] += 1
        self.count += 1
        if seconds < self.shortest:  # noqa: PLR1730
            self.shortest = seconds
        if seconds > self.longest:  # noqa: PLR1730
            self.longest = seconds

    def merge(self, other: DurationHistogram) -> None:
        """Add what `other` has counted."""
        if not other.count:
            return
        for index, count in enumerate(other._counts):
            self._counts[index] += count
        self.count += other.count
        self.shortest = min(self.shortest, other.shortest)
        self.longest = max(self.longest, other.longest)

    def quantile(self, share: float) -> float | None:
        """The duration that `share` (0 to 1) of them do not exceed, within 9 %; None for none."""
        if not self.count:
            return None
        wanted = share * self.count
        seen = 0
        for index, count in enumerate(self._counts):
            if count and seen + count >= wanted:
                low, high = _bounds(index)
                inside = low * (high / low) ** ((wanted - seen) / count)
                return min(max(inside, self.shortest), self.longest)
            seen += count
        return self.longest

    def buckets(self, merged: int = 1) -> list[tuple[float, float, int]]:
        """(from, to, count) from the first used bucket to the last, `merged` made one each."""
        used = [index for index, count in enumerate(self._counts) if count]
        if not used:
            return []
        first, last = used[0] // merged, used[-1] // merged
        return [
            (
                _bounds(index * merged)[0],
                _bounds(index * merged + merged - 1)[1],
                sum(self._counts[index * merged : (index + 1) * merged]),
            )
            for index in range(first, last + 1)
        ]


def bucket_of(seconds: float) -> int:
    """Which bucket of every histogram a duration belongs in."""
    if seconds < _FROM:
        return 0
    if seconds >= _TO:
        return _SIZE - 1
    return int((math.log2(seconds) - _LOWEST) * _PER_OCTAVE) + 1


def _bounds(index: int) -> tuple[float, float]:
    low = 2.0 ** (_LOWEST + (index - 1) / _PER_OCTAVE)
    return low, low * 2.0 ** (1 / _PER_OCTAVE)
