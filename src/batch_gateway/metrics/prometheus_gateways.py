"""What Prometheus is shown of gateways: limits, breakers, retries and waits, and of no request.

Counting is done in plain Python as events arrive; Prometheus' own objects are made only when
somebody scrapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from batch_gateway.client.interfaces.instrumentation import (
    CacheLookedUp,
    Coalesced,
    GatewayEvents,
    Observer,
    RateLimitWaited,
    RetryScheduled,
)
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.histogram import Histogram
from batch_gateway.metrics.series import SIZE_BUCKETS, WAIT_BUCKETS
from batch_gateway.version import __version__

__all__ = ["GatewayMetrics", "gateway_gauge"]

_BREAKER_STATES = ("closed", "open", "half_open")


class GatewayMetrics(Observer, Collector):
    """An observer that shows `registry` what it saw of gateways; it hears of no request.

    Attributes:
        clients: those whose gateways are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients: Sequence[GatewayEvents] = ()
        self._retries = Counter[tuple[str, str]]()
        self._lookups = Counter[tuple[str, str]]()
        self._joint: dict[str, Histogram] = {}
        self._waits: dict[str, Histogram] = {}
        registry.register(self)

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
        """The names of all metrics, for a registry."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "batch_gateway_build", "The version that runs.", value={"version": __version__}
        )
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

    def _of_gateways(self) -> Iterator[Metric]:
        attempts = gateway_gauge("attempts_in_flight", "Requests at the gateway just now.")
        limit = gateway_gauge("concurrency_limit", "Requests that may be at the gateway at once.")
        reasons = gateway_gauge(
            "concurrency_limit_reason", "1 for what holds the limit where it is.", "reason"
        )
        pace = gateway_gauge(
            "concurrency_pace_per_minute",
            "Sends a minute, where refusals do not depend on how many are under way.",
        )
        breaker = gateway_gauge("circuit_breaker_state", "1 for the state it is in.", "state")
        by_name: dict[str, list[GatewayEvents]] = {}
        for client in self.clients:
            by_name.setdefault(client.gateway, []).append(client)
        for name, clients in by_name.items():
            attempts.add_metric((name,), sum(one.attempts_in_flight for one in clients))
            limits = [one.limit for one in clients if one.limit is not None]
            if limits:
                limit.add_metric((name,), sum(limits))
            _add_reasons(name, [one.why for one in clients if one.why is not None], reasons, pace)
            states = {one.breaker_state for one in clients} - {None}
            for state in _BREAKER_STATES if states else ():
                breaker.add_metric((name, state), float(state in states))
        yield from (attempts, limit, reasons, pace, breaker)


def gateway_gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """A gauge of each gateway, which has `labels` too."""
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
