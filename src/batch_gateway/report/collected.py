"""What a report shows of requests that have ended: their course, totals and slowest ones.

Its size does not depend on how many requests there were.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.errors import InferenceError
from batch_gateway.report.distributions import Distributions
from batch_gateway.report.timeline import Timeline, Totals

__all__ = ["MOST_SLOW", "OTHERS", "Collected", "Line", "LineOf", "SlowRequest"]

MOST_SLOW = 20
_MAX_NAMES = 100
OTHERS = "(all others)"


class Line(msgspec.Struct, frozen=True):
    """Where a request came from: its number in the input, from 1, and its `custom_id`."""

    number: int
    custom_id: str


LineOf = Callable[[str], Line | None]
"""From the id of a request to its line, or None when that cannot be told."""


class SlowRequest(msgspec.Struct, frozen=True):
    """One of the slowest, successful or not. `duration` and the rest are in seconds."""

    request_id: str
    model: str
    outcome: str
    duration: float
    attempts: int
    time_to_first_token: float | None
    output_tokens: int
    line: Line | None = None


class Collected:
    """Requests as they ended, from when this was made.

    Attributes:
        timeline: the course.
        totals: by gateway and model; past a hundred pairs, the others of a gateway share `OTHERS`.
        distributions: of the answers, be they of whatever gateway and model.
        retries: attempts that were to be repeated, by reason.
        cache: look-ups by result.
        cancelled: requests that were given up under way.
        seconds: that it is about, once it is over.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._slowest: list[tuple[float, int, SlowRequest]] = []
        self._numbers = count()
        self.timeline = Timeline(clock.monotonic())
        self.totals: dict[tuple[str, str], Totals] = {}
        self.distributions = Distributions()
        self.retries: Counter[str] = Counter()
        self.cache: Counter[str] = Counter()
        self.cancelled = 0
        self.seconds: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since it was made, or that it is about where that is over."""
        return self.seconds or self._clock.monotonic() - self.timeline.start

    def by_model(self) -> dict[str, Totals]:
        return _merged((model, totals) for (_, model), totals in self.totals.items())

    def by_gateway(self) -> dict[str, Totals]:
        return _merged((gateway, totals) for (gateway, _), totals in self.totals.items())

    def total(self) -> Totals:
        """Of everything together."""
        return sum(self.totals.values(), Totals())

    def slowest(self) -> list[SlowRequest]:
        """The slowest first."""
        return [request for _, _, request in sorted(self._slowest, reverse=True)]

    def add(
        self,
        gateway: str,
        model: str,
        request_id: str,
        answer: InferenceResponse | InferenceError,
        seconds: float,
        *,
        line_of: LineOf | None = None,
    ) -> None:
        """A request has ended with `answer` after so many seconds.

        `line_of` says where it came from, if it turns out to be one of the slowest.
        """
        self.timeline.at(self._clock.monotonic()).count(answer, seconds)
        self._totals_of(gateway, model).count(answer, seconds)
        if isinstance(answer, InferenceResponse):
            self.distributions.count(answer, seconds)
        if len(self._slowest) < MOST_SLOW or seconds > self._slowest[0][0]:
            line = None if line_of is None else line_of(request_id)
            self.keep(_slow(model, request_id, answer, seconds, line))

    def keep(self, slow: SlowRequest) -> None:
        """It may be one of the slowest."""
        entry = (slow.duration, next(self._numbers), slow)
        if len(self._slowest) < MOST_SLOW:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heappushpop(self._slowest, entry)

    def _totals_of(self, gateway: str, model: str) -> Totals:
        known = self.totals.get((gateway, model))
        if known is None:
            model = model if len(self.totals) < _MAX_NAMES else OTHERS
            known = self.totals.setdefault((gateway, model), Totals())
        return known


def _slow(
    model: str,
    request_id: str,
    answer: InferenceResponse | InferenceError,
    seconds: float,
    line: Line | None,
) -> SlowRequest:
    if not isinstance(answer, InferenceResponse):
        category = answer.category.value
        return SlowRequest(request_id, model, category, seconds, answer.attempts, None, 0, line)
    usage = answer.usage if answer.attempts else None
    return SlowRequest(
        request_id,
        model,
        "ok",
        seconds,
        answer.attempts,
        answer.time_to_first_token,
        0 if usage is None else usage.output_tokens,
        line,
    )


def _merged(parts: Iterable[tuple[str, Totals]]) -> dict[str, Totals]:
    merged: dict[str, Totals] = {}
    for name, totals in parts:
        merged[name] = merged.get(name, Totals()) + totals
    return merged
