"""How much is at the gateways at a moment, how much may be, and what holds more back."""

from __future__ import annotations

from collections.abc import Iterable

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.concurrency.reasons import Reason
from batch_gateway.report.timeline import Slice

__all__ = ["sample"]

_AT_THE_KNEE = frozenset({Reason.KNEE, Reason.QUEUE})


def sample(present: Slice, gateways: Iterable[GatewayEvents], most: float = float("inf")) -> None:
    """Look once. `most` is how many requests are one's own, at the gateways or before them."""
    in_flight = limit = 0
    paused, at_the_knee = False, True
    for events in gateways:
        in_flight += events.attempts_in_flight
        limit += events.limit or 0
        paused = paused or events.breaker_state not in (None, "closed")
        at_the_knee = _look_at_pace(events, present) and at_the_knee
    in_flight = int(min(in_flight, most))
    present.samples += 1
    present.in_flight += in_flight
    present.limit += limit
    present.paused += paused
    present.peak = max(present.peak, in_flight)
    if limit and at_the_knee:
        present.knee += limit
        present.knee_samples += 1


def _look_at_pace(events: GatewayEvents, present: Slice) -> bool:
    """Note what holds requests back. Whether more of them would bring nothing."""
    figures = None if events.concurrency is None else events.concurrency()
    if figures is None or figures.why is None:
        return False
    # Whoever was refused waits elsewhere until it may be sent again.
    if figures.waiting or figures.why.reason is Reason.SHUT:
        present.hold(events.gateway, figures.limit, figures.why)
    return figures.why.reason in _AT_THE_KNEE
