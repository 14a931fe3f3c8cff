"""Why no more is sent at a time, for who watches a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.telling import ConcurrencyStatistics

__all__ = ["GatewayPace", "Pace", "PaceNotes", "PaceWatch", "paces_of"]

# In a run that is held somebody waits nearly always; a moment when nobody does is no change.
_REMEMBERED = 2.0
# What holds for less is none of the business of who reads a log afterwards.
_WORTH_A_LINE = 10.0
_MUCH = 1.25


class GatewayPace(NamedTuple):
    """How many may be under way at one gateway, and why no more."""

    gateway: str
    figures: ConcurrencyStatistics


class Pace(NamedTuple):
    """What is shown of one gateway at one moment of a run.

    Attributes:
        gateway: empty where it is the only one.
        held: seconds for which this has been the reason.
    """

    gateway: str
    limit: int
    why: Why
    held: float = 0.0

    @property
    def words(self) -> str:
        sentence = self.why.sentence(self.limit)
        return f"{self.gateway}: {sentence}" if self.gateway else sentence

    def as_json(self) -> dict[str, Any]:
        named = {"gateway": self.gateway} if self.gateway else {}
        figure = {"figure": round(self.why.figure, 3)} if self.why.figure else {}
        return {**named, "limit": self.limit, "reason": self.why.reason.value, **figure}


def paces_of(clients: Sequence[HTTPInferenceClient]) -> tuple[GatewayPace, ...]:
    """Those of the gateways at which something limits how many there are."""
    found = ((one.events.gateway, one.concurrency_statistics) for one in clients)
    return tuple(GatewayPace(name, figures) for name, figures in found if figures is not None)


class PaceWatch:
    """Follows what makes lines wait for their turn, look by look."""

    def __init__(self) -> None:
        self._waited: dict[str, float] = {}
        self._since: dict[str, tuple[Reason, float]] = {}

    def look(self, paces: Sequence[GatewayPace], now: float) -> tuple[Pace, ...]:
        """Those of gateways at which lines wait, or have a moment ago."""
        found = (self._look(one, now, alone=len(paces) == 1) for one in paces)
        return tuple(pace for pace in found if pace is not None)

    def _look(self, one: GatewayPace, now: float, *, alone: bool) -> Pace | None:
        name, figures = one
        why = figures.why
        if why is None:
            return None
        reason, since = self._since.get(name, (why.reason, now))
        if reason is not why.reason:
            since = now
        self._since[name] = why.reason, since
        # Whoever was refused waits elsewhere until it may be sent again.
        if figures.waiting or why.reason is Reason.SHUT:
            self._waited[name] = now
        if now - self._waited.get(name, -math.inf) >= _REMEMBERED:
            return None
        return Pace("" if alone else name, figures.limit, why, now - since)


class PaceNotes:
    """Chooses which of them are worth a line that stays."""

    def __init__(self) -> None:
        self._noted: dict[str, Pace] = {}

    def new(self, paces: Sequence[Pace]) -> list[str]:
        """The words of those that have held for a while and have not been said."""
        news: list[str] = []
        for pace in paces:
            known = self._noted.get(pace.gateway)
            if pace.held >= _WORTH_A_LINE and (known is None or _is_another(known, pace)):
                self._noted[pace.gateway] = pace
                news.append(pace.words)
        return news


def _is_another(known: Pace, pace: Pace) -> bool:
    reason = pace.why.reason
    if known.why.reason is not reason:
        return True
    if reason is Reason.SHUT:
        return False
    numbers = known.limit, pace.limit
    if reason is Reason.PACE:
        numbers = known.why.figure, pace.why.figure
    low, high = sorted(max(1e-9, number) for number in numbers)
    return high >= _MUCH * low
