"""Figures of the API for Prometheus, under the names that dashboards of the Go original read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from batch_gateway.metrics.series import BoundedLabels
from batch_gateway.service.backlog import Backlog

__all__ = ["ApiMetrics", "BacklogMetrics"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MOST_MODELS: Final = 100
_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1),
    *(1.5, 2.5, 5, 7.5, 10, 20, 30, 60, 120, 300, 900),
)


class ApiMetrics:
    """Counts requests by method, route and status; what is no route is `other`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests", "Requests answered.", ["method", "path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "From the head of a request to the end of its answer.",
            ["method", "path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "http_requests_in_flight", "Requests that are being answered.", registry=registry
        )

    def began(self) -> None:
        self._in_flight.inc()

    def ended(self, method: str, path: str, status: int, seconds: float) -> None:
        self._in_flight.dec()
        method = method if method in _METHODS else "other"
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(method, path).observe(seconds)


class BacklogMetrics:
    """What is left to do by model, as it was last shown; models without any vanish.

    Of more than a hundred models those with the fewest lines are one, "other".
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, ["model", *labels], registry=registry)

        self._batches = gauge("batch_backlog_batches", "Batches that wait or run.")
        self._lines = gauge("batch_backlog_lines", "Requests of them that have no result.")
        self._tokens = gauge(
            "batch_backlog_tokens", "Tokens that those requests are expected to take.", "type"
        )
        self._deadline = gauge(
            "batch_nearest_deadline_seconds",
            "Until the first of their windows is over; negative once it is.",
        )

    def show(self, entries: Sequence[Backlog], now: float) -> None:
        for gauge in (self._batches, self._lines, self._tokens, self._deadline):
            gauge.clear()
        for model, entry in sorted(_by_label(entries).items()):
            self._batches.labels(model).set(entry.batches)
            self._lines.labels(model).set(entry.lines)
            self._deadline.labels(model).set(entry.due_at - now)
            for kind, tokens in (("prompt", entry.read), ("generation", entry.written)):
                if tokens is not None:
                    self._tokens.labels(model, kind).set(tokens)


def _by_label(entries: Sequence[Backlog]) -> dict[str, Backlog]:
    labels = BoundedLabels(_MOST_MODELS)
    shown: dict[str, Backlog] = {}
    for entry in sorted(entries, key=lambda one: -one.lines):
        label = labels.of(entry.model)
        shown[label] = shown[label] + entry if label in shown else entry
    return shown
