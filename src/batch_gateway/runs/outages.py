"""Telling a person why nothing moves: a gateway is down and the run waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isinf

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.durations import format_duration, seconds

__all__ = ["OutageNotes", "outage_words"]


class OutageNotes:
    """Puts the outages of `clients` into words for `note`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self.clients: Sequence[HTTPInferenceClient] = ()

    def tell(self, gateway: str, lasted: float | None) -> None:
        client = next(one for one in self.clients if one.events.gateway == gateway)
        self._note(outage_words(client, lasted))


def outage_words(client: HTTPInferenceClient, lasted: float | None) -> str:
    """That a client's gateway is back after so many seconds, or with None that it is down."""
    gateway, breaker = client.events.gateway, client.config.circuit_breaker
    if lasted is not None:
        return f"{gateway} is back after {format_duration(lasted)}"
    patience = inf if breaker is None else seconds(breaker.patience)
    up_to = "" if isinf(patience) else f"up to {format_duration(patience)} "
    said = f": {client.events.last_failure}" if client.events.last_failure else ""
    return f"{gateway} is failing; waiting {up_to}for it{said}"
