"""Prometheus metrics of clients and of a run, on a registry that the caller chooses.

Counting is done in plain Python as events arrive; Prometheus' own objects are made only when
somebody scrapes, which keeps the cost of a request at a few microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from batch_gateway.client.interfaces.instrumentation import GatewayEvents, RequestFinished
from batch_gateway.metrics.prometheus_gateways import GatewayMetrics, gateway_gauge
from batch_gateway.metrics.series import BoundedLabels, RequestSeries

if TYPE_CHECKING:
    from batch_gateway.engine.progress import RunStats

__all__ = ["PrometheusMetrics"]

_REQUEST_LABELS = ("gateway", "model", "endpoint")
_MOST_ENDPOINTS = 20


class PrometheusMetrics(GatewayMetrics):
    """An observer that shows what it saw of gateways and of requests to Prometheus.

    Give it to clients as one of their `observers`; it may serve any number of them.

    Args:
        registry: where the metrics appear; raises ValueError when it has them already.
        max_models: how many models are told apart; requests of all others are counted under
            the model "other", so that a client that invents names cannot fill a server's memory.

    Attributes:
        clients: those that report here, closed ones until another has their name.
    """

    def __init__(self, registry: CollectorRegistry, *, max_models: int = 100) -> None:
        self._run: RunStats | None = None
        self._requests: dict[tuple[str, str, str], RequestSeries] = {}
        self._models = BoundedLabels(max_models)
        self._endpoints = BoundedLabels(_MOST_ENDPOINTS)
        self._registry = registry
        super().__init__(registry)

    def follow_run(self, run: RunStats) -> None:
        """Show too how far a run is whenever somebody scrapes."""
        self._run = run

    def close(self) -> None:
        """Take the metrics out of the registry."""
        self._registry.unregister(self)

    # What clients tell.

    def attached(self, events: GatewayEvents) -> None:
        # A service may make a client for each of its tasks.
        kept = (one for one in self.clients if not one.closed or one.gateway != events.gateway)
        self.clients = [*kept, events]

    def request_finished(self, event: RequestFinished) -> None:
        started = event.started
        key = (started.gateway, started.model, started.endpoint)
        series = self._requests.get(key)
        if series is None:
            key = (key[0], self._models.of(key[1]), self._endpoints.of(key[2]))
            series = self._requests.setdefault(key, RequestSeries())
        series.add(event)

    # What Prometheus asks, from another thread; whatever may grow meanwhile is copied first.

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        yield from self._of_requests()
        yield from self._in_flight()
        yield from self._of_run()

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "batch_gateway_requests",
            "Requests that ended: ok, cancelled, or the category of the error and its code.",
            labels=(*_REQUEST_LABELS, "outcome", "code"),
        )
        duration = HistogramMetricFamily(
            "batch_gateway_request_duration_seconds",
            "From the call of generate to its end, waits and retries included.",
            labels=_REQUEST_LABELS,
        )
        first_token = HistogramMetricFamily(
            "batch_gateway_time_to_first_token_seconds",
            "From sending a streamed request, the last time, to its first token.",
            labels=_REQUEST_LABELS,
        )
        tokens = CounterMetricFamily(
            "batch_gateway_tokens",
            "Tokens that gateways read and wrote: input, output; of these cached, reasoning.",
            labels=(*_REQUEST_LABELS, "type"),
        )
        cut_off = CounterMetricFamily(
            "batch_gateway_answers_cut_off",
            "Answers that are not whole: length, content_filter, or incomplete.",
            labels=(*_REQUEST_LABELS, "reason"),
        )
        for key, series in list(self._requests.items()):
            for outcome, count in list(series.outcomes.items()):
                requests.add_metric((*key, *outcome), count)
            for kind, count in series.tokens().items():
                tokens.add_metric((*key, kind), count)
            for reason, count in list(series.cut_off.items()):
                cut_off.add_metric((*key, reason), count)
            duration.add_metric(key, series.duration.cumulative(), series.duration.sum)
            if series.first_token is not None:
                shown = series.first_token
                first_token.add_metric(key, shown.cumulative(), shown.sum)
        yield from (requests, duration, first_token, tokens, cut_off)

    def _in_flight(self) -> Iterator[Metric]:
        requests = gateway_gauge("requests_in_flight", "Requests inside the client, with waits.")
        by_name = Counter[str]()
        for client in self.clients:
            by_name[client.gateway] += client.requests_in_flight
        for name, number in by_name.items():
            requests.add_metric((name,), number)
        yield requests

    def _of_run(self) -> Iterator[Metric]:
        lines = GaugeMetricFamily("batch_gateway_run_lines", "Lines of the input.")
        done = GaugeMetricFamily(
            "batch_gateway_run_lines_done",
            "Lines that need no sending any more: succeeded, failed, or done by an earlier run.",
            labels=("result",),
        )
        flying = GaugeMetricFamily("batch_gateway_run_lines_in_flight", "Lines being sent.")
        left = GaugeMetricFamily(
            "batch_gateway_run_time_left_seconds",
            "How long the rest of the run takes; absent while nobody can know.",
        )
        stopping = GaugeMetricFamily(
            "batch_gateway_run_stopping", "1 when nothing new is sent any more."
        )
        run = self._run
        if run is not None:
            lines.add_metric((), run.total)
            done.add_metric(("earlier",), run.done_before)
            done.add_metric(("succeeded",), run.succeeded)
            done.add_metric(("failed",), run.failed)
            flying.add_metric((), run.in_flight)
            stopping.add_metric((), float(run.stopping))
            if (expected := run.expected) is not None:
                left.add_metric((), expected)
        yield from (lines, done, flying, left, stopping)
