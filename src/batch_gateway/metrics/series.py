"""Counting what happens, by labels whose number is bounded; no monitoring library needed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from batch_gateway.client.interfaces.instrumentation import RequestFinished, printable_name

__all__ = [
    "DURATION_BUCKETS",
    "FIRST_TOKEN_BUCKETS",
    "OTHER",
    "SIZE_BUCKETS",
    "WAIT_BUCKETS",
    "BoundedLabels",
    "Histogram",
    "RequestSeries",
]

OTHER = "other"
_LONGEST_NAME = 200

# From an embedding on an idle GPU to a long generation that waited in a queue, in seconds.
DURATION_BUCKETS = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0, 1800.0, 3600.0,
)  # fmt: skip
FIRST_TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0,
    60.0, 120.0, 300.0,
)  # fmt: skip
WAIT_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Values sorted into buckets, each up to and including its bound; the last has none."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, values up to it) of each bucket, in Prometheus' words."""
        names = [*map(repr, map(float, self.bounds)), "+Inf"]
        return list(zip(names, accumulate(list(self.counts)), strict=True))


class RequestSeries:
    """The requests of one gateway, model and endpoint.

    Attributes:
        outcomes: requests by (outcome, code of the error).
        cut_off: answers that are not whole, by reason.
    """

    __slots__ = (
        "_cached",
        "_input",
        "_output",
        "_reasoning",
        "cut_off",
        "duration",
        "first_token",
        "outcomes",
    )

    def __init__(self) -> None:
        self.outcomes = Counter[tuple[str, str]]()
        self.cut_off = Counter[str]()
        self._input = self._output = self._cached = self._reasoning = 0
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
        usage = event.usage
        if usage is not None:
            self._input += usage.input_tokens
            self._output += usage.output_tokens
            self._cached += usage.cached_tokens
            self._reasoning += usage.reasoning_tokens
        first_token = response.time_to_first_token
        if first_token is not None:
            if self.first_token is None:
                self.first_token = Histogram(FIRST_TOKEN_BUCKETS)
            self.first_token.add(first_token)

    def tokens(self) -> dict[str, int]:
        """Input and output, and of these cached and reasoning; only kinds that there were."""
        counts = {
            "input": self._input,
            "output": self._output,
            "cached": self._cached,
            "reasoning": self._reasoning,
        }
        return {kind: count for kind, count in counts.items() if count}


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
