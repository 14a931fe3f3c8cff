"""Failures in a row: when they say that the gateway is in trouble, and when that is over."""

from __future__ import annotations

import math

__all__ = ["Failures"]

_IN_A_ROW = 10  # not noise any more
_SHORTEST = 1.0  # seconds between two cuts: failures may come at once


class Failures:
    """Counts failures of requests that were sent since the last cut.

    What was in flight when a connection pool died fails at one instant and is one event, as the
    losses within one round trip are for TCP (NewReno, RFC 6582).
    """

    def __init__(self) -> None:
        self._row = 0
        self._cut_at = -math.inf
        self._before: float | None = None

    def failed(self, sent_at: float, base: float, latency: float, now: float) -> bool:
        """Whether to send half as much now; `latency` is that of an answer, in seconds."""
        if sent_at < self._cut_at:
            return False
        self._row += 1
        if self._row < _IN_A_ROW or now - self._cut_at < max(_SHORTEST, latency):
            return False
        self._row = 0
        self._cut_at = now
        if self._before is None:
            self._before = base
        return True

    def answered(self, sent_at: float) -> float | None:
        """What may be sent again when this answer ends the trouble: half of what was."""
        self._row = 0
        if self._before is None or sent_at < self._cut_at:
            return None
        before, self._before = self._before, None
        return before / 2
