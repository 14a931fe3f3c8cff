"""A queue that shows in answers that are not streamed: latency that no length explains."""

from __future__ import annotations

import math
from collections import deque

from batch_gateway.concurrency.rounds import Reading

__all__ = ["MANY", "HiddenWaits"]

MANY = 0.1
"""Share of those in flight; fewer may wait, as some must where all seats are to be taken."""

_ROUNDS = 4
_MOST = 0.9  # of those in flight may seem to wait
_SURE = 0.05  # standard error of the wait as a share of latency that still tells something
_FALL, _RISE = 0.5, 0.01
_MOST_RISE = 3.0


class HiddenWaits:
    """Compares the wait in readings with its own baseline, as TCP Vegas does with the round trip
    (Brakmo and Peterson, 1995), where answers of different lengths tell it from the work.

    A slow-down that begins or ends within a round looks like a wait, or like less than none;
    over a few rounds that evens out.
    """

    def __init__(self) -> None:
        self._baseline: float | None = None
        self._shares: deque[float] = deque(maxlen=_ROUNDS)

    @property
    def known(self) -> bool:
        """Whether lengths differed enough in any round."""
        return self._baseline is not None

    @staticmethod
    def tells(reading: Reading) -> bool:
        """Whether lengths differ enough in it to tell the wait from the work."""
        return reading.wait_error <= _SURE * reading.mean_latency

    def learn(self, reading: Reading, tokens: float) -> float:
        """The share of those in flight that waited in this round; 0 where it may be chance."""
        wait = max(0.0, reading.wait)
        if self._baseline is None:
            self._baseline = wait
        elif wait < self._baseline:
            self._baseline += _FALL * (wait - self._baseline)
        else:
            self._baseline += _RISE * (min(wait, _MOST_RISE * self._baseline) - self._baseline)
        longer = reading.wait - self._baseline
        share = min(_MOST, longer * reading.rate(tokens) / reading.in_flight)
        self._shares.append(share)
        return max(0.0, share) if longer > 3 * reading.wait_error else 0.0

    def lasting(self) -> float:
        """The share of those in flight that waited over the last rounds; 0 when few did."""
        if len(self._shares) < _ROUNDS:
            return 0.0
        mean = math.fsum(self._shares) / _ROUNDS
        return mean if mean > MANY else 0.0

    def restart(self) -> None:
        """The limit is another one now."""
        self._shares.clear()
