"""The worlds and their aims."""

from __future__ import annotations

from dataclasses import replace

from batch_gateway.client.config import RetryPolicy
from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.world import (
    Aims,
    Burst,
    Change,
    Interactive,
    Lengths,
    World,
    log_normal,
    uniform,
)

__all__ = ["WORLDS"]

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
ANSWERS = Lengths(prompt=uniform(200), output=uniform(64))


def replicas(count: int, seats: int = 128) -> Capacity:
    """So many equal servers behind one perfect balancer: each carries its share of the load."""
    return replace(
        GPU,
        seats=count * seats,
        load_growth=GPU.load_growth / count,
        prefill_tokens_per_second=GPU.prefill_tokens_per_second * count,
        prefill_chunk_tokens=GPU.prefill_chunk_tokens * count,
    )


def _changes() -> tuple[Change, ...]:
    return tuple(
        Change(60.0 * minute, replicas(2 if minute % 2 == 0 else 4)) for minute in range(1, 10)
    )


_ALL = (
    World(
        name="refuses",
        title="429 above an unknown number of seats",
        capacity=replace(GPU, seats=100, queue_limit=0),
        lengths=ANSWERS,
        duration=600,
        aims=Aims(goodput=0.95, refused=0.02),
        oracle=(50, 80, 95, 98, 99, 100, 101, 105),
    ),
    World(
        name="queues",
        title="never refuses, only queues",
        capacity=GPU,
        lengths=ANSWERS,
        duration=600,
        aims=Aims(goodput=0.95, wait=0.10),
        oracle=(64, 128, 192, 230, 256, 270, 300, 400),
    ),
    World(
        name="changes",
        title="capacity doubles and halves every minute",
        capacity=replicas(2),
        changes=_changes(),
        lengths=Lengths(prompt=uniform(200), output=uniform(48)),
        duration=600,
        aims=Aims(goodput=0.90, settle=10),
        oracle=(128, 200, 256, 320, 384, 448, 512, 600),
    ),
    World(
        name="shared",
        title="interactive users with bursts on the same server",
        capacity=FAST_GPU,
        lengths=Lengths(prompt=uniform(100), output=uniform(256)),
        duration=3600,
        interactive=Interactive(
            rate=10.0,
            lengths=Lengths(prompt=log_normal(800, 0.8, 50, 6000), output=uniform(150)),
            burst=Burst(size=40, every=30, width=4, first=20),
        ),
        aims=Aims(ttft=1.25, leftover=0.75),
        oracle=(64, 96, 128, 144, 160, 176, 192, 224, 256),
    ),
    World(
        name="long-tail",
        title="answers of 5 to 4,000 tokens, log-normal",
        capacity=GPU,
        lengths=Lengths(prompt=uniform(200), output=log_normal(150, 1.2, 5, 4000)),
        duration=1800,
        aims=Aims(goodput=0.95),
        oracle=(64, 128, 192, 230, 256, 270, 300, 400),
    ),
    World(
        name="tiny",
        title="millisecond requests at thousands a second",
        capacity=Capacity(
            seats=24,
            prefill_tokens_per_second=400_000,
            time_per_token=0.0015,
            load_growth=0.02,
            jitter=0.05,
        ),
        lengths=Lengths(prompt=uniform(20), output=lambda _: 1),
        duration=30,
        round_trip=0.0005,
        aims=Aims(goodput=0.95),
        oracle=(8, 16, 24, 32, 48, 64),
    ),
    World(
        name="scale-from-zero",
        title="503 no-endpoints for 90 s, then one replica, then ten",
        capacity=None,
        changes=(Change(90, replicas(1, 64)), Change(210, replicas(10, 64))),
        lengths=Lengths(prompt=uniform(200), output=uniform(40)),
        duration=330,
        # `run` waits out an outage with its circuit breaker; here more retries stand for that.
        retry=RetryPolicy(max_retries=12),
        aims=Aims(lost=0, settle=10),
        oracle=(64, 128, 320, 640, 700),
    ),
    World(
        name="flaky",
        title="1 % random 500s and resets at constant capacity",
        capacity=GPU,
        lengths=ANSWERS,
        duration=600,
        errors=0.01,
        aims=Aims(goodput=0.95),
        oracle=(64, 128, 192, 230, 256, 270, 300, 400),
    ),
    World(
        name="outage",
        title="ten seconds in which everything is cut off and nobody answers, 1 % random errors",
        capacity=GPU,
        changes=tuple(
            change
            for minute in (1, 3)
            for change in (
                Change(60.0 * minute, None, resets=True),
                Change(60.0 * minute + 10, GPU),
            )
        ),
        lengths=ANSWERS,
        duration=300,
        errors=0.01,
        # `run` waits out an outage with its circuit breaker; here more retries stand for that.
        retry=RetryPolicy(max_retries=12),
        window=2_000,
        aims=Aims(goodput=0.90, lost=0, settle=10),
        oracle=(64, 128, 192, 230, 256, 270, 300, 400),
    ),
)

WORLDS = {world.name: world for world in _ALL}
