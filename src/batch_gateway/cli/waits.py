"""What a run had to wait for: gateways that were down, and limits of requests and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.durations import format_duration

__all__ = ["Waits"]


class Waits(msgspec.Struct):
    """Counts of one run.

    Attributes:
        outages, outage_seconds: how often a gateway was down for a second or more, and how long
            that was in all.
        rate_limited, rate_limit_seconds: sendings that waited for a limit, and how long in all.
    """

    outages: int = 0
    outage_seconds: float = 0.0
    rate_limited: int = 0
    rate_limit_seconds: float = 0.0

    def was_down(self, seconds: float) -> None:
        self.outages += 1
        self.outage_seconds += seconds

    def take_limits(self, clients: Sequence[HTTPInferenceClient]) -> None:
        """What the clients waited for their limits."""
        self.rate_limited = sum(client.events.rate_limit_waits for client in clients)
        self.rate_limit_seconds = sum(client.events.rate_limit_seconds for client in clients)

    def rows(self) -> Iterator[tuple[str, str]]:
        """For the summary; nothing where nothing was waited for."""
        if self.outages:
            times = "once" if self.outages == 1 else f"{self.outages:,} times"
            yield "down", f"{times}, for {format_duration(self.outage_seconds)}"
        if self.rate_limited:
            mean = format_duration(self.rate_limit_seconds / self.rate_limited)
            yield "limits", f"{self.rate_limited:,} sendings waited for theirs, {mean} on average"

    def as_json(self) -> dict[str, Any]:
        return {
            "outages": self.outages,
            "outage_seconds": round(self.outage_seconds, 3),
            "rate_limited": self.rate_limited,
            "rate_limit_wait_seconds": round(self.rate_limit_seconds, 3),
        }
