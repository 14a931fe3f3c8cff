"""The product's own controller, or another like it, as a policy of the simulated worlds."""

from __future__ import annotations

from typing import Any

from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.server_load import Load, ServerLoad, Standing
from benchmarks.worlds.policy import Policy

__all__ = ["Ours", "OursWithMetrics"]


class Ours(Policy):
    """A pure controller, fed with the simulation's time; the product's own without another."""

    name = "adaptive"
    holds_in_backoff = False

    def __init__(self, controller: Any = None, *, sees_first_token: bool = False) -> None:
        self.controller = controller or AdaptiveController(AdaptiveConcurrency())
        self.sees_first_token = sees_first_token

    @property
    def limit(self) -> int:  # type: ignore[override]
        return getattr(self.controller, "allowed_now", self.controller.limit)

    @property
    def in_flight(self) -> int:  # type: ignore[override]
        return self.controller.in_flight

    @property
    def paused_until(self) -> float:  # type: ignore[override]
        return self.controller.paused_until

    def started(self, now: float) -> Started:
        return self.controller.started(now)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self.controller.finished(started, ended, now)

    def first_token(
        self, started: Started, seconds: float, now: float, heard_after: float = 0.0
    ) -> None:
        self.controller.first_token(started, seconds, now, heard_after)


class OursWithMetrics(Ours):
    """The same, told once a second what runs and waits at the server."""

    name = "adaptive, with metrics"
    looks_every = 1.0

    def __init__(self, controller: Any = None) -> None:
        super().__init__(controller)
        self._server = ServerLoad()
        self._answered = 0

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        self._answered += ended.outcome is Outcome.OK

    def looked(self, load: Load, now: float) -> None:
        ours = Standing(self.in_flight, self.limit, self._answered)
        self.controller.advise(self._server.advice(load, ours, now), now)
