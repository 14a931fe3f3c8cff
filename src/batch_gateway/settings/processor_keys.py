"""Keys of a batch processor's files that a run has no use for, and what is checked of them."""

from __future__ import annotations

from collections.abc import Mapping

from batch_gateway.settings.kinds import DURATION, FRACTION, SWITCH, Kind, count

__all__ = ["PROCESSOR_KEYS"]

PROCESSOR_KEYS: Mapping[str, Kind] = {
    "num_workers": count(1),
    "poll_interval": DURATION,
    "task_wait_time": DURATION,
    "concurrency.recovery": count(1),
    "concurrency.aimd.enabled": SWITCH,
    "concurrency.aimd.min": count(1),
    "concurrency.aimd.backoff_factor": FRACTION,
    "concurrency.aimd.additive_increase": count(1),
}
"""By name, with dots for keys within keys."""
