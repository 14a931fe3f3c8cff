"""From finished requests to readings: how long a typical answer takes at so many in flight."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Reading", "Round", "TypicalLength"]

_LEAST_SPREAD = 0.01  # lengths that differ by less than a tenth of their mean are alike
_LONGEST_SETTLE = 60.0  # seconds; answers that took a day once are no measure for the next
_SETTLE = 0.2  # of an answer's time, until what is sent counts: prompts sent at once wait in turn
_SHORTEST = 0.1  # seconds; below that, millisecond requests would give a thousand rounds
_FEWEST, _MOST = 4, 64  # answers; 64 tell the mean of lengths that differ much to about a tenth
_MEMORY = 1000  # answers over which the mean length is taken
_LONGEST = 1_000_000  # tokens; no model writes more, and a wrong count is not to be remembered
# Of the limit, in answers: a climb looks at more, and longer strides, and so can do with fewer.
_SHARE, _SHARE_IN_CLIMB = 2, 4


class Reading(NamedTuple):
    """What a round showed.

    Attributes:
        in_flight: mean over the lives of its requests.
        mean_latency: seconds.
        mean_tokens: output tokens of an answer.
        pace: seconds that one more token takes; 0 where lengths hardly differ.
        error: standard error of the latency, as a share of it.
        wait_error: standard error, in seconds, of what does not grow with the length of an answer;
            infinity where lengths hardly differ.
    """

    in_flight: float
    mean_latency: float
    mean_tokens: float
    pace: float
    error: float
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


class TypicalLength:
    """The length at which readings are compared: the mean of all answers of late, also of those
    that took too long to be counted in a round.

    Attributes:
        tokens: of an output; 0 while none is known.
    """

    def __init__(self) -> None:
        self.tokens = 0.0
        self._answers = 0

    def learn(self, tokens: int) -> None:
        """The length of one more answer."""
        if self._answers < _MEMORY:
            self._answers += 1
        self.tokens += (min(tokens, _LONGEST) - self.tokens) / self._answers


class Round:
    """Sums over the requests that were both started and answered since `counts_from`.

    Long answers weigh less: they tell the pace well, but the wait before it badly. Where lengths
    hardly differ, answers go round in cohorts, of which only one whole turn is a fair sample.
    """

    def __init__(
        self, before: Reading | None, typical: float, now: float, *, limit: int, climbs: bool
    ) -> None:
        """The one after `before`, with that limit; `typical` is in tokens."""
        self.began = self.counts_from = now
        self.typical = typical
        if before is not None:
            self.counts_from += min(_LONGEST_SETTLE, _SETTLE * before.mean_latency)
        needs = limit // (_SHARE_IN_CLIMB if climbs else _SHARE)
        self.needs = max(_FEWEST, min(_MOST, needs))
        self.turn = limit
        self.count = 0
        self.weight = self.lat = self.tok = self.nn = self.tl = self.tt = self.ll = 0.0

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

    def is_over(self, limit: int, now: float) -> bool:
        """Whether enough answers are in it, where so many may be in flight."""
        if self.count < self.needs or now - self.began < _SHORTEST:
            return False
        return self.count >= min(self.turn, limit) or not self._alike

    @property
    def _alike(self) -> bool:
        variance = self.tt * self.weight - self.tok * self.tok
        return variance <= _LEAST_SPREAD * self.tok * self.tok

    def reading(self) -> Reading:
        """Raises ZeroDivisionError when nothing was added."""
        latency, tokens = self.lat / self.weight, self.tok / self.weight
        covariance = self.tl / self.weight - latency * tokens
        variance = self.tt / self.weight - tokens * tokens
        pace = 0.0 if self._alike else max(0.0, covariance / variance)
        noise = self.ll / self.weight - latency * latency - 2 * pace * covariance
        noise = max(0.0, noise + pace * pace * variance) / self.count
        wait_error = math.inf if self._alike else tokens * math.sqrt(noise / variance)
        error = math.sqrt(noise) / latency
        return Reading(self.nn / self.weight, latency, tokens, pace, error, wait_error)
