"""Telling a person why nothing moves: a gateway is down and the run waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isinf

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.layers.circuit_breaker import BreakerState
from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration, seconds
from batch_gateway.engine.figures import Figures

__all__ = ["tell_of_outages"]

_LOOK_SECONDS = 0.25
# Blips are nobody's business: a replica that restarts, a probe that succeeds at once.
_WORTH_TELLING_SECONDS = 1.0


async def tell_of_outages(
    clients: Sequence[HTTPInferenceClient],
    note: Callable[[str], None],
    clock: Clock,
    figures: Figures,
) -> None:
    """Say when a gateway goes down and when it is back, and count it, until cancelled."""
    watch = _Watch(clients, note, figures)
    try:
        while True:
            watch.look(clock.monotonic())
            await clock.sleep(_LOOK_SECONDS)
    finally:
        watch.end(clock.monotonic())


class _Watch:
    def __init__(
        self,
        clients: Sequence[HTTPInferenceClient],
        note: Callable[[str], None],
        figures: Figures,
    ) -> None:
        self._clients = clients
        self._note = note
        self._figures = figures
        self._down_since: dict[HTTPInferenceClient, float] = {}
        self._told: set[HTTPInferenceClient] = set()

    def look(self, now: float) -> None:
        for client in self._clients:
            if client.events.breaker_state in (None, BreakerState.CLOSED):
                began = self._down_since.pop(client, now)
                if client in self._told:
                    self._told.discard(client)
                    self._count(now - began)
                    lasted = format_duration(now - began)
                    self._note(f"{client.events.gateway} is back after {lasted}")
                continue
            began = self._down_since.setdefault(client, now)
            if client not in self._told and now - began >= _WORTH_TELLING_SECONDS:
                self._told.add(client)
                self._note(f"{client.events.gateway} is failing; {_patience(client)}")

    def end(self, now: float) -> None:
        for client in self._told:
            self._count(now - self._down_since[client])

    def _count(self, seconds: float) -> None:
        self._figures.outages += 1
        self._figures.outage_seconds += seconds


def _patience(client: HTTPInferenceClient) -> str:
    breaker = client.config.circuit_breaker
    if breaker is None or isinf(seconds(breaker.patience)):
        return "waiting for it"
    return f"waiting up to {format_duration(seconds(breaker.patience))} for it"
