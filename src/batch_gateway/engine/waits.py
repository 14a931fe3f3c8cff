"""What the lines of a run wait for at their gateways: outages and rate limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from batch_gateway.client.interfaces.instrumentation import (
    BreakerChanged,
    Observer,
    RateLimitWaited,
)
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.engine.figures import Figures

__all__ = ["TellOfOutage", "Waits"]

TellOfOutage = Callable[[str, float | None], object]
"""Called with a gateway's name when it is down, and with the seconds that took when it is back."""

# Blips are nobody's business: a replica that restarts, a probe that succeeds at once.
_WORTH_TELLING_SECONDS = 1.0


class _Outage(NamedTuple):
    since: float
    telling: asyncio.Task[None]


class Waits(Observer):
    """An observer that counts outages and waits for rate limits into `figures`.

    It hears of no request, so that a run with it costs what one without does. An outage is told,
    and counted, once it has lasted for a second.
    """

    def __init__(self, figures: Figures, tell: TellOfOutage, clock: Clock = SYSTEM_CLOCK) -> None:
        self._figures = figures
        self._tell = tell
        self._clock = clock
        self._down: dict[str, _Outage] = {}

    def is_down(self) -> bool:
        """Whether a gateway is down just now."""
        return bool(self._down)

    def rate_limit_waited(self, event: RateLimitWaited) -> None:
        self._figures.rate_limited += 1
        self._figures.rate_limit_seconds += event.seconds

    def breaker_changed(self, event: BreakerChanged) -> None:
        name = event.gateway
        if event.state != "closed":
            if name not in self._down:
                telling = asyncio.ensure_future(self._tell_soon(name))
                self._down[name] = _Outage(self._clock.monotonic(), telling)
        elif (lasted := self._end(name)) is not None:
            self._tell(name, lasted)

    async def _tell_soon(self, gateway: str) -> None:
        await self._clock.sleep(_WORTH_TELLING_SECONDS)
        self._figures.outages += 1
        self._tell(gateway, None)

    def _end(self, gateway: str) -> float | None:
        """How long it was down; None where that was not worth telling."""
        outage = self._down.pop(gateway, None)
        if outage is None or not outage.telling.done():
            if outage is not None:
                outage.telling.cancel()
            return None
        lasted = self._clock.monotonic() - outage.since
        self._figures.outage_seconds += lasted
        return lasted

    def close(self) -> None:
        """Nothing more is told; an outage that goes on has lasted until now."""
        for gateway in list(self._down):
            self._end(gateway)
