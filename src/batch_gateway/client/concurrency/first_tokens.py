"""Rising time to first token: a queue that nobody speaks of."""

from __future__ import annotations

__all__ = ["FirstTokens"]

_FEWEST = 8
_SHORTEST = 0.2
_RISE = 3.0
_FALL = 0.2
_RISES = 0.01
_FEW = 0.08
_MARGIN = 1.25
_FULL = 0.95
_SHORT = 0.02  # seconds that nobody minds, as where requests last milliseconds
_MOST = 0.9  # of those in flight may seem to wait


class FirstTokens:
    """Compares the time to first token with its own baseline, as TCP Vegas does with the round
    trip (Brakmo and Peterson, 1995): what is longer was spent in a queue."""

    def __init__(self) -> None:
        self.baseline: float | None = None
        self._count = 0
        self._seconds = 0.0
        self._rank = 0
        self._began = 0.0
        self._round_count = 0
        self._round_seconds = 0.0

    @property
    def known(self) -> bool:
        """Whether answers are streamed, so that a wait can be told from a slow answer."""
        return self.baseline is not None

    def learn(self, seconds: float, rank: int, rate: float, now: float) -> float | None:
        """How many of ours fit without waiting, when too many waited; None as a rule.

        `rank` is how many were in flight when the request was sent, `rate` answers a second; by
        Little's law rate * wait of them had no place.
        """
        self._round_count += 1
        self._round_seconds += seconds
        self._count += 1
        self._seconds += seconds
        self._rank += rank
        if self._count < _FEWEST or now - self._began < _SHORTEST:
            return None
        mean, rank_mean = self._seconds / self._count, self._rank / self._count
        self._began, self._count, self._seconds, self._rank = now, 0, 0.0, 0
        if self.baseline is None:
            self.baseline = mean
            return None
        if mean < self.baseline:
            self.baseline += _FALL * (mean - self.baseline)
            return None
        waiting = rate * (mean - self.baseline)
        risen = mean > _RISE * self.baseline and waiting > max(2.0, _FEW * rank_mean)
        self.baseline += _RISES * (min(mean, _RISE * self.baseline) - self.baseline)
        return _FULL * max(rank_mean / 2, rank_mean - _MARGIN * waiting) if risen else None

    def share(self, rate: float, in_flight: float) -> float:
        """The share of those in flight that waited, on the mean since the last call."""
        count, seconds = self._round_count, self._round_seconds
        self._round_count, self._round_seconds = 0, 0.0
        if self.baseline is None or count < _FEWEST:
            return 0.0
        longer = seconds / count - self.baseline
        return min(_MOST, longer * rate / in_flight) if longer > _SHORT else 0.0
