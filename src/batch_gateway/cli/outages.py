"""Telling a person why nothing moves: a gateway is down and the run waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isinf

from batch_gateway.client.circuit_breaker import BreakerState
from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.clock import Clock
from batch_gateway.durations import format_duration, seconds

__all__ = ["tell_of_outages"]

_LOOK_SECONDS = 0.25
# Blips are nobody's business: a replica that restarts, a probe that succeeds at once.
_WORTH_TELLING_SECONDS = 1.0


async def tell_of_outages(
    clients: Sequence[HTTPInferenceClient], note: Callable[[str], None], clock: Clock
) -> None:
    """Say when a gateway goes down and when it is back, until cancelled."""
    down_since: dict[HTTPInferenceClient, float] = {}
    told: set[HTTPInferenceClient] = set()
    while True:
        now = clock.monotonic()
        for client in clients:
            if client.events.breaker_state in (None, BreakerState.CLOSED):
                began = down_since.pop(client, now)
                if client in told:
                    told.discard(client)
                    lasted = format_duration(now - began)
                    note(f"{client.events.gateway} is back after {lasted}")
                continue
            began = down_since.setdefault(client, now)
            if client not in told and now - began >= _WORTH_TELLING_SECONDS:
                told.add(client)
                note(f"{client.events.gateway} is failing; {_patience(client)}")
        await clock.sleep(_LOOK_SECONDS)


def _patience(client: HTTPInferenceClient) -> str:
    breaker = client.config.circuit_breaker
    if breaker is None or isinf(seconds(breaker.patience)):
        return "waiting for it"
    return f"waiting up to {format_duration(seconds(breaker.patience))} for it"
