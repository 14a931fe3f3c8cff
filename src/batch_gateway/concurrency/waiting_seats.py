"""How many of ours only wait at the server, told from the latency that no length explains."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from batch_gateway.concurrency.rounds import Reading

__all__ = ["NOTHING_KNOWN", "Lately", "Waiting", "Waits"]

# Of a hundred in flight eight may wait, of more more by this power of the share: between the square
# root by which arrivals and ends fluctuate (0.5; Halfin and Whitt, 1981) and the few of TCP Vegas,
# whatever the number (1). In one queue all see the same share, and may make less of it the more
# they are, so that clients of one server come to like numbers, the sooner the greater the power.
_MAY_WAIT, _POWER = 0.08, 0.75
_MOST_MAY = 0.25  # of those in flight
# Twice of that and a half: as many may seem to wait where every seat is just taken.
_HARDLY_ANY = 0.15
# Standard error of the wait, as a share of latency, beyond which a round tells nothing of it.
_TELLS = 0.05
# The least that rounds scatter by; also keeps the sum below finite where nothing scatters.
_LEAST_SCATTER = 0.02
# Rounds that the scatter is averaged over.
_MEMORY = 16
# Page's test: a drift of half a standard deviation is chance, and a sum of four is not, which
# noise alone reaches once in thousands of rounds; no single round counts for more than three.
_CHANCE, _LASTS, _MOST_OF_ONE = 0.5, 4.0, 3.0
# Standard deviations by which a single round must stand out to be believed by itself.
_SURE, _SURELY_NOT = 3.0, 2.0
_FREE = 0.3  # of those that may wait are missing, where more may fit
_SOME = 0.5  # of those that may wait do, where a raise has gone far enough
_FORGET = 0.8
_PATIENCE = 4  # rounds, until more are tried
_IN_VAIN = 2  # cuts on end; after one alone, others may have taken the room
_MOST = 0.9  # of those in flight may seem to wait
# The lowest share follows down by half, so that one odd round cannot put it too low for long,
# and up by a hundredth of what is above it, at most to three times as much.
_FALL, _RISE, _MOST_RISE = 0.5, 0.01, 3.0
# ln; rounds with more between them differ because we sent more, which is no scatter.
_LIKE = 0.15


class Waiting(NamedTuple):
    """What one round says of those that only waited.

    Attributes:
        share: of those in flight; 0 where nothing tells.
        scatter: standard deviation of `share`; infinity where nothing tells.
        lasting: the share that surely waited over the last rounds; 0 when few did.
        anyway: hardly fewer wait after two cuts by `lasting` than before them, so that it is not
            for ours that they do; from now on half of that share counts as none.
        may: the share that may wait.
        none: the share of the latency that counts as none, as it was there at the least.
    """

    share: float = 0.0
    scatter: float = math.inf
    lasting: float = 0.0
    anyway: bool = False
    may: float = 0.0
    none: float = 0.0

    @property
    def too_many(self) -> float:
        """The share that waits and should not; negative where more may."""
        return self.share - self.may

    @property
    def many(self) -> float:
        """The share, where this round alone shows that too many waited; else 0."""
        return self.share if self.too_many > _SURE * self.scatter else 0.0

    @property
    def some(self) -> bool:
        """Whether half as many as may seem to wait, so that a raise has gone far enough."""
        return self.share - _SOME * self.may > self.scatter

    @property
    def hardly_any(self) -> bool:
        """Whether this round shows that next to nobody waited."""
        return self.share + _SURELY_NOT * self.scatter < _HARDLY_ANY


NOTHING_KNOWN = Waiting()


class Waits:
    """Compares the wait in readings with the least that was seen, as TCP Vegas does with the round
    trip (Brakmo and Peterson, 1995), where answers of different lengths tell it from the work.

    As a share of the latency, so that a server that does everything more slowly is not taken for
    a queue. A slow-down that begins or ends within a round looks like a wait, or like less than
    none; so a wait counts when it stands out of the scatter of the rounds, summed up by the test
    of Page (1954).
    """

    def __init__(self) -> None:
        self._lowest = 0.0
        self._at_most = 1.0
        self._knows = False
        self._variance = 0.0
        self._compared = 0
        self._before: tuple[float, float] | None = None
        self._sum = 0.0
        self._shares: deque[float] = deque(maxlen=2)
        self._cut: tuple[float, float] | None = None
        self._in_vain = 0

    def learn(self, reading: Reading, tokens: float) -> Waiting:
        """What a round says, at answers of `tokens`."""
        latency = reading.latency(tokens)
        raw, error = reading.wait / latency, reading.wait_error / latency
        # What a few answers say is little, but where they were few they met no queue of ours.
        if not self._knows:
            self._at_most = max(0.0, min(self._at_most, raw + 2 * error))
        if error <= _TELLS:
            self._learn_lowest(raw, math.hypot(math.sqrt(self._variance), error))
        # Where hardly anything depends on the length, hardly anything is told by it.
        rest = 1 - self._lowest
        if error >= _TELLS * rest:
            self._before = None
            return NOTHING_KNOWN
        share = min(_MOST, max(-_MOST, (raw - self._lowest) / rest))
        scatter = max(_LEAST_SCATTER, math.hypot(math.sqrt(self._variance), error / rest))
        if self._waits_anyway(share, scatter, reading.in_flight):
            # By half: others on the server may make us wait only for a while.
            self._lowest += _FALL * (min(1.0, max(0.0, raw)) - self._lowest)
            return Waiting(anyway=True)
        self._learn_scatter(share, reading.in_flight)
        may = min(_MOST_MAY, _MAY_WAIT * (100 / reading.in_flight) ** _POWER)
        lasting = self._lasting(share, may, scatter)
        if lasting:
            self.skip()
            self._cut = share, reading.in_flight
        return Waiting(share, scatter, lasting, may=may, none=self._lowest)

    def skip(self) -> None:
        """The next round is not to be compared with those before it."""
        self._sum = 0.0
        self._before = None
        self._shares.clear()

    def _waits_anyway(self, share: float, scatter: float, in_flight: float) -> bool:
        """Whether more wait after cuts on end than if the queue had been of ours alone."""
        cut, self._cut = self._cut, None
        if cut is None:
            return False
        waited, were = cut
        expected = max(0.0, 1 - were * (1 - waited) / in_flight)
        in_vain = share - (waited + expected) / 2 > scatter
        self._in_vain = (self._in_vain + 1) % _IN_VAIN if in_vain else 0
        return in_vain and not self._in_vain

    def _learn_lowest(self, share: float, scatter: float) -> None:
        lowest = self._lowest if self._knows else max(0.0, min(share, self._at_most))
        self._knows = True
        # The lowest of many that scatter is lower than any that holds.
        surely = max(0.0, share + scatter)
        if surely < lowest:
            lowest += _FALL * (surely - lowest)
        else:
            lowest += _RISE * (min(share, _MOST_RISE * lowest) - lowest)
        self._lowest = min(1.0, lowest)

    def _learn_scatter(self, share: float, in_flight: float) -> None:
        before, self._before = self._before, (share, in_flight)
        if before is None or abs(math.log(in_flight / before[1])) > _LIKE:
            return
        square = (share - before[0]) ** 2 / 2
        self._compared += 1
        most = max(9 * self._variance, 4 * _LEAST_SCATTER**2)
        self._variance += (min(square, most) - self._variance) / min(_MEMORY, self._compared + 4)

    def _lasting(self, share: float, may: float, scatter: float) -> float:
        self._sum += min(_MOST_OF_ONE, (share - may) / scatter - _CHANCE)
        if self._sum <= 0:
            self._sum = 0.0
            self._shares.clear()
            return 0.0
        self._shares.append(share)
        if self._sum <= _LASTS:
            return 0.0
        return min(_MOST, max(may, math.fsum(self._shares) / len(self._shares)))


class Lately:
    """What the rounds of a hold say of those that wait on average, each less than the next."""

    def __init__(self) -> None:
        self.rounds = 0
        self._weight = self._sum = 0.0

    def learn(self, waiting: Waiting) -> None:
        """One more round, where it tells anything."""
        if waiting.scatter < math.inf:
            self.rounds += 1
            self._weight = _FORGET * self._weight + 1
            self._sum = _FORGET * self._sum + min(waiting.too_many, waiting.may)

    @property
    def too_many(self) -> float:
        """The share that waits and should not; negative where more may, 0 where nothing tells."""
        return self._sum / self._weight if self._weight else 0.0

    def free_seats(self, waiting: Waiting) -> bool:
        """Whether more may fit, as next to nobody waits, though the noise hides whether they pay.

        `waiting`: what the last round said, as of which the others scatter.
        """
        if self.rounds < _PATIENCE or waiting.scatter == math.inf:
            return False
        error = waiting.scatter / math.sqrt(self._weight)
        return self.too_many + error < -_FREE * waiting.may
