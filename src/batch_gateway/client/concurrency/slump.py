"""A time in which answers take longer, by nothing that we did: a burst of others, or for good."""

from __future__ import annotations

from batch_gateway.concurrency.rounds import Reading

__all__ = ["Slump"]

_BURST = 15.0  # seconds; slower for longer is no burst of others but another server


class Slump:
    """Remembers when it began, and whether it lasted."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._lasts = False

    @property
    def under_way(self) -> bool:
        return self._began is not None

    def begins(self, now: float) -> None:
        if self._began is None:
            self._began = now

    def has_lasted(self, best: Reading, reading: Reading, tokens: float, now: float) -> bool:
        """Whether the best of before is not to be had any more. True once."""
        if self._began is None or now - self._began < max(_BURST, 3 * reading.mean_latency):
            return False
        self._began = None
        share = min(1.0, reading.in_flight / best.in_flight)
        if reading.rate(tokens) >= 0.9 * share * best.rate(tokens):
            return False
        self._lasts = True
        return True

    def is_over(self) -> bool:
        """Answers are quicker again; whether they had been slow for long."""
        lasted, self._lasts = self._lasts, False
        self._began = None
        return lasted
