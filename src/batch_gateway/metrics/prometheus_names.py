"""The names of prometheus-client that metrics are made of, or how to get it."""

from __future__ import annotations

from batch_gateway.extras import command_for

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
        f"Prometheus metrics need prometheus-client: install it with `{command_for('prometheus')}`",
        name=error.name,
    ) from error

__all__ = [
    "Collector",
    "CollectorRegistry",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "InfoMetricFamily",
    "Metric",
]
