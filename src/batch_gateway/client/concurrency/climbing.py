"""From a small limit to where throughput stops growing, without being told how far that is."""

from __future__ import annotations

from typing import NamedTuple

from batch_gateway.client.concurrency.hidden_waits import MANY
from batch_gateway.client.concurrency.knee import elasticity, knee
from batch_gateway.concurrency.rounds import Reading

__all__ = ["Climb", "Step"]

_MORE = 0.1  # elasticity above the worthwhile that a doubling must show
_LEAST_GAIN, _AGAIN_GAIN = 0.25, 0.5
_BEYOND_BEST = 1.25
_SHORTEST_STRIDE = 0.15  # what is less shows nothing but noise


class Step(NamedTuple):
    """The next limit, and whether the climb goes on after it."""

    base: float
    goes_on: bool


class Climb:
    """Raises the limit round by round by the share that the last raise brought: slow start of
    TCP (RFC 5681) with the measured gain for its factor.

    Attributes:
        bunched: whether its requests all went at once, and so wait for each other and not for a
            place; true for the first round at most.
    """

    def __init__(self, worthwhile: float, *, first_gain: float) -> None:
        self._worthwhile = worthwhile
        self._gain = first_gain
        self._most_gain = 1.0
        self.bunched = False
        self._below: list[Reading] = []
        self._looked_again = False

    def step(
        self,
        reading: Reading,
        base: float,
        tokens: float,
        best: Reading | None,
        *,
        waiting: float,
        blind: bool = True,
    ) -> Step:
        """After a round at `base`, of which a share `waiting` had no place on the server.

        Unless `blind` to waits, a raise that brought nothing although nobody waited is looked at
        twice: a burst of others is over by then.
        """
        self.bunched = False
        if waiting > MANY:
            return Step(reading.in_flight * (1 - waiting), False)
        end = self._end(reading, tokens, best)
        if end is not None:
            again, self._looked_again = not (blind or self._looked_again), True
            return Step(base, True) if again else Step(end, False)
        self._looked_again = False
        gain = max(_SHORTEST_STRIDE, self._gain_after(reading, tokens) * _shortened(waiting))
        # A climb that never ends, because not all permits are used, remembers no more for it.
        self._below = [*self._below[-1:], reading]
        # Unused permits are no evidence: grow from what was in flight.
        reached = min(base, 1.25 * reading.in_flight + 1)
        return Step(max(reached * (1 + gain), reached + 1), True)

    def _end(self, reading: Reading, tokens: float, best: Reading | None) -> float | None:
        """Where the last raise says that the knee is; None when it is not reached."""
        below = self._below
        if best is not None and reading.in_flight > 1.05 * best.in_flight:
            # More in flight than at the best, and no better.
            found = knee(below, reading, tokens) if below else best.in_flight
            return min(found, _BEYOND_BEST * best.in_flight)
        if not below or reading.in_flight <= 1.05 * below[-1].in_flight:
            return None
        paid = elasticity(below[-1], reading, tokens) >= self._worthwhile + _MORE
        return None if paid else knee(below, reading, tokens)

    def _gain_after(self, reading: Reading, tokens: float) -> float:
        """By which share to raise."""
        below = self._below
        if not below:
            return self._gain
        if reading.in_flight <= 1.05 * below[-1].in_flight:
            return _AGAIN_GAIN
        gain = min(self._most_gain, max(_LEAST_GAIN, elasticity(below[-1], reading, tokens)))
        # Nearer the knee a raise pays less; where it seems to pay more, that is noise.
        self._most_gain = max(_AGAIN_GAIN, gain)
        return gain


def _shortened(waiting: float) -> float:
    """What is left of a stride where some seem to wait."""
    return min(1.0, 2 * (1 - waiting / MANY))
