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
from batch_gateway.report.ended_requests import EndedRequests
from batch_gateway.report.timeline import Slice, Timeline, Totals

__all__ = ["MOST_SLOW", "OTHERS", "Collected", "Line", "LineOf", "SlowRequest", "TellOfTotals"]

MOST_SLOW = 20
_MAX_NAMES = 100
OTHERS = "(all others)"
# Beside their answers, of which nothing is kept, these take some hundred kilobytes.
_MOST_UNCOUNTED = 1_000


class Line(msgspec.Struct, frozen=True):
    """Where a request came from: its number in the input, from 1, and its `custom_id`."""

    number: int
    custom_id: str


LineOf = Callable[[str], Line | None]
"""From the id of a request to its line, or None when that cannot be told."""


TellOfTotals = Callable[[str, Totals], None]
"""Called with a model and what some more requests to it came to."""


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

    They are counted many at a time, at the latest when somebody asks: counting each by itself took
    a tenth of the CPU of a batch. `tell` hears of what was counted.

    Attributes:
        retries: attempts that were to be repeated, by reason.
        cache: look-ups by result.
        cancelled: requests that were given up under way.
        seconds: that it is about, once it is over.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, tell: TellOfTotals | None = None) -> None:
        self._clock, self._tell = clock, tell
        self._slowest: list[tuple[float, int, SlowRequest]] = []
        self._numbers = count()
        self._timeline = Timeline(clock.monotonic())
        self._totals: dict[tuple[str, str], Totals] = {}
        self._distributions = Distributions()
        # Those of one slice of the timeline, which may have become a wider one by now.
        self._uncounted: dict[tuple[str, str], EndedRequests] = {}
        self._present: Slice | None = None
        self._ended_at, self._left = 0.0, _MOST_UNCOUNTED
        self.retries: Counter[str] = Counter()
        self.cache: Counter[str] = Counter()
        self.cancelled = 0
        self.seconds: float | None = None

    @property
    def timeline(self) -> Timeline:
        """The course."""
        self._count()
        return self._timeline

    @property
    def totals(self) -> dict[tuple[str, str], Totals]:
        """By gateway and model; past a hundred pairs, the others of a gateway share `OTHERS`."""
        self._count()
        return self._totals

    @property
    def distributions(self) -> Distributions:
        """Of the answers, be they of whatever gateway and model."""
        self._count()
        return self._distributions

    @property
    def elapsed(self) -> float:
        """Seconds since it was made, or that it is about where that is over."""
        return self.seconds or self._clock.monotonic() - self._timeline.start

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
        now = self._clock.monotonic()
        if (present := self._timeline.at(now)) is not self._present or not self._left:
            self._count()
            self._present, self._ended_at = present, now
        self._left -= 1
        ended = self._uncounted.get((gateway, model))
        if ended is None:
            ended = self._uncounted[gateway, model] = EndedRequests()
        ended.add(answer, seconds)
        if len(self._slowest) < MOST_SLOW or seconds > self._slowest[0][0]:
            line = None if line_of is None else line_of(request_id)
            self.keep(_slow(model, request_id, answer, seconds, line))

    def _count(self) -> None:
        """Count those that were not counted yet."""
        if not self._uncounted:
            return
        ended, self._uncounted = self._uncounted, {}
        self._present, self._left = None, _MOST_UNCOUNTED
        present = self._timeline.at(self._ended_at)
        for (gateway, model), requests in ended.items():
            found = requests.totals()
            present.include(found)
            self._totals_of(gateway, model).include(found)
            self._distributions.include(requests.distributions(found))
            if self._tell is not None:
                self._tell(model, found)

    def keep(self, slow: SlowRequest) -> None:
        """It may be one of the slowest."""
        entry = (slow.duration, next(self._numbers), slow)
        if len(self._slowest) < MOST_SLOW:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heappushpop(self._slowest, entry)

    def _totals_of(self, gateway: str, model: str) -> Totals:
        known = self._totals.get((gateway, model))
        if known is None:
            model = model if len(self._totals) < _MAX_NAMES else OTHERS
            known = self._totals.setdefault((gateway, model), Totals())
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
