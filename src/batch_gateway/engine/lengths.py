"""How long lines take, by those that ended and those that have not; and letting more end so."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heapreplace
from itertools import accumulate
from operator import mul
from random import Random
from typing import NamedTuple

__all__ = ["Ahead", "Lengths"]

_TRIES = 3
_MOST_PLACES = 250
_FEWEST_LINES = 500
# So many must have taken longer than one that still goes on, to say how long that takes yet.
_ENOUGH = 5


class Ahead(NamedTuple):
    """Seconds until the last line is sent, and from then until all have ended."""

    to_last: float
    after: float

    @property
    def seconds(self) -> float:
        return self.to_last + self.after


class Lengths:
    """A distribution of durations, of which some are only known to be longer than they are now.

    The estimator of Kaplan and Meier (1958), by giving the weight of each that goes on to those
    that took longer (Efron, 1967). Of those that ended, one was kept of every `stride`.

    Attributes:
        known: the share of lines of which it is known how long they take.
        mean: in seconds, of those.
        spread: the standard deviation over the mean.
        error: the standard error over the mean.
    """

    def __init__(self, ended: Sequence[float], ages: Sequence[float], stride: int = 1) -> None:
        both = sorted([(age, True) for age in ages[::stride]] + [(one, False) for one in ended])
        weight, weights = 1.0, list[float]()
        for before, (_, goes_on) in enumerate(both):
            if not goes_on:
                weights.append(weight / (len(both) - before))
                weight -= weights[-1]
        self._values = [seconds for seconds, goes_on in both if not goes_on]
        self._up_to = list(accumulate(weights))
        self.known = self._up_to[-1]
        self.mean = sum(map(mul, self._values, weights)) / self.known
        squares = [(one - self.mean) ** 2 for one in self._values]
        variance = sum(map(mul, squares, weights)) / self.known
        self.spread = math.sqrt(variance) / self.mean if self.mean else 0.0
        self.error = self.spread / math.sqrt(len(ended))

    def ahead(self, ages: Sequence[float], queue: int) -> Ahead | None:
        """Lets lines of these ages end, and a queue that has their places; the median of a few
        tries, which are the same each time.

        None where nobody knows: something goes on for longer than nearly all that ended, or the
        tries come to very different ends.
        """
        if not queue and self._longer_than(max(ages, default=0.0)) < _ENOUGH:
            return None
        each = math.ceil(len(ages) / _MOST_PLACES)
        tries = [self._tried(Random(n), ages[::each], round(queue / each)) for n in range(_TRIES)]  # noqa: S311
        tries.sort(key=lambda one: one.seconds)
        return None if tries[-1].seconds > 2 * tries[0].seconds else tries[_TRIES // 2]

    def _tried(self, random: Random, ages: Sequence[float], queue: int) -> Ahead:
        draw = random.random
        ends = [max(0.0, self._drawn(draw(), age) - age) for age in ages]
        heapify(ends)
        tried = min(queue, max(_FEWEST_LINES, 2 * len(ends)))
        sent = 0.0
        for _ in range(tried):
            sent = ends[0]
            heapreplace(ends, sent + self._drawn(draw()))
        return Ahead(sent + (queue - tried) * self.mean / len(ends), max(ends) - sent)

    def _longer_than(self, age: float) -> int:
        return len(self._values) - bisect_right(self._values, age)

    def _drawn(self, share: float, age: float = -1.0) -> float:
        """A duration over `age`; the longest where none was."""
        first = bisect_right(self._values, age)
        below = self._up_to[first - 1] if first else 0.0
        at = bisect_right(self._up_to, below + share * (self.known - below))
        return self._values[min(at, len(self._values) - 1)]
