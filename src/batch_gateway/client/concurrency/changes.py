"""Changes of latency that no change of the limit explains: the server, or others on it."""

from __future__ import annotations

import math

from batch_gateway.concurrency.rounds import Reading

__all__ = ["Watch", "as_quick_as", "outdoes", "quicker_than", "unexplained"]

_SHIFT = 0.12  # logarithmic change between two rounds
_SLOWER, _FASTER = 0.2, 0.15  # the same within a round, from fewer answers
_FEWEST, _MOST = 8, 40  # answers that are looked at together


def unexplained(before: Reading, after: Reading, tokens: float) -> float:
    """How much slower (+) or faster (-) it became, as a logarithm; 0 within what is explained.

    When n in flight become m, latency may stay (an idle server) or change by m / n (past the
    knee); and readings have errors.
    """
    slower = math.log(after.latency(tokens) / before.latency(tokens))
    grown = math.log(after.in_flight / before.in_flight)
    bound = max(_SHIFT, 3 * math.hypot(before.error, after.error))
    if slower > max(0.0, grown) + bound:
        return slower - max(0.0, grown)
    if slower < min(0.0, grown) - bound:
        return slower - min(0.0, grown)
    return 0.0


def as_quick_as(best: Reading, reading: Reading, tokens: float) -> bool:
    """Whether latency is what it was at the best, with so many fewer in flight.

    An idle server would be as quick with fewer, a saturated one quicker in proportion; halfway
    between tells a server that recovered from one that lost half of what it could do.
    """
    fewer = min(1.0, reading.in_flight / best.in_flight)
    return reading.latency(tokens) < 1.1 * math.sqrt(fewer) * best.latency(tokens)


def quicker_than(best: Reading, reading: Reading, tokens: float) -> bool:
    """Whether it is better than the best ever was, and so another server."""
    share = reading.in_flight / best.in_flight
    latency = reading.latency(tokens) / best.latency(tokens)
    return latency < max(share / 1.1, 0.9 * math.sqrt(min(1.0, share)))


def outdoes(best: Reading, reading: Reading, tokens: float) -> bool:
    """Whether it brings far more than the best, and than more in flight could bring."""
    more = reading.in_flight / best.in_flight
    return more > 0.95 and reading.rate(tokens) > 1.15 * max(1.0, more) * best.rate(tokens)


class Watch:
    """Looks at answers in small blocks, whenever they were sent, so as to see a change at once.

    Attributes:
        began: monotonic seconds.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self._count = 0
        self._latency = self._expected = self._low = self._high = self._in_flight = 0.0

    @property
    def slowdown(self) -> float:
        """Latency as a multiple of that of the reference."""
        return self._latency / self._expected

    @property
    def in_flight(self) -> float:
        return self._in_flight / self._count

    def add(
        self, latency: float, tokens: int, in_flight: float, reference: Reading, typical: float
    ) -> None:
        """Compare an answer with the last reading; `in_flight` is the mean over its life."""
        weight = 1.0
        if typical > 0:
            weight /= 1.0 + (tokens / typical) ** 2
        expected = weight * reference.latency(tokens)
        grown = in_flight / reference.in_flight
        self._count += 1
        self._latency += weight * latency
        self._expected += expected
        self._in_flight += in_flight
        self._low += expected * grown if grown < 1.0 else expected
        self._high += expected * grown if grown > 1.0 else expected

    def verdict(self, limit: int, shortest: float, now: float) -> float | None:
        """How much slower (+) or faster (-), 0 for neither; None while it is too early."""
        if now - self.began < shortest or self._count < max(_FEWEST, min(_MOST, limit // 6)):
            return None
        slower = math.log(self._latency / self._high)
        faster = math.log(self._latency / self._low)
        if slower > _SLOWER:
            return slower
        return faster if faster < -_FASTER else 0.0
