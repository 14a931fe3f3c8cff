"""How long the rest of a run takes, from how long its lines took and how fast they ended."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from batch_gateway.engine.lengths import Lengths

__all__ = ["TimeLeft"]

_MOST_KEPT = 2_000
_MOST_LOOKS = 512
_SHORTEST_LOOK = 0.5
# Two measures of one rate that are further apart know nothing of what comes.
_MOST_APART = 2.25
_MOST_ERROR = 0.35
_LEAST_KNOWN = 0.85
_GROWTH, _GROWTH_SECONDS = 1.3, 5.0
_PARTS = 5
_MOST_CHANGE = 4.0


class _Look(NamedTuple):
    """How far a run was.

    Attributes:
        at: seconds, without those in which nothing could be done.
        done: lines that have their result.
        under_way: lines being sent.
        ended, seconds, size: lines that were sent, for how long together, and their bytes.
        held: for how many of those seconds a limit of the gateway's held them.
    """

    at: float
    done: int
    under_way: int = 0
    ended: int = 0
    seconds: float = 0.0
    size: int = 0
    held: float = 0.0

    def mean_since(self, other: _Look) -> float:
        ended = self.ended - other.ended
        return (self.seconds - other.seconds) / ended if ended else 0.0

    def size_since(self, other: _Look) -> float:
        ended = self.ended - other.ended
        return (self.size - other.size) / ended if ended else 0.0


class TimeLeft:
    """Is told what happens in a run, and says how long the rest takes.

    Lines are let end on paper as they did in the last half of the run, in the places that they have
    now. That is believed as far as it agrees with how many ended in that half: so the first answers
    to come, which are the short ones, deceive nobody, nor do waves of answers. What earlier runs
    did is not told, and does not count.

    Attributes:
        under_way: lines that are being sent, and since when.
    """

    def __init__(self) -> None:
        self.under_way: dict[int, float] = {}
        # Of so many lines that end one is kept, and so many have ended since.
        self._each, self._unkept = 1, 0
        self._kept: list[tuple[float, float]] = []
        self._ended, self._seconds, self._size = 0, 0.0, 0
        self._looks: list[_Look] = []
        self._looked = 0.0
        self._lost = [(-math.inf, 0.0)]

    def begin(self, line: int, now: float) -> None:
        """A line is being sent."""
        self.under_way[line] = now

    def end(self, line: int, size: int, now: Callable[[], float]) -> None:
        """A line of so many bytes is no longer sent; the time is asked for only where it counts."""
        begun = self.under_way.pop(line)
        self._unkept += 1
        if self._unkept >= self._each:
            self._keep(size, begun, now())

    def _keep(self, size: int, begun: float, now: float) -> None:
        """A line stands for those that were not kept before it."""
        at, seconds = now, now - begun
        if len(self._lost) > 1:
            at = self._moving(now)
            seconds = at - self._moving(begun)
        self._ended += self._unkept
        self._seconds += self._unkept * seconds
        self._size += self._unkept * size
        self._unkept = 0
        self._kept.append((at, seconds))
        if len(self._kept) > _MOST_KEPT:
            self._each *= 2
            del self._kept[::2]

    def _moving(self, at: float) -> float:
        """A time on a clock that stands while nothing can be done."""
        return at - self._lost[bisect_right(self._lost, (at, math.inf)) - 1][1]

    def look(self, done: int, now: float, *, is_down: bool = False, held: float = 0.0) -> None:
        """So many lines of this run have their result: told about once a second.

        Time in which none is added does not count while the gateway `is_down`. `held` are the
        seconds for which lines have waited for a limit of the gateway's.
        """
        looks = self._looks
        if looks and is_down and done == looks[-1].done:
            until, lost = self._lost[-1]
            if until == self._looked:
                self._lost.pop()
            self._lost.append((now, lost + now - self._looked))
        self._looked = now
        counted = (len(self.under_way), self._ended, self._seconds, self._size, held)
        look = _Look(self._moving(now), done, *counted)
        if len(looks) > 1 and look.at - looks[-2].at < _SHORTEST_LOOK:
            looks.pop()
        looks.append(look)
        if len(looks) > _MOST_LOOKS:
            del looks[1:-1:2]
        half = _half(looks).at
        if self._kept and self._kept[0][0] < looks[0].at + (half - looks[0].at) / 1.25:
            del self._kept[: bisect_left(self._kept, (half, 0.0))]

    def seconds(self, left: int, size: int | None = None) -> float | None:
        """How long `left` lines take yet, of which those under way are some; None while nobody can
        know. `size` are the bytes of all lines of the run."""
        looks = self._looks
        if not looks or looks[-1].done == looks[0].done:
            return None
        half, last = _half(looks), looks[-1]
        rate = (last.done - half.done) / (last.at - half.at) if last.at > half.at else 0.0
        if not self._ended or last.held - half.held > (last.seconds - half.seconds) / 2:
            return left / rate if rate else None
        if not self._kept or not self.under_way:
            return None
        ages = [max(0.0, last.at - self._moving(begun)) for begun in list(self.under_way.values())]
        lengths = Lengths([seconds for _, seconds in self._kept], ages, self._each)
        queue = max(0, left - len(ages))
        ahead = lengths.ahead(ages, queue)
        if not queue or ahead is None:
            return ahead and ahead.after
        apart = len(ages) / lengths.mean / rate if rate and lengths.mean else math.inf
        is_known = lengths.known > _LEAST_KNOWN and lengths.error < _MOST_ERROR
        if not is_known or _grows(looks) or not 1 / _MOST_APART < apart < _MOST_APART:
            return None
        begun = self._size + len(ages) * last.size_since(half)
        size_of_next = None if size is None else max(0.0, size - begun) / queue
        change = _change(looks, queue, lengths.spread, size_of_next)
        return change and change * (ahead.to_last * math.sqrt(apart) + ahead.after)


def _before(looks: Sequence[_Look], value: float, key: Callable[[_Look], float]) -> _Look:
    return looks[max(0, bisect_right(looks, value, key=key) - 1)]


def _at(look: _Look) -> float:
    return look.at


def _half(looks: Sequence[_Look]) -> _Look:
    """The one at which the last half of a run begins."""
    return _before(looks, (looks[0].at + looks[-1].at) / 2, _at)


def _grows(looks: Sequence[_Look]) -> bool:
    """Whether ever more lines are sent at a time, and who knows how many it will be."""
    last = looks[-1]
    earlier = _before(looks, last.at - max(_GROWTH_SECONDS, (last.at - looks[0].at) / 4), _at)
    return last.under_way > _GROWTH * earlier.under_way


def _change(
    looks: Sequence[_Look], queue: int, spread: float, size_of_next: float | None
) -> float | None:
    """How many times longer the lines of the queue take than those of the last half.

    That is 1 unless lines took ever longer or ever less, as those of a file do that is sorted by
    length: then it is by their sizes, if those say it, or goes on so. None where neither holds.
    """
    part = (looks[-1].ended - looks[0].ended) / (_PARTS + 1)
    # The first that end are the short ones among those that began together.
    marks = [_before(looks, part * n, lambda one: one.ended) for n in range(1, _PARTS + 1)]
    marks.append(looks[-1])
    means = [later.mean_since(one) for one, later in pairwise(marks)]
    costs = [mean / max(1, one.under_way) for mean, one in zip(means, marks[1:], strict=True)]
    way = 1 if means[-1] > means[0] else -1
    noise = 4 * spread * means[0] / math.sqrt(max(1.0, part))
    if abs(means[-1] - means[0]) < noise or not _rises(means, way) or not _rises(costs, way):
        return 1.0
    now = looks[-1].mean_since(_half(looks))
    sizes = [later.size_since(one) for one, later in pairwise(marks)]
    if size_of_next is not None and (_rises(sizes, 1) or _rises(sizes, -1)):
        slope = (means[-1] - means[0]) / (sizes[-1] - sizes[0])
        later = means[-1] + slope * (size_of_next - sizes[-1])
    else:
        first, last = means[2] - means[0], means[-1] - means[-3]
        if not 0.4 < last / first < 2.5:
            return None
        later = means[-1] + last / 2 * (0.5 + queue / 2 / part)
    return min(_MOST_CHANGE, max(1 / _MOST_CHANGE, later / now)) if now else None


def _rises(values: Sequence[float], way: int) -> bool:
    return all(way * one < way * later for one, later in pairwise(values))
