"""Who watches a run besides the person at the terminal: scrapers of metrics and readers of logs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.client.interfaces.instrumentation import Observer
from batch_gateway.engine.progress import RunStats
from batch_gateway.extras import command_for
from batch_gateway.metrics.request_log import RequestLog
from batch_gateway.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from batch_gateway.metrics.metrics_server import MetricsServer

__all__ = ["watch"]


def watch(
    settings: RunSettings, stats: RunStats, note: Callable[[str], None], stack: ExitStack
) -> list[Observer]:
    """The observers that the settings ask for; what serves them ends with `stack`.

    Raises CommandFailure when the metrics cannot be served, or there is no OpenTelemetry SDK.
    """
    observers: list[Observer] = []
    if settings.log_format is not None or settings.log_level is not None:
        observers.append(RequestLog())
    if settings.otel:
        observers.append(_open_telemetry())
    if settings.metrics_port is not None:
        observer, server = _metrics(stats, settings.metrics_host, settings.metrics_port)
        stack.enter_context(server)
        note(f"Metrics at {server.url}")
        observers.append(observer)
    return observers


def _open_telemetry() -> Observer:
    try:
        from opentelemetry import trace  # noqa: PLC0415

        from batch_gateway.metrics.opentelemetry import OpenTelemetry  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandFailure(
            f"--otel needs opentelemetry-api: install it with `{command_for('otel')}`"
        ) from error
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise CommandFailure(
            "--otel: no OpenTelemetry SDK is set up in this process, so nothing would be recorded",
            details=[
                "pip install opentelemetry-distro opentelemetry-exporter-otlp",
                "opentelemetry-instrument batch-gateway run … --otel",
            ],
        )
    return OpenTelemetry()


def _metrics(stats: RunStats, host: str, port: int) -> tuple[Observer, MetricsServer]:
    # Importing it takes a third of the time that the command takes to start.
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415

    from batch_gateway.metrics.metrics_server import MetricsServer  # noqa: PLC0415
    from batch_gateway.metrics.prometheus import PrometheusMetrics  # noqa: PLC0415

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = PrometheusMetrics(registry)
    metrics.follow_run(stats)
    try:
        return metrics, MetricsServer(registry, host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandFailure(f"--metrics-port: {host} port {port}: {reason}") from error
