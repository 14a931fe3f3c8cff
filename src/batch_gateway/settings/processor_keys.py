"""Keys of the files of llm-d's batch gateway that a run does without, and why.

What both have use for is in the table of settings, under its other names there.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from batch_gateway.settings.kinds import DURATION, FRACTION, SWITCH, Kind, count

__all__ = ["FOR_A_SERVICE", "PROCESSOR_KEYS", "ProcessorKey"]

FOR_A_SERVICE = "for a service alone"
_NOTHING_POLLED = "work is taken as soon as it is there; nothing asks for it at intervals"
_MEASURED = "what a gateway takes is found by measuring, with nothing to tune"
_STRAIGHT = "requests go straight to the gateway, or where an endpoint picker says"
_NO_REDIS = "there is no other store beside the database and the files"


class ProcessorKey(msgspec.Struct, frozen=True):
    """Why a key does nothing in a run, and what its value must be; None takes all there may be."""

    why: str
    kind: Kind | None = None


_OF_A_SERVICE = (
    "addr", "host", "port", "observability_port", "metrics_addr", "ssl_cert_file", "ssl_key_file",
    "tls_cipher_suites", "tls_next_protos", "read_header_timeout_seconds", "read_timeout_seconds",
    "write_timeout_seconds", "idle_timeout_seconds", "api_shutdown_timeout_seconds",
    "observability_shutdown_timeout_seconds", "shutdown_timeout", "heartbeat_interval",
    "terminate_on_observability_failure", "enable_pprof", "queue_time_bucket",
    "process_time_bucket", "e2e_latency_bucket", "input_headers",
    "route_key_method", "send_fairness_header", "batch_api", "file_api", "file_client",
    "db_client", "default_output_expiration_seconds", "work_dir", "work_dir_size_limit",
    "input_file_max_size_bytes", "input_file_disk_budget_percent", "collector", "interval",
    "max_concurrency", "dry_run", "event_purge", "reconciler",
)  # fmt: skip

PROCESSOR_KEYS: Mapping[str, ProcessorKey] = {
    "num_workers": ProcessorKey(FOR_A_SERVICE, count(1)),
    **{name: ProcessorKey(FOR_A_SERVICE) for name in _OF_A_SERVICE},
    "poll_interval": ProcessorKey(_NOTHING_POLLED, DURATION),
    "task_wait_time": ProcessorKey(_NOTHING_POLLED, DURATION),
    "concurrency.recovery": ProcessorKey(FOR_A_SERVICE, count(1)),
    "concurrency.aimd.enabled": ProcessorKey(_MEASURED, SWITCH),
    "concurrency.aimd.min": ProcessorKey(_MEASURED, count(1)),
    "concurrency.aimd.backoff_factor": ProcessorKey(_MEASURED, FRACTION),
    "concurrency.aimd.additive_increase": ProcessorKey(_MEASURED, count(1)),
    "dispatch_mode": ProcessorKey(_STRAIGHT),
    "async_dispatch": ProcessorKey(_STRAIGHT),
    "inference_pool_name": ProcessorKey(_STRAIGHT),
    "exchange_client": ProcessorKey(_NO_REDIS),
    "progress_ttl_seconds": ProcessorKey(_NO_REDIS),
    "otel.redis_tracing": ProcessorKey(_NO_REDIS),
    "otel.postgresql_tracing": ProcessorKey(FOR_A_SERVICE),
}
"""By name, with dots for keys within keys."""
