"""Figures of requests by model for Prometheus, counted in plain numbers until somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from batch_gateway.histogram import Histogram
from batch_gateway.metrics.series import DURATION_BUCKETS, BoundedLabels

__all__ = ["ModelFigures", "ModelsFigures"]

_MOST_MODELS = 100
_COUNTED_AT_ONCE = 1_000


class ModelFigures:
    """What was counted of one model.

    Attributes:
        in_flight: requests at its gateway just now.
        errors: requests that failed after their retries.
        read, written: tokens of the answers.
    """

    __slots__ = ("_durations", "_uncounted", "errors", "in_flight", "read", "written")

    def __init__(self) -> None:
        self.in_flight = self.errors = self.read = self.written = 0
        self._durations = Histogram(DURATION_BUCKETS)
        self._uncounted: list[float] = []

    def ended(self, seconds: float) -> None:
        """One that was in flight is not any more; it was there for so long."""
        self.in_flight -= 1
        self._uncounted.append(seconds)
        if len(self._uncounted) >= _COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        # Many at a time cost a fraction of one by one.
        uncounted, self._uncounted = self._uncounted, []
        self._durations.add_all(uncounted)

    @property
    def durations(self) -> Histogram:
        """Seconds that requests were at the gateway."""
        self._count()
        return self._durations


class ModelsFigures:
    """The figures of a bounded number of models; all others are one, "other".

    `configured` are those that keep their names, whatever other names come first.
    """

    def __init__(self, configured: Iterable[str]) -> None:
        names = list(configured)
        self._labels = BoundedLabels(len(names) + _MOST_MODELS)
        self._of: dict[str, ModelFigures] = {}
        for name in names:
            self._labels.of(name)

    def of(self, model: str) -> ModelFigures:
        """Those of a model, from now on always the same."""
        # The usual case first: this is asked several times a request.
        return self._of.get(model) or self._of.setdefault(self._labels.of(model), ModelFigures())

    def families(self) -> Iterator[Metric]:
        """All of them, as Prometheus is shown them."""
        in_flight = GaugeMetricFamily(
            "model_inflight_requests", "Requests at the gateway just now.", labels=("model",)
        )
        durations = HistogramMetricFamily(
            "model_request_execution_duration_seconds",
            "How long requests were at the gateway, each sending by itself.",
            labels=("model",),
        )
        for model, figures in self._of.items():
            in_flight.add_metric((model,), figures.in_flight)
            durations.add_metric((model,), figures.durations.cumulative(), figures.durations.sum)
        yield from (in_flight, durations)
        yield self._counter(
            "request_errors_by_model", "Requests that failed.", attrgetter("errors")
        )
        yield self._counter(
            "batch_request_prompt_tokens", "Tokens that gateways read.", attrgetter("read")
        )
        yield self._counter(
            "batch_request_generation_tokens", "Tokens they wrote.", attrgetter("written")
        )

    def _counter(
        self, name: str, meaning: str, number: Callable[[ModelFigures], int]
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(name, meaning, labels=("model",))
        for model, figures in self._of.items():
            family.add_metric((model,), number(figures))
        return family
