"""What llm-d and GAIE want to know about a request to schedule it: headers of each attempt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import CoroutineType
from typing import Any

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.clock import Clock
from batch_gateway.config_checks import normalise_duration, require_kinds, require_positive
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.http.header_rules import check_headers
from batch_gateway.wire.scheduling_headers import (
    FAIRNESS_ID,
    OBJECTIVE,
    QUEUE_TTL,
    TIME_TO_FIRST_TOKEN,
)

__all__ = ["SchedulingHints", "SchedulingTransport", "hint_headers"]

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class SchedulingHints:
    """Hints for a scheduling gateway. Others ignore the headers.

    Attributes:
        objective: name of an InferenceObjective, which gives the priority; batch work usually
            has a negative one and so is the first to be shed.
        fairness_id: the tenant among whom a gateway shares fairly.
        send_deadline: tell how many milliseconds are left to the request's deadline, if it has
            one, anew on every attempt.
        ttl: how long the gateway may keep a request in its queue. Routers of llm-d of 2026-08 do
            not heed it; a request that was refused for it is not sent again.
    """

    objective: str | None = None
    fairness_id: str | None = None
    send_deadline: bool = True
    ttl: Duration | None = None

    def __post_init__(self) -> None:
        require_kinds(self, "scheduling.")
        if self.ttl is not None:
            normalise_duration(self, "ttl", prefix="scheduling.")
            require_positive("scheduling.ttl", seconds(self.ttl))
        for name, value in (("objective", self.objective), ("fairness_id", self.fairness_id)):
            if value is not None:
                _require_sendable(f"scheduling.{name}", value)

    def fixed_headers(self) -> Pairs:
        """Those that are the same for every attempt."""
        # Under every name that a gateway may know.
        values = ((OBJECTIVE, self.objective), (FAIRNESS_ID, self.fairness_id))
        return tuple((name, value) for names, value in values if value for name in names)


def _require_sendable(field: str, value: str) -> None:
    try:
        check_headers(field, {OBJECTIVE[0]: value})
    except ConfigError as error:
        raise ConfigError(field, error.problem) from error


def hint_headers(hints: SchedulingHints, remaining: float) -> Pairs:
    """The headers of an attempt with `remaining` seconds to its deadline, infinity for none."""
    headers = list(hints.fixed_headers())
    remaining = max(0.0, remaining)
    ttl = seconds(hints.ttl) if hints.ttl is not None else math.inf
    if hints.send_deadline and remaining != math.inf:
        # Never 0: a scheduler would take expired work for the most urgent of all.
        left = str(max(1, int(remaining * 1000)))
        headers += [(name, left) for name in TIME_TO_FIRST_TOKEN]
    if ttl != math.inf:
        headers.append((QUEUE_TTL, f"{max(1, int(min(ttl, remaining) * 1000))}ms"))
    return tuple(headers)


class SchedulingTransport:
    """A layer right above HTTP that adds the hints to every attempt.

    Headers of the request itself win.
    """

    def __init__(self, inner: Transport, hints: SchedulingHints, clock: Clock) -> None:
        self._inner = inner
        self._hints = hints
        self._clock = clock
        self._without_deadline = hint_headers(hints, math.inf)

    def send(self, request: PreparedRequest) -> CoroutineType[Any, Any, InferenceResponse]:
        # The inner layer's own coroutine: one that only waits for it would lengthen every wake-up.
        headers = self._without_deadline
        if request.deadline != math.inf:
            headers = hint_headers(self._hints, request.deadline - self._clock.monotonic())
        if request.headers:
            own = {name.lower() for name, _ in request.headers}
            headers = (*(pair for pair in headers if pair[0] not in own), *request.headers)
        return self._inner.send(msgspec.structs.replace(request, headers=headers))

    async def aclose(self) -> None:
        await self._inner.aclose()
