"""Listens to clients during a run and keeps what its report shows, in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from batch_gateway.client.interfaces.instrumentation import (
    CacheLookedUp,
    GatewayEvents,
    Observer,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.concurrency.reasons import Reason
from batch_gateway.histogram import DURATIONS, Histogram
from batch_gateway.report.timeline import Slice, Timeline, Totals

__all__ = ["OTHERS", "RunCollector", "SlowRequest"]

_CANCELLED = "cancelled"
_SLOWEST = 20
_MAX_NAMES = 100
OTHERS = "(all others)"
_AT_THE_KNEE = frozenset({Reason.KNEE, Reason.QUEUE})
_LONGEST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class SlowRequest:
    """One of the slowest, successful or not. `duration` and the rest are in seconds."""

    request_id: str
    model: str
    outcome: str
    duration: float
    attempts: int
    time_to_first_token: float | None
    output_tokens: int


class RunCollector(Observer):
    """An observer that keeps a run's course, distributions, totals by model and slowest requests.

    Its size does not depend on how many requests it hears of. `follow` looks at what is in flight
    from time to time, until cancelled.

    Attributes:
        timeline: the course, from when the collector was made.
        totals: by gateway and model; past a hundred pairs, the others of a gateway share `OTHERS`.
        first_tokens: times to the first token, of answers that were streamed.
        retries: attempts that were to be repeated, by reason.
        cache: look-ups by result.
        cancelled: requests that were given up under way.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._events: list[GatewayEvents] = []
        self._slowest: list[tuple[float, int, SlowRequest]] = []
        self._numbers = count()
        self.timeline = Timeline(clock.monotonic())
        self.totals: dict[tuple[str, str], Totals] = {}
        self.first_tokens = Histogram(DURATIONS)
        self.retries: Counter[str] = Counter()
        self.cache: Counter[str] = Counter()
        self.cancelled = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the collector was made."""
        return self._clock.monotonic() - self.timeline.start

    def by_model(self) -> dict[str, Totals]:
        return _merged((model, totals) for (_, model), totals in self.totals.items())

    def by_gateway(self) -> dict[str, Totals]:
        return _merged((gateway, totals) for (gateway, _), totals in self.totals.items())

    def total(self) -> Totals:
        """Of everything together."""
        return sum(self.totals.values(), Totals())

    def slowest(self) -> list[SlowRequest]:
        """The slowest first."""
        return [request for _, _, request in sorted(self._slowest, reverse=True)]

    async def follow(self) -> None:
        """Look at what is in flight, until cancelled."""
        while True:
            self.sample()
            pause = self.timeline.width / 5
            await self._clock.sleep(min(max(pause, _SHORTEST_PAUSE), _LONGEST_PAUSE))

    def sample(self) -> None:
        """Look at what is in flight once."""
        in_flight = limit = 0
        paused, at_the_knee = False, True
        present = self.timeline.at(self._clock.monotonic())
        for events in self._events:
            in_flight += events.attempts_in_flight
            limit += events.limit or 0
            paused = paused or events.breaker_state not in (None, "closed")
            at_the_knee = self._look_at_pace(events, present) and at_the_knee
        present.samples += 1
        present.in_flight += in_flight
        present.limit += limit
        present.paused += paused
        present.peak = max(present.peak, in_flight)
        if limit and at_the_knee:
            present.knee += limit
            present.knee_samples += 1

    def _look_at_pace(self, events: GatewayEvents, present: Slice) -> bool:
        """Note what holds requests back. Whether more of them would bring nothing."""
        figures = None if events.concurrency is None else events.concurrency()
        if figures is None or figures.why is None:
            return False
        # Whoever was refused waits elsewhere until it may be sent again.
        if figures.waiting or figures.why.reason is Reason.SHUT:
            present.hold(events.gateway, figures.limit, figures.why)
        return figures.why.reason in _AT_THE_KNEE

    def attached(self, events: GatewayEvents) -> None:
        self._events.append(events)

    def request_finished(self, event: RequestFinished) -> None:
        if event.outcome == _CANCELLED:
            self.cancelled += 1
            return
        self.timeline.at(self._clock.monotonic()).count(event)
        self._totals_of(event.started).count(event)
        if event.time_to_first_token is not None:
            self.first_tokens.add(event.time_to_first_token)
        if len(self._slowest) < _SLOWEST or event.duration > self._slowest[0][0]:
            self._keep(event)

    def _totals_of(self, started: RequestStarted) -> Totals:
        known = self.totals.get((started.gateway, started.model))
        if known is None:
            model = started.model if len(self.totals) < _MAX_NAMES else OTHERS
            known = self.totals.setdefault((started.gateway, model), Totals())
        return known

    def _keep(self, event: RequestFinished) -> None:
        kept = SlowRequest(
            event.started.request_id,
            event.started.model,
            event.outcome,
            event.duration,
            event.attempts,
            event.time_to_first_token,
            0 if event.usage is None else event.usage.output_tokens,
        )
        entry = (event.duration, next(self._numbers), kept)
        if len(self._slowest) < _SLOWEST:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heapreplace(self._slowest, entry)

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self.retries[event.reason] += 1
        self.timeline.at(self._clock.monotonic()).retries += 1

    def cache_looked_up(self, event: CacheLookedUp) -> None:
        self.cache[event.result] += 1


def _merged(parts: Iterable[tuple[str, Totals]]) -> dict[str, Totals]:
    merged: dict[str, Totals] = {}
    for name, totals in parts:
        merged[name] = merged.get(name, Totals()) + totals
    return merged
