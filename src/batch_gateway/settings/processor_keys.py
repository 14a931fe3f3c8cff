"""Keys of the files of llm-d's batch gateway that nobody needs here, or a run does not, and why.

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
_NO_ORDER = "lines are taken in any order, and go out in the one that serves caches best"
_NOT_CUT = "a download may take as long as it does, and ends only where it stands still"
_NO_REDIS = "there is no other store beside the database and the files"


class ProcessorKey(msgspec.Struct, frozen=True):
    """A key that does nothing.

    Attributes:
        why: in a run, and in a service where `in_service` does not say.
        kind: what its value must be; None takes all there may be.
    """

    why: str
    kind: Kind | None = None
    in_service: str = ""


_IN_A_SERVICE = {
    "health and metrics of all of it are at observability_port": (
        "addr", "metrics_addr", "observability_shutdown_timeout_seconds",
        "terminate_on_observability_failure", "enable_pprof",
    ),
    "those of the TLS library are taken": ("tls_cipher_suites", "tls_next_protos"),
    "the buckets of its metrics are fixed": (
        "queue_time_bucket", "process_time_bucket", "e2e_latency_bucket",
    ),
    "a request goes to the gateway of its model, or to the one for all": (
        "route_key_method", "send_fairness_header",
    ),
    "files are in --data, and records there or in --database": (
        "file_client.fs", "db_client", "work_dir", "work_dir_size_limit",
        "input_file_max_size_bytes", "input_file_disk_budget_percent",
    ),
    "work that a process left goes on at once, or after the lease": (
        "heartbeat_interval", "concurrency.recovery",
    ),
    "a store is tried again for as long as that is worth it": ("file_client.retry",),
    "a bucket is made by who owns it": ("file_client.s3.auto_create_bucket",),
    "it removes by itself what is old or left over": (
        "collector", "interval", "max_concurrency", "dry_run", "event_purge", "reconciler",
    ),
    "statements at its database are not traced": ("otel.postgresql_tracing",),
}  # fmt: skip

PROCESSOR_KEYS: Mapping[str, ProcessorKey] = {
    **{
        name: ProcessorKey(FOR_A_SERVICE, in_service=why)
        for why, names in _IN_A_SERVICE.items()
        for name in names
    },
    "task_wait_time": ProcessorKey(_NOTHING_POLLED, DURATION),
    "concurrency.aimd.enabled": ProcessorKey(_MEASURED, SWITCH),
    "concurrency.aimd.min": ProcessorKey(_MEASURED, count(1)),
    "concurrency.aimd.backoff_factor": ProcessorKey(_MEASURED, FRACTION),
    "concurrency.aimd.additive_increase": ProcessorKey(_MEASURED, count(1)),
    "dispatch_mode": ProcessorKey(_STRAIGHT),
    "async_dispatch": ProcessorKey(_STRAIGHT),
    "inference_pool_name": ProcessorKey(_STRAIGHT),
    "batch_api.batch_event_ttl_seconds": ProcessorKey(FOR_A_SERVICE, in_service=_NO_REDIS),
    "file_api.batch_input_order_policy": ProcessorKey(FOR_A_SERVICE, in_service=_NO_ORDER),
    "write_timeout_seconds": ProcessorKey(FOR_A_SERVICE, in_service=_NOT_CUT),
    "exchange_client": ProcessorKey(_NO_REDIS),
    "progress_ttl_seconds": ProcessorKey(_NO_REDIS),
    "otel.redis_tracing": ProcessorKey(_NO_REDIS),
}
"""By name, with dots for keys within keys."""
