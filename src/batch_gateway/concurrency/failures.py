"""Failures in a row: when they say that the gateway is in trouble, and when that is over."""

from __future__ import annotations

import math

__all__ = ["Failures"]

_IN_A_ROW = 10  # not noise any more


class Failures:
    """Counts failures of requests that were sent since the last cut.

    What was in flight when a connection pool died fails at one instant and is one event, as the
    losses within one round trip are for TCP (NewReno, RFC 6582).
    """

    def __init__(self) -> None:
        self._row = 0
        self._cut_at = -math.inf
        self._before = 0.0  # how many were in flight before the trouble; 0 while there is none

    def failed(self, sent_at: float, number: float, now: float) -> bool:
        """Whether to send half of that number now."""
        if sent_at <= self._cut_at:
            return False
        self._row += 1
        if self._row < _IN_A_ROW:
            return False
        self._row, self._cut_at = 0, now
        self._before = self._before or number
        return True

    def answered(self, sent_at: float) -> float:
        """What may be sent again when this answer ends the trouble: half of what was; else 0."""
        self._row = 0
        if sent_at <= self._cut_at:
            return 0.0
        before, self._before = self._before, 0.0
        return before / 2
