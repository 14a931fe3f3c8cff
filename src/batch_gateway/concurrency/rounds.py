"""From finished requests to readings: how long a typical answer takes at so many in flight."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Reading", "Round"]

# As if lengths differed by a tenth of their mean where they do not.
_BALLAST = 0.01
_LEAST_SPREAD = 0.01
_LONGEST_SETTLE = 60.0  # seconds; answers that took a day once are no measure for the next


class Reading(NamedTuple):
    """What a round showed.

    Attributes:
        at: monotonic seconds of its end.
        in_flight: mean over the lives of its requests.
        mean_latency: seconds.
        mean_tokens: output tokens of an answer.
        pace: seconds that one more token takes.
        error: standard error of the latency, as a share of it.
        wait: seconds that do not grow with the length of an answer; 0 where that is not known.
        wait_error: its standard error in seconds; infinity where lengths hardly differ.
    """

    at: float
    in_flight: float
    mean_latency: float
    mean_tokens: float
    pace: float
    error: float
    wait: float = 0.0
    wait_error: float = math.inf

    def latency(self, tokens: float) -> float:
        """Seconds that an answer of so many tokens takes.

        Readings are compared at one length, so that a run of long answers is not taken for load:
        the control variate of simulation practice (Lavenberg and Welch, 1981).
        """
        expected = self.mean_latency + self.pace * (tokens - self.mean_tokens)
        return max(expected, 0.05 * self.mean_latency)

    def rate(self, tokens: float) -> float:
        """Answers of such a length a second, by Little's law (1961)."""
        return self.in_flight / self.latency(tokens)

    def changed(self, factor: float, in_flight: float, now: float) -> Reading:
        """What it would be now that everything takes `factor` times as long, with so many in
        flight; how much of it is spent waiting is not known."""
        return self._replace(
            at=now,
            in_flight=in_flight,
            mean_latency=self.mean_latency * factor,
            pace=self.pace * factor,
            wait=0.0,
            wait_error=math.inf,
        )

    def without(self, waiting: float) -> Reading:
        """What it would have been without the share that only waited: as many answers, sooner."""
        share = 1 - waiting
        return self._replace(
            in_flight=self.in_flight * share,
            mean_latency=self.mean_latency * share,
            pace=self.pace * share,
        )


class Round:
    """Sums over the requests that were both started and answered since `counts_from`.

    Long answers weigh less: they tell the pace well, but the wait before it badly.
    """

    __slots__ = (
        "began",
        "count",
        "counts_from",
        "lat",
        "ll",
        "nn",
        "pace",
        "tl",
        "tok",
        "tt",
        "typical",
        "weight",
    )

    def __init__(
        self, began: float, counts_from: float, typical: float, pace: float | None
    ) -> None:
        self.began = began
        self.counts_from = counts_from
        self.typical = typical
        self.pace = pace
        self.count = 0
        self.weight = self.lat = self.tok = self.nn = self.tl = self.tt = self.ll = 0.0

    @classmethod
    def after(cls, before: Reading | None, typical: float, now: float, *, raised: bool) -> Round:
        """The next one; what is sent right after a change of the limit does not count."""
        if before is None:
            return cls(now, now, typical, None)
        settle = min(_LONGEST_SETTLE, before.mean_latency * (0.3 if raised else 0.1))
        return cls(now, now + settle, typical, before.pace)

    def add(self, latency: float, tokens: int, in_flight: float) -> None:
        weight = 1.0
        if self.typical > 0:
            ratio = tokens / self.typical
            weight /= 1.0 + ratio * ratio
        self.count += 1
        self.weight += weight
        self.lat += weight * latency
        self.tok += weight * tokens
        self.nn += weight * in_flight
        self.tl += weight * tokens * latency
        self.tt += weight * tokens * tokens
        self.ll += weight * latency * latency

    def reading(self, now: float) -> Reading:
        """Raises ZeroDivisionError when nothing was added."""
        latency, tokens = self.lat / self.weight, self.tok / self.weight
        covariance = self.tl / self.weight - latency * tokens
        variance = self.tt / self.weight - tokens * tokens
        pace = _pace(latency, tokens, covariance, variance, self.pace)
        spread = self.ll / self.weight - latency * latency
        residual = max(0.0, spread - 2 * pace * covariance + pace * pace * variance)
        error = math.sqrt(residual / self.count) / latency
        wait, wait_error = _wait(latency, tokens, covariance, variance, residual / self.count)
        return Reading(now, self.nn / self.weight, latency, tokens, pace, error, wait, wait_error)


def _wait(
    latency: float, tokens: float, covariance: float, variance: float, noise: float
) -> tuple[float, float]:
    """The latency of an answer of no tokens, by regression, and its standard error."""
    if variance <= _LEAST_SPREAD * tokens * tokens or tokens <= 0:
        return 0.0, math.inf
    return latency - tokens * covariance / variance, tokens * math.sqrt(noise / variance)


def _pace(
    latency: float, tokens: float, covariance: float, variance: float, before: float | None
) -> float:
    """The slope of latency over tokens, drawn towards that of the round before (ridge
    regression), or towards proportionality in the first."""
    if tokens <= 0:
        return 0.0
    prior = latency / tokens if before is None else before
    ballast = _BALLAST * tokens * tokens
    return max(0.0, (covariance + prior * ballast) / (variance + ballast))
