"""How many of ours only wait at the server, told from the latency that no length explains."""

from __future__ import annotations

import math
from typing import NamedTuple

from batch_gateway.concurrency.rounds import Reading

__all__ = ["NOTHING_KNOWN", "Lately", "Waiting", "Waits"]

# Of a hundred in flight eight may wait, of more more by this power of the share: between the square
# root by which arrivals and ends fluctuate (0.5; Halfin and Whitt, 1981) and the few of TCP Vegas,
# whatever the number (1). In one queue all see the same share, and may make less of it the more
# they are, so that clients of one server come to like numbers, the sooner the greater the power.
_MAY_WAIT, _POWER = 0.08, 0.75
_MOST_MAY = 0.25  # of those in flight
# Standard error of the wait, as a share of latency, beyond which a round tells nothing of it.
_TELLS = 0.05
# The least that rounds scatter by, as what runs changes; also keeps the sum below finite.
_LEAST_SCATTER = 0.02
# Page's test: a drift of half a standard deviation is chance, and a sum of four is not, which
# noise alone reaches once in thousands of rounds; no single round counts for more than three.
_CHANCE, _LASTS, _MOST_OF_ONE = 0.5, 4.0, 3.0
# Standard errors by which a single round must stand out to be believed by itself.
_SURE = 3.0
_FORGET = 0.8  # weight of the rounds so far at each new one: about five rounds count
_IN_VAIN = 2  # cuts on end; after one alone, others may have taken the room
_MOST = 0.9  # of those in flight may seem to wait
# The lowest share follows down at once, and up by a hundredth of what is above it, at most to three
# times as much.
_RISE, _MOST_RISE = 0.01, 3.0


class Waiting(NamedTuple):
    """What one round says of those that only waited.

    Attributes:
        share: of those in flight; 0 where nothing tells.
        scatter: standard deviation of `share`; infinity where nothing tells.
        lasting: whether more than may surely waited over the last rounds.
        may: the share that may wait.
        none: the share of the latency that counts as none, as it was there at the least.
    """

    share: float = 0.0
    scatter: float = math.inf
    lasting: bool = False
    may: float = 0.0
    none: float = 0.0

    @property
    def too_many(self) -> float:
        """The share that waits and should not; negative where more may."""
        return self.share - self.may

    @property
    def many(self) -> bool:
        """Whether this round alone shows that too many waited."""
        return self.too_many > _SURE * self.scatter


NOTHING_KNOWN = Waiting()


class Waits:
    """Compares the wait in readings with the least that was seen, as TCP Vegas does with the round
    trip (Brakmo and Peterson, 1995), where answers of different lengths tell it from the work.

    As a share of the latency, so that a server that does everything more slowly is not taken for
    a queue. A slow-down that begins or ends within a round looks like a wait, or like less than
    none; so a wait counts when it stands out of its standard error, summed up by the test of Page
    (1954).
    """

    def __init__(self) -> None:
        self._lowest = 1.0
        self._sum = 0.0
        self._cut: tuple[float, float] | None = None
        self._in_vain = 0

    def learn(self, reading: Reading, tokens: float) -> Waiting:
        """What a round says, at answers of `tokens`."""
        latency = reading.latency(tokens)
        raw, error = reading.wait / latency, reading.wait_error / latency
        # The lowest of many that scatter is lower than any that holds.
        rise = _RISE * (min(raw, _MOST_RISE * self._lowest) - self._lowest)
        self._lowest = max(0.0, min(1.0, self._lowest + max(0.0, rise), raw + error))
        # Where hardly anything depends on the length, hardly anything is told by it.
        rest = 1 - self._lowest
        if error >= _TELLS * rest:
            return NOTHING_KNOWN
        share = min(_MOST, max(-_MOST, (raw - self._lowest) / rest))
        scatter = max(_LEAST_SCATTER, error / rest)
        if self._waits_anyway(share, scatter, reading.in_flight):
            # By half: others on the server may make us wait only for a while.
            self._lowest = (self._lowest + min(1.0, max(0.0, raw))) / 2
            return NOTHING_KNOWN
        # Of many fewer might than a round can tell from none, and chance would hold them down.
        may = max(2 * scatter, min(_MOST_MAY, _MAY_WAIT * (100 / reading.in_flight) ** _POWER))
        lasting = self._lasts((share - may) / scatter)
        if lasting:
            self._cut = max(may, share), reading.in_flight
        return Waiting(share, scatter, lasting, may=may, none=self._lowest)

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

    def _lasts(self, more: float) -> bool:
        """Whether so many standard errors more than may wait, round after round."""
        self._sum = max(0.0, self._sum + min(_MOST_OF_ONE, more - _CHANCE))
        lasts = self._sum > _LASTS
        if lasts:
            self._sum = 0.0
        return lasts


class Lately:
    """How many of those that may wait do, on average of the last rounds.

    Attributes:
        rounds: that tell anything.
        over: share of those that may wait by which more do; -1 where nobody does, 0 where nothing
            tells. A single round counts for at most twice as many as may.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self.over = self._weight = 0.0

    def learn(self, waiting: Waiting) -> None:
        """One more round, where it tells anything."""
        if waiting.may:
            self.rounds += 1
            self._weight = _FORGET * self._weight + 1
            self.over += (min(1.0, waiting.too_many / waiting.may) - self.over) / self._weight
