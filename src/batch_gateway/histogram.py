"""Values counted in buckets, whatever their number, to be added up and read as quantiles."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, repeat
from operator import add

import msgspec

__all__ = ["DURATIONS", "Histogram"]

DURATIONS: Sequence[float] = tuple(2.0 ** (step / 8) for step in range(-80, 17 * 8 + 1))
"""Bounds in seconds from a millisecond to 36 hours, each 9 % above the one before."""


class Histogram(msgspec.Struct, omit_defaults=True):
    """Counts of values up to and including each bound, and of those above the last.

    Attributes:
        bounds: two at least, in rising order.
        counts: one more than there are bounds.
        sum: of the values.
        lowest, highest: values, exactly; infinity and 0 while there are none.
    """

    bounds: Sequence[float] = DURATIONS
    counts: list[int] = []
    sum: float = 0.0
    lowest: float = math.inf
    highest: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        # Called for every request: comparing is cheaper than calling min and max.
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        if value < self.lowest:  # noqa: PLR1730
            self.lowest = value
        if value > self.highest:  # noqa: PLR1730
            self.highest = value

    def add_all(self, values: Sequence[float]) -> None:
        """As `add` of each, at a fraction of its cost."""
        if not values:
            return
        for index, count in Counter(map(bisect_left, repeat(self.bounds), values)).items():
            self.counts[index] += count
        self.sum += sum(values)
        self.lowest = min(self.lowest, *values)
        self.highest = max(self.highest, *values)

    def __add__(self, other: Histogram) -> Histogram:
        """What both have counted, with equal bounds."""
        return Histogram(
            self.bounds,
            list(map(add, self.counts, other.counts)),
            self.sum + other.sum,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
        )

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, values up to it) of each bucket, in Prometheus' words."""
        names = [*map(repr, map(float, self.bounds)), "+Inf"]
        return list(zip(names, accumulate(list(self.counts)), strict=True))

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0 to 1) of them do not exceed, within a bucket; None for none."""
        wanted, seen = share * self.count, 0
        for index, count in enumerate(self.counts):
            if count and seen + count >= wanted:
                low, high = self._edges(index)
                inside = low * (high / low) ** ((wanted - seen) / count)
                return min(max(inside, self.lowest), self.highest)
            seen += count
        return None

    def buckets(self, merged: int = 1) -> list[tuple[float, float, int]]:
        """(from, to, count) from the first used bucket to the last, `merged` made one each."""
        used = [index // merged for index, count in enumerate(self.counts) if count]
        return [
            (
                self._edges(index * merged)[0],
                self._edges(index * merged + merged - 1)[1],
                sum(self.counts[index * merged : (index + 1) * merged]),
            )
            for index in (range(used[0], used[-1] + 1) if used else ())
        ]

    def _edges(self, index: int) -> tuple[float, float]:
        bounds = self.bounds
        # What has a bound on one side only is as wide as its neighbour.
        low = bounds[min(index, len(bounds)) - 1] if index else bounds[0] ** 2 / bounds[1]
        return low, bounds[index] if index < len(bounds) else bounds[-1] ** 2 / bounds[-2]
