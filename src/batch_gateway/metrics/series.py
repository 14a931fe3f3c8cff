"""Counting what happens, by labels whose number is bounded; no monitoring library needed."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import astuple

from batch_gateway.client.interfaces.instrumentation import RequestFinished, printable_name
from batch_gateway.histogram import Histogram
from batch_gateway.wire.usage import Usage

__all__ = [
    "DURATION_BUCKETS",
    "FIRST_TOKEN_BUCKETS",
    "OTHER",
    "SIZE_BUCKETS",
    "WAIT_BUCKETS",
    "BoundedLabels",
    "RequestSeries",
]

OTHER = "other"
_LONGEST_NAME = 200

# From an embedding on an idle GPU to a long generation that waited in a queue, in seconds.
# Steps of two thirds at most, so that a quantile between two of them is not far off.
DURATION_BUCKETS = (
    0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 450.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0,
)  # fmt: skip
FIRST_TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0,
    60.0, 120.0, 300.0,
)  # fmt: skip
WAIT_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class RequestSeries:
    """The requests of one gateway, model and endpoint.

    Attributes:
        outcomes: requests by (outcome, code of the error).
        cut_off: answers that are not whole, by reason.
        usage: tokens of the answers.
    """

    __slots__ = ("cut_off", "duration", "first_token", "outcomes", "usage")

    def __init__(self) -> None:
        self.outcomes = Counter[tuple[str, str]]()
        self.cut_off = Counter[str]()
        self.usage = Usage()
        self.duration = Histogram(DURATION_BUCKETS)
        self.first_token: Histogram | None = None

    def add(self, event: RequestFinished) -> None:
        error, response = event.error, event.response
        self.outcomes[event.outcome, "" if error is None else event.code] += 1
        self.duration.add(event.duration)
        if response is None:
            return
        if response.cut_off is not None:
            self.cut_off[response.cut_off] += 1
        if (usage := event.usage) is not None:
            self.usage += usage
        first_token = response.time_to_first_token
        if first_token is not None:
            if self.first_token is None:
                self.first_token = Histogram(FIRST_TOKEN_BUCKETS)
            self.first_token.add(first_token)

    def tokens(self) -> dict[str, int]:
        """Input and output, and of these cached and reasoning; only kinds that there were."""
        counts = zip(("input", "output", "cached", "reasoning"), astuple(self.usage), strict=True)
        return {kind: count for kind, count in counts if count}


class BoundedLabels:
    """The first `limit` distinct values keep their names; all others share "other".

    A name is cut where it is long, and what cannot be printed in it is replaced: one odd name
    must not cost a whole scrape.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        value = printable_name(value, _LONGEST_NAME)
        if value not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(value)
        return value
