"""The servers and the answers that worlds are made of."""

from __future__ import annotations

from dataclasses import replace

from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.lengths import Lengths, Same, Uniform

__all__ = [
    "ANSWERS",
    "FAST_GPU",
    "GPU",
    "PATIENT",
    "QUICK",
    "QUICK_ANSWERS",
    "QUICK_LIMITS",
    "grown",
    "replicas",
    "scaled",
]

GPU = Capacity(
    seats=256,
    prefill_tokens_per_second=40_000,
    prefill_chunk_tokens=2048,
    time_per_token=0.02,
    load_growth=0.005,
    jitter=0.05,
)
FAST_GPU = replace(
    GPU,
    prefill_chunk_tokens=8192,
    time_per_token=0.008,
    load_growth=0.004,
)
ANSWERS = Lengths(prompt=Uniform(200), output=Uniform(64))

QUICK = Capacity(
    seats=64,
    prefill_tokens_per_second=200_000,
    prefill_chunk_tokens=2048,
    time_per_token=0.002,
    load_growth=0.0,
    jitter=0.05,
)
"""A server whose answers take about 100 ms, however many run."""

QUICK_ANSWERS = Lengths(prompt=Same(40), output=Uniform(45))
QUICK_LIMITS = (32, 48, 56, 64, 72, 80, 96)

# `run` waits out an outage with its circuit breaker, and burns no line on a gateway that only
# refuses; here more retries stand for that.
PATIENT = RetryPolicy(max_retries=12)


def replicas(count: int, seats: int = 128) -> Capacity:
    """So many equal servers behind one perfect balancer: each carries its share of the load."""
    return replace(
        GPU,
        seats=count * seats,
        load_growth=GPU.load_growth / count,
        prefill_tokens_per_second=GPU.prefill_tokens_per_second * count,
        prefill_chunk_tokens=GPU.prefill_chunk_tokens * count,
    )


def grown(capacity: Capacity, share: float) -> Capacity:
    """As if by so many times the servers, which share the load evenly."""
    return replace(
        capacity,
        seats=round(share * capacity.seats),
        load_growth=capacity.load_growth / share,
        prefill_tokens_per_second=capacity.prefill_tokens_per_second * share,
        prefill_chunk_tokens=round(capacity.prefill_chunk_tokens * share),
    )


def scaled(limits: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(max(1, round(share * limit)) for limit in limits)
