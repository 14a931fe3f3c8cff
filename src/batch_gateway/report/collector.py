"""Listens to clients during a run and keeps what its report shows, in bounded memory."""

from __future__ import annotations

from batch_gateway.client.interfaces.instrumentation import (
    CacheLookedUp,
    GatewayEvents,
    Observer,
    RequestFinished,
    RetryScheduled,
)
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.report.collected import Collected
from batch_gateway.report.gateway_samples import sample

__all__ = ["RunCollector"]

_LONGEST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.02


class RunCollector(Collected, Observer):
    """An observer that keeps a run's course, distributions, totals by model and slowest requests.

    `follow` looks at what is in flight from time to time, until cancelled.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(clock)
        self._events: list[GatewayEvents] = []

    async def follow(self) -> None:
        """Look at what is in flight, until cancelled."""
        while True:
            self.sample()
            pause = self.timeline.width / 5
            await self._clock.sleep(min(max(pause, _SHORTEST_PAUSE), _LONGEST_PAUSE))

    def sample(self) -> None:
        """Look at what is in flight once."""
        sample(self.timeline.at(self._clock.monotonic()), self._events)

    def attached(self, events: GatewayEvents) -> None:
        self._events.append(events)

    def request_finished(self, event: RequestFinished) -> None:
        started, answer = event.started, event.response or event.error
        if answer is None:
            self.cancelled += 1
        else:
            self.add(started.gateway, started.model, started.request_id, answer, event.duration)

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self.retries[event.reason] += 1
        self.timeline.at(self._clock.monotonic()).retries += 1

    def cache_looked_up(self, event: CacheLookedUp) -> None:
        self.cache[event.result] += 1
