"""Prometheus metrics of clients and of a run, on a registry that the caller chooses.

Counting is done in plain Python as events arrive; Prometheus' own objects are made only when
somebody scrapes, which keeps the cost of a request at a few microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from batch_gateway.client.interfaces.instrumentation import (
    CacheLookedUp,
    Coalesced,
    GatewayEvents,
    Observer,
    RateLimitWaited,
    RequestFinished,
    RetryScheduled,
)
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.histogram import Histogram
from batch_gateway.metrics.series import (
    SIZE_BUCKETS,
    WAIT_BUCKETS,
    BoundedLabels,
    RequestSeries,
)
from batch_gateway.version import __version__

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Prometheus metrics need prometheus-client: "
        "install it with `pip install 'batch-gateway[prometheus]'`",
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from batch_gateway.engine.progress import RunStats

__all__ = ["PrometheusMetrics"]

_REQUEST_LABELS = ("gateway", "model", "endpoint")
_BREAKER_STATES = ("closed", "open", "half_open")
_MOST_ENDPOINTS = 20


class PrometheusMetrics(Observer, Collector):
    """An observer that shows what it saw to Prometheus.

    Give it to clients as one of their `observers`; it may serve any number of them.

    Args:
        registry: where the metrics appear; raises ValueError when it has them already.
        max_models: how many models are told apart; requests of all others are counted under
            the model "other", so that a client that invents names cannot fill a server's memory.

    Attributes:
        clients: those that report here, closed ones until another has their name.
    """

    def __init__(self, registry: CollectorRegistry, *, max_models: int = 100) -> None:
        self.clients: list[GatewayEvents] = []
        self._run: RunStats | None = None
        self._requests: dict[tuple[str, str, str], RequestSeries] = {}
        self._models = BoundedLabels(max_models)
        self._endpoints = BoundedLabels(_MOST_ENDPOINTS)
        self._retries = Counter[tuple[str, str]]()
        self._lookups = Counter[tuple[str, str]]()
        self._joint: dict[str, Histogram] = {}
        self._waits: dict[str, Histogram] = {}
        self._registry = registry
        registry.register(self)

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

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self._retries[event.gateway, event.reason] += 1

    def cache_looked_up(self, event: CacheLookedUp) -> None:
        self._lookups[event.gateway, event.result] += 1

    def coalesced(self, event: Coalesced) -> None:
        self._joint.setdefault(event.gateway, Histogram(SIZE_BUCKETS)).add(event.size)

    def rate_limit_waited(self, event: RateLimitWaited) -> None:
        self._waits.setdefault(event.gateway, Histogram(WAIT_BUCKETS)).add(event.seconds)

    # What Prometheus asks, from another thread; whatever may grow meanwhile is copied first.

    def describe(self) -> Iterable[Metric]:
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "batch_gateway_build", "The version that runs.", value={"version": __version__}
        )
        yield from self._of_requests()
        yield from self._of_gateways()
        yield _counts(
            "batch_gateway_retries",
            "Attempts that failed and were followed by another, by reason.",
            ("gateway", "reason"),
            self._retries,
        )
        yield _counts(
            "batch_gateway_cache_lookups",
            "Requests that the cache had (hit), had not (miss), or that joined one in flight.",
            ("gateway", "result"),
            self._lookups,
        )
        yield _histograms(
            "batch_gateway_coalesced_requests",
            "Single requests in each joint one.",
            self._joint,
        )
        yield _histograms(
            "batch_gateway_rate_limit_wait_seconds",
            "How long requests were held back by a rate limit.",
            self._waits,
        )
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

    def _of_gateways(self) -> Iterator[Metric]:
        requests = _gauge("requests_in_flight", "Requests inside the client, waits included.")
        attempts = _gauge("attempts_in_flight", "Requests at the gateway just now.")
        limit = _gauge("concurrency_limit", "Requests that may be at the gateway at once.")
        reasons = _gauge(
            "concurrency_limit_reason", "1 for what holds the limit where it is.", "reason"
        )
        pace = _gauge(
            "concurrency_pace_per_minute",
            "Sends a minute, where refusals do not depend on how many are under way.",
        )
        breaker = _gauge("circuit_breaker_state", "1 for the state it is in.", "state")
        by_name: dict[str, list[GatewayEvents]] = {}
        for client in self.clients:
            by_name.setdefault(client.gateway, []).append(client)
        for name, clients in by_name.items():
            requests.add_metric((name,), sum(one.requests_in_flight for one in clients))
            attempts.add_metric((name,), sum(one.attempts_in_flight for one in clients))
            limits = [one.limit for one in clients if one.limit is not None]
            if limits:
                limit.add_metric((name,), sum(limits))
            _add_reasons(name, [one.why for one in clients if one.why is not None], reasons, pace)
            states = {one.breaker_state for one in clients} - {None}
            for state in _BREAKER_STATES if states else ():
                breaker.add_metric((name, state), float(state in states))
        yield from (requests, attempts, limit, reasons, pace, breaker)

    def _of_run(self) -> Iterator[Metric]:
        lines = GaugeMetricFamily("batch_gateway_run_lines", "Lines of the input.")
        done = GaugeMetricFamily(
            "batch_gateway_run_lines_done",
            "Lines that need no sending any more: succeeded, failed, or done by an earlier run.",
            labels=("result",),
        )
        flying = GaugeMetricFamily("batch_gateway_run_lines_in_flight", "Lines being sent.")
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
        yield from (lines, done, flying, stopping)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"batch_gateway_{name}", text, labels=("gateway", *labels))


def _add_reasons(
    name: str, found: list[Why], reasons: GaugeMetricFamily, pace: GaugeMetricFamily
) -> None:
    if not found:
        return
    present = {why.reason for why in found}
    for reason in Reason:
        reasons.add_metric((name, reason.value), float(reason in present))
    paces = [why.figure for why in found if why.reason is Reason.PACE]
    if paces:
        pace.add_metric((name,), sum(paces))


def _counts(
    name: str, text: str, labels: tuple[str, str], counter: Counter[tuple[str, str]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in list(counter.items()):
        family.add_metric(key, count)
    return family


def _histograms(name: str, text: str, found: dict[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=("gateway",))
    for gateway, histogram in list(found.items()):
        family.add_metric((gateway,), histogram.cumulative(), histogram.sum)
    return family
