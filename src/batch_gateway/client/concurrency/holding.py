"""Around the knee: small steps up and down, towards where a raise just pays."""

from __future__ import annotations

import math

from batch_gateway.client.concurrency.changes import unexplained
from batch_gateway.client.concurrency.knee import elasticity, local_elasticity
from batch_gateway.concurrency.rounds import Reading

__all__ = ["Hold"]

_DITHER = 0.04  # rounds alternate this share below and above the limit
_WINDOW = 12  # rounds that the local regression looks at
_GAIN = 0.2  # logarithmic step for each unit of elasticity above or below the worthwhile
_MOST_DOWN, _MOST_UP = 0.06, 0.08
_STEEP, _TIMES_STEEP = 0.25, 5
_SHORT_WAIT = 0.1
_PROBE, _ROUNDS_BETWEEN_PROBES = 0.7, 14


class Hold:
    """Alternates rounds a little below and above the limit, as BBR probes for bandwidth, and now
    and then one at 70 %, which shows whether the limit is far past the knee after all.

    Attributes:
        grown: what the last probe was compared with, where a server that seemed to have been full
            far below proved to have room: it became a larger one meanwhile.
    """

    def __init__(self, worthwhile: float) -> None:
        self._worthwhile = worthwhile
        self._readings: list[Reading] = []
        self._side = 1
        self._rounds = 0
        self._steep = 0
        self._doubted = False
        self._went_down = False
        self.grown: Reading | None = None

    def restart(self) -> None:
        """Readings from before say nothing about what comes."""
        self._readings = []
        self._steep = 0

    def wanted(self, base: float) -> float:
        """What to have in flight in this round."""
        if self._side == 0:
            return base * _PROBE
        if base * _DITHER < 0.5:
            # Rounded, both sides would be the same number, and nothing would ever be learnt.
            return math.floor(base) + (1 if self._side > 0 else 0)
        return base * (1 + self._side * _DITHER)

    def shift(self, reading: Reading, tokens: float) -> float:
        """How much slower (+) or faster (-) than the round before, unexplained, as a logarithm."""
        return unexplained(self._readings[-1], reading, tokens) if self._readings else 0.0

    def begin_with(self, reading: Reading) -> None:
        self._readings = [reading]

    @property
    def probes(self) -> bool:
        """Whether this round is one at much less."""
        return self._side == 0

    @property
    def doubts(self) -> bool:
        """Whether the last probe is to be repeated."""
        return self._doubted

    def probed(self, probe: Reading, tokens: float) -> bool:
        """After such a round: whether as many answers came with fewer in flight."""
        self._side = 1
        self.grown = None
        full = self._readings[-1] if self._readings else None
        if full is None or probe.in_flight > 0.95 * full.in_flight:
            return False
        paid = elasticity(probe, full, tokens)
        if paid > 0.5 * self._worthwhile:
            steep = paid > self._worthwhile + _STEEP
            self.grown = full if steep and self._went_down else None
            self._doubted = self._went_down = False
            return False
        if full.wait < _SHORT_WAIT * full.mean_latency and not self._doubted:
            # Nobody waited, so it may have become another server: look at the full number again.
            self._doubted = True
            self._readings = [full]
            self._rounds = _ROUNDS_BETWEEN_PROBES - 1
            return False
        self._doubted = False
        # Go on down until it costs something.
        self._readings = [probe]
        self._side = 0
        self._went_down = True
        return True

    def turn(self) -> None:
        self._side = -self._side

    def factor(self, reading: Reading, tokens: float, *, may_probe: bool) -> float:
        """By how much to change the limit after a round; at most some per cent."""
        held = self._readings
        held.append(reading)
        self._rounds += 1
        if self._rounds >= _ROUNDS_BETWEEN_PROBES and may_probe:
            held[:-1] = []
            self._rounds = self._side = 0
        if len(held) < 3:
            return 1.0
        del held[:-_WINDOW]
        seen = local_elasticity(held, tokens, self._worthwhile)
        worth = seen.value - self._worthwhile
        sure = math.copysign(max(0.0, abs(worth) - 0.5 * seen.error), worth)
        self._steep = self._steep + 1 if sure > _STEEP else 0
        return math.exp(max(-_MOST_DOWN, min(_MOST_UP, _GAIN * sure)))

    @property
    def far_below(self) -> bool:
        """Whether raises paid so much, so many times in a row, that the knee must be far away."""
        return self._steep >= _TIMES_STEEP
