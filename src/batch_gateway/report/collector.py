"""Listens to clients during a run and keeps what its report shows, in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from batch_gateway.client.interfaces.instrumentation import (
    CacheLookedUp,
    Coalesced,
    GatewayEvents,
    Observer,
    RateLimitWaited,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.concurrency.reasons import Reason
from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.report.histogram import DurationHistogram, bucket_of
from batch_gateway.report.timeline import Slice, Timeline
from batch_gateway.wire.usage import Usage

__all__ = ["OTHERS", "RunCollector", "SlowRequest", "Totals"]

_OK, _CANCELLED = "ok", "cancelled"
_SLOWEST = 20
_MAX_NAMES = 100
OTHERS = "(all others)"
_AT_THE_KNEE = frozenset({Reason.KNEE, Reason.QUEUE})
_LONGEST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.02


@dataclass(slots=True)
class Totals:
    """What some requests came to. `latencies` are of those that succeeded."""

    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    latencies: DurationHistogram = field(default_factory=DurationHistogram)

    def add_tokens(self, usage: Usage) -> None:
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cached_tokens += usage.cached_tokens
        self.reasoning_tokens += usage.reasoning_tokens

    def merge(self, other: Totals) -> None:
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.latencies.merge(other.latencies)


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
        joined_requests, joint_requests: so many single requests were sent as so many joint ones.
        waited, waits: seconds for which a rate limit held requests back, and how many of them.
        cancelled: requests that were given up under way.
        attempts: sendings of the requests that ended.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._events: list[GatewayEvents] = []
        self._slowest: list[tuple[float, int, SlowRequest]] = []
        self._numbers = count()
        self.timeline = Timeline(clock.monotonic())
        self.totals: dict[tuple[str, str], Totals] = {}
        self.first_tokens = DurationHistogram()
        self.retries: Counter[str] = Counter()
        self.cache: Counter[str] = Counter()
        self.joined_requests = 0
        self.joint_requests = 0
        self.waited = 0.0
        self.waits = 0
        self.cancelled = 0
        self.attempts = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the collector was made."""
        return self._clock.monotonic() - self.timeline.start

    def paces(self) -> list[tuple[str, ConcurrencyStatistics]]:
        """How many might be under way at the end, and for how long what held them, by gateway."""
        return [(one.gateway, one.concurrency()) for one in self._events if one.concurrency]

    def by_model(self) -> dict[str, Totals]:
        return _merged((model, totals) for (_, model), totals in self.totals.items())

    def by_gateway(self) -> dict[str, Totals]:
        return _merged((gateway, totals) for (gateway, _), totals in self.totals.items())

    def total(self) -> Totals:
        """Of everything together."""
        return _merged(("", totals) for totals in self.totals.values()).get("", Totals())

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
        self.attempts += event.attempts
        present = self.timeline.at(self._clock.monotonic())
        totals = self._totals_of(event.started)
        output_tokens = 0
        if event.outcome == _OK:
            duration = event.duration
            bucket = bucket_of(duration)
            present.succeeded += 1
            present.latencies.add_in(bucket, duration)
            totals.succeeded += 1
            totals.latencies.add_in(bucket, duration)
            first_token = event.time_to_first_token
            if first_token is not None:
                self.first_tokens.add(first_token)
            usage = event.usage
            if usage is not None:
                output_tokens = usage.output_tokens
                present.input_tokens += usage.input_tokens
                present.output_tokens += output_tokens
                totals.add_tokens(usage)
        else:
            present.failed += 1
            totals.failed += 1
        if len(self._slowest) < _SLOWEST or event.duration > self._slowest[0][0]:
            self._keep(event, output_tokens)

    def _totals_of(self, started: RequestStarted) -> Totals:
        known = self.totals.get((started.gateway, started.model))
        if known is None:
            model = started.model if len(self.totals) < _MAX_NAMES else OTHERS
            known = self.totals.setdefault((started.gateway, model), Totals())
        return known

    def _keep(self, event: RequestFinished, output_tokens: int) -> None:
        kept = SlowRequest(
            event.started.request_id,
            event.started.model,
            event.outcome,
            event.duration,
            event.attempts,
            event.time_to_first_token,
            output_tokens,
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

    def coalesced(self, event: Coalesced) -> None:
        self.joint_requests += 1
        self.joined_requests += event.size

    def rate_limit_waited(self, event: RateLimitWaited) -> None:
        self.waits += 1
        self.waited += event.seconds


def _merged(parts: Iterable[tuple[str, Totals]]) -> dict[str, Totals]:
    merged: dict[str, Totals] = {}
    for name, totals in parts:
        merged.setdefault(name, Totals()).merge(totals)
    return merged
