"""Figures of the API for Prometheus, under the names that dashboards of the Go original read."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["ApiMetrics"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 900)


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
