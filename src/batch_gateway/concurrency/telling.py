"""What is told of a limit: which changes of its reason, and how long each reason kept waiting."""

from __future__ import annotations

import math
from typing import NamedTuple

from batch_gateway.concurrency.reasons import Reason, Why

__all__ = ["ConcurrencyStatistics", "HeldReason", "ReasonTimes", "Telling"]

# A reason that is gone again sooner than anybody reads is not worth a line.
_LASTS = 1.0
# Figures are estimates that creep all the time; whoever reads them cares for a tenth at least.
_MUCH = 1.1
# Shorter pauses are how a gateway that refuses everything is tried, and follow each other.
_LONG_PAUSE = 5.0


class HeldReason(NamedTuple):
    """A reason that kept attempts waiting for so many seconds in all.

    Attributes:
        why, limit: the last figure of that reason, and the last limit that it held.
    """

    why: Why
    limit: int
    seconds: float

    def share_of(self, seconds: float) -> float:
        """Of a run that took so many seconds, from 0 to 1."""
        return min(1.0, self.seconds / seconds) if seconds > 0 else 0.0


class ConcurrencyStatistics(NamedTuple):
    """Attempts allowed, under way, and waiting for a permit; and why no more are allowed.

    Attributes:
        why: what holds the limit where it is; None where nothing is found out, as with a fixed
            number.
        held: for how long each reason kept attempts waiting, the longest first.
    """

    limit: int
    in_flight: int
    waiting: int
    why: Why | None = None
    held: tuple[HeldReason, ...] = ()


class Telling:
    """Decides which changes of the reason are told. No clock: the caller says what time it is.

    A new reason is told at once where the one before it had lasted, and otherwise when it has
    lasted itself, or the one that was told has not been seen for as long: two that flicker are
    told once. A figure is told when it has moved by a tenth.

    Attributes:
        pending: something has changed that may be told later.
    """

    def __init__(self) -> None:
        self.pending = False
        self._told: Why | None = None
        self._told_at = self._since = self._seen_at = -math.inf
        self._present: Reason | None = None
        self._lasted_before = True

    def is_news(self, why: Why | None, now: float) -> bool:
        """Whether to tell `why`, which holds just now; it counts as told then."""
        reason = why and why.reason
        if self._told is not None and self._present is self._told.reason:
            self._seen_at = now
        if reason is not self._present:
            self._lasted_before = now - self._since >= _LASTS
            self._present, self._since = reason, now
        self.pending = _differs(self._told, why)
        if not self.pending or not self._may_tell(why, now):
            return False
        self.pending = False
        self._told, self._told_at = why, now
        return True

    def _may_tell(self, why: Why | None, now: float) -> bool:
        if self._told and why and self._told.reason is why.reason:
            return now - self._told_at >= _LASTS
        # While nothing is accepted there may be no later moment to tell it.
        is_shut = why is not None and why.reason is Reason.SHUT
        lasts = now - max(self._since, self._told_at) >= _LASTS
        is_gone = now - max(self._seen_at, self._told_at) >= _LASTS
        return is_shut or self._lasted_before or lasts or is_gone


def _differs(told: Why | None, why: Why | None) -> bool:
    if told is None or why is None or told.reason is not why.reason:
        return told is not why
    least = _LONG_PAUSE if why.reason is Reason.SHUT else 1e-9
    low, high = sorted((max(least, told.figure), max(least, why.figure)))
    return high >= _MUCH * low


class ReasonTimes:
    """For how long each reason kept requests waiting. No clock: the caller says what time it is.

    Attributes:
        waited_for: whether anybody waits just now.
    """

    def __init__(self) -> None:
        self.waited_for = False
        self._why: Why | None = None
        self._limit = 0
        self._since = 0.0
        self._tried_at = 0.0
        self._seconds: dict[Reason, HeldReason] = {}

    def hold(self, why: Why | None, limit: int, now: float) -> None:
        """From now on this is the reason, and the limit that it holds."""
        self._count(now)
        self._why, self._limit = why, limit
        self._tried_at = now
        if why is not None and why.reason is Reason.SHUT:
            self._tried_at += why.figure

    def wait(self, now: float) -> None:
        """From now on somebody waits."""
        self._count(now)
        self.waited_for = True

    def flow(self, now: float) -> None:
        """From now on nobody waits."""
        self._count(now)
        self.waited_for = False

    def held(self, now: float) -> tuple[HeldReason, ...]:
        """Those that kept anybody waiting, the longest first."""
        return tuple(sorted(self._until(now).values(), key=lambda one: -one.seconds))

    def _count(self, now: float) -> None:
        self._seconds = self._until(now)
        self._since = now

    def _until(self, now: float) -> dict[Reason, HeldReason]:
        why, known = self._why, self._seconds
        # What was refused waits elsewhere until it may be sent again, and then maybe for another
        # reason, which is told elsewhere.
        now = now if self.waited_for else min(now, self._tried_at)
        if why is None or now <= self._since:
            return known
        before = known[why.reason].seconds if why.reason in known else 0.0
        return {**known, why.reason: HeldReason(why, self._limit, before + now - self._since)}
