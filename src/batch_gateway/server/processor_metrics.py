"""Figures of the processor for Prometheus, under the names that dashboards of the Go original read.

Of each request no more is done than to add to a few numbers: see `model_figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.metrics.prometheus_gateways import GatewayMetrics
from batch_gateway.report.timeline import Totals
from batch_gateway.server.model_figures import ModelsFigures
from batch_gateway.service.batch_observer import BatchObserver
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.statuses import ENDED, BatchStatus

__all__ = ["ProcessorMetrics"]

# From a batch of one line to one that took its window of 30 days, in seconds.
_SECONDS: Final = (
    *(0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 14400),
    *(21600, 28800, 43200, 64800, 86400, 172800, 259200, 604800, 1209600, 2592000),
)
_SIZES: Final = (100, 1_000, 10_000, 30_000)
_REASONS: Final = {
    BatchStatus.COMPLETED: ("success", "none"),
    # Who cancelled it got what was asked for.
    BatchStatus.CANCELLED: ("success", "none"),
    BatchStatus.FAILED: ("failed", "invalid_input"),
    BatchStatus.EXPIRED: ("expired", "expired_execution"),
}


class ProcessorMetrics(GatewayMetrics, BatchObserver):
    """Shows batches as they end, workers, requests by model, gateways, and the process itself.

    An observer of the processor and of its clients. `working` says how many workers have something
    to do, of `workers`. `models` are those with gateways of their own.

    Attributes:
        models: what was counted of requests, by model.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        workers: int,
        working: Callable[[], int],
        models: Iterable[str] = (),
    ) -> None:
        super().__init__(registry)
        ProcessCollector(registry=registry)
        self._workers, self._working = workers, working
        self.models = ModelsFigures(models)
        self._jobs = Counter(
            "jobs_processed", "Batches that ended.", ["result", "reason"], registry=registry
        )
        self._cancelled = Counter(
            "batch_cancellation",
            "Batches that were cancelled, by how far they were.",
            ["phase"],
            registry=registry,
        )

        def seconds(name: str, meaning: str, *labels: str) -> Histogram:
            return Histogram(name, meaning, labels, buckets=_SECONDS, registry=registry)

        self._waited = seconds(
            "job_queue_wait_duration_seconds", "From the making of a batch to its first look."
        )
        self._planned = seconds("plan_build_duration_seconds", "The look at the input of a batch.")
        self._processing = seconds(
            "job_processing_duration_seconds",
            "From the first request of a batch to its end.",
            "size_bucket",
        )
        self._latency = seconds(
            "batch_job_e2e_latency_seconds", "From the making of a batch to its end.", "status"
        )

    def watch(self, clients: Sequence[GatewayEvents]) -> None:
        """These are the clients whose gateways are shown, and whose attempts are counted."""
        self.clients = clients
        for one in clients:
            one.attempts_by_model = self.models

    def taken(self, waited: float) -> None:
        self._waited.observe(max(0.0, waited))

    def looked_at(self, took: float) -> None:
        self._planned.observe(took)

    def moved(self, batch: BatchRecord) -> None:
        status = BatchStatus(batch.status)
        if status not in ENDED:
            return
        result, reason = _REASONS[status]
        ended, began = getattr(batch, f"{status}_at"), batch.in_progress_at
        if status is BatchStatus.EXPIRED and began is None:
            reason = "expired_dequeue"
        if status is BatchStatus.FAILED and began is not None:
            reason = "system_error"
        if status is BatchStatus.CANCELLED:
            self._cancelled.labels("queued" if began is None else "in_progress").inc()
        self._jobs.labels(result, reason).inc()
        # The clock of the day may have been set back meanwhile.
        self._latency.labels(status.value).observe(max(0, ended - batch.created_at))
        if began is not None:
            self._processing.labels(_size(batch.total)).observe(max(0, ended - began))

    def answered(self, model: str, totals: Totals) -> None:
        figures = self.models.of(model)
        figures.errors += totals.failed
        figures.read += totals.usage.input_tokens
        figures.written += totals.usage.output_tokens

    def describe(self) -> Iterable[Metric]:
        # Asked for when it is registered, before there is a processor to look at.
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        yield GaugeMetricFamily("total_workers", "Workers that there are.", self._workers)
        yield GaugeMetricFamily("active_workers", "Workers that run batches.", self._working())
        clients = [one for one in self.clients if not one.closed]
        yield GaugeMetricFamily(
            "processor_inflight_requests",
            "Requests at the gateways just now.",
            sum(one.attempts_in_flight for one in clients),
        )
        yield GaugeMetricFamily(
            "processor_max_inflight_concurrency",
            "Requests that may be there just now.",
            sum(one.limit for one in clients if one.limit is not None),
        )
        yield from self.models.families()


def _size(lines: int) -> str:
    """The first of the sizes that is not less, as its label."""
    return next((str(size) for size in _SIZES if lines <= size), "large")
