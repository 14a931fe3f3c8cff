"""A run's course in a bounded number of time slices, which grow wider as it lasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Self

import msgspec

from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.engine.figures import Additive
from batch_gateway.histogram import DURATIONS, Histogram
from batch_gateway.wire.usage import Usage

__all__ = ["MAX_SLICES", "HeldBy", "Slice", "Timeline", "Totals", "coarser"]

MAX_SLICES = 120
_FIRST_WIDTH = 0.1


class HeldBy(msgspec.Struct, frozen=True):
    """Samples in which one reason held requests back, and the last limit and figure of it."""

    samples: int
    limit: int
    why: Why

    def __add__(self, later: HeldBy) -> HeldBy:
        return HeldBy(self.samples + later.samples, later.limit, later.why)


class Totals(Additive):
    """What some requests came to. `latencies` are of those that succeeded."""

    succeeded: int = 0
    failed: int = 0
    usage: Usage = Usage()
    latencies: Histogram = msgspec.field(default_factory=lambda: Histogram(DURATIONS))

    def include(self, other: Totals) -> None:
        """`other` is of more of them."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.usage += other.usage
        self.latencies += other.latencies


class Slice(Totals):
    """What happened in one stretch of time.

    Attributes:
        retries: attempts that failed and were to be repeated.
        samples: how often the next ones were looked at.
        in_flight: requests at the gateways, summed over the samples.
        limit: how many there might be, summed likewise; 0 while nothing limits them.
        knee, knee_samples: the limit where more would have brought nothing, summed over the
            samples in which that was so of every gateway.
        held_by: what held requests back, by gateway and reason.
        paused: samples in which a circuit breaker was not closed.
        peak: most requests in flight in any sample.
    """

    retries: int = 0
    samples: int = 0
    in_flight: int = 0
    limit: int = 0
    knee: int = 0
    knee_samples: int = 0
    held_by: dict[tuple[str, Reason], HeldBy] = msgspec.field(
        default_factory=dict[tuple[str, Reason], HeldBy]
    )
    paused: int = 0
    peak: int = 0

    def __add__(self, other: Self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        both = super().__add__(other)
        both.peak = max(self.peak, other.peak)
        return both

    def hold(self, gateway: str, limit: int, why: Why) -> None:
        """`why` held requests to `gateway` back in one sample more."""
        key, held = (gateway, why.reason), HeldBy(1, limit, why)
        known = self.held_by.get(key)
        self.held_by[key] = held if known is None else known + held

    def mean_in_flight(self) -> float | None:
        return self.in_flight / self.samples if self.samples else None

    def mean_limit(self) -> float | None:
        return self.limit / self.samples if self.limit else None

    def mean_knee(self) -> float | None:
        return self.knee / self.knee_samples if self.knee_samples else None

    def held_at(self, gateway: str) -> HeldBy | None:
        """What held requests to it back most of the time; None if nothing did half of the time."""
        found = [held for (name, _), held in self.held_by.items() if name == gateway]
        if not found or 2 * sum(held.samples for held in found) < self.samples:
            return None
        return max(found, key=lambda held: held.samples)


class Timeline:
    """At most `MAX_SLICES` slices of equal width; full, each two neighbours become one.

    Attributes:
        start: seconds on the caller's clock at which the first slice begins.
        width: seconds a slice.
        slices: from the first to the last one touched.
    """

    def __init__(self, start: float) -> None:
        self.start = start
        self.width = _FIRST_WIDTH
        self.slices: list[Slice] = []
        self._current = Slice()
        self._from = self._to = math.inf

    def at(self, now: float) -> Slice:
        """The slice of that moment; a moment before the start counts as the start."""
        if self._from <= now < self._to:
            return self._current
        self._current = self._find(now)
        last = len(self.slices) - 1
        if self._current is self.slices[last]:
            self._from = self.start + last * self.width
            self._to = self._from + self.width
        else:
            self._from = self._to = math.inf
        return self._current

    def _find(self, now: float) -> Slice:
        index = max(0, int((now - self.start) / self.width))
        while index >= MAX_SLICES:
            self._coarsen()
            index //= 2
        while len(self.slices) <= index:
            self.slices.append(Slice())
        return self.slices[index]

    def at_most(self, slices: int) -> Timeline:
        """The same course in no more than so many slices."""
        few = Timeline(self.start)
        few.width, few.slices = self.width, self.slices
        while len(few.slices) > slices:
            few._coarsen()
        return few

    def _coarsen(self) -> None:
        self._from = self._to = math.inf
        self.width *= 2
        self.slices = coarser(self.slices)


def coarser(slices: Sequence[Slice]) -> list[Slice]:
    """Each two neighbours as one."""
    pairs = zip_longest(slices[::2], slices[1::2], fillvalue=Slice())
    return [first + second for first, second in pairs]
