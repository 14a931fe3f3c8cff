"""Servers that are what they are: they refuse or queue, are small or large, change, fail.

The goodput that is aimed at is one per cent less than that of the controller of November 2026 in
the worst of the held-out seeds: whatever does better elsewhere is not to do worse here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.catalogue.servers import ANSWERS, GPU, PATIENT, grown, replicas, scaled
from benchmarks.worlds.lengths import Few, Lengths, LogNormal, Pareto, Same, Uniform
from benchmarks.worlds.world import Aims, Change, World

__all__ = ["QUEUES", "REFUSES", "length_worlds", "plain_worlds"]

LIMITS = (64, 128, 192, 230, 256, 270, 300, 400)

REFUSES = World(
    name="refuses",
    title="429 above an unknown number of seats",
    group="plain",
    capacity=replace(GPU, seats=100, queue_limit=0),
    lengths=ANSWERS,
    duration=300,
    aims=Aims(goodput=0.968, refused=0.02),
    oracle=(50, 80, 95, 98, 99, 100, 101, 105),
)
QUEUES = World(
    name="queues",
    title="never refuses, only queues",
    group="plain",
    capacity=GPU,
    lengths=ANSWERS,
    duration=300,
    aims=Aims(goodput=0.953, wait=0.10),
    oracle=LIMITS,
)


def plain_worlds() -> Iterator[World]:
    yield REFUSES
    yield QUEUES
    yield from _sized_queues()
    yield _changes()
    yield World(
        name="tiny",
        title="millisecond requests at thousands a second",
        group="plain",
        capacity=Capacity(
            seats=24,
            prefill_tokens_per_second=400_000,
            time_per_token=0.0015,
            load_growth=0.02,
            jitter=0.05,
        ),
        lengths=Lengths(prompt=Uniform(20), output=Same(1)),
        duration=20,
        round_trip=0.0005,
        aims=Aims(goodput=0.967),
        oracle=(8, 16, 24, 32, 48, 64),
    )
    yield _scale_from_zero()
    yield replace(
        QUEUES,
        name="flaky",
        title="1 % random 500s and resets at constant capacity",
        errors=0.01,
        aims=Aims(goodput=0.948, wait=0.10),
    )
    yield _outage()


def _sized_queues() -> Iterator[World]:
    for share, goodput in ((0.25, 0.962), (2.0, 0.941)):
        yield replace(
            QUEUES,
            name=f"queues, {round(share * GPU.seats)} seats",
            capacity=grown(GPU, share),
            aims=Aims(goodput=goodput, wait=0.10),
            oracle=scaled(LIMITS, share),
        )
    yield replace(
        QUEUES,
        name="queues, longer answers",
        lengths=Lengths(prompt=Uniform(200), output=Uniform(128)),
        aims=Aims(goodput=0.929, wait=0.10),
    )


def _changes() -> World:
    return World(
        name="changes",
        title="capacity doubles and halves every minute",
        group="plain",
        capacity=replicas(2),
        changes=tuple(
            Change(60.0 * minute, replicas(2 if minute % 2 == 0 else 4)) for minute in range(1, 5)
        ),
        lengths=Lengths(prompt=Uniform(200), output=Uniform(48)),
        duration=300,
        aims=Aims(goodput=0.903, wait=0.10, settle=10),
        oracle=(128, 200, 256, 320, 384, 448, 512, 600),
    )


def _scale_from_zero() -> World:
    return World(
        name="scale-from-zero",
        title="503 no-endpoints for 90 s, then one replica, then ten",
        group="plain",
        capacity=None,
        changes=(Change(90, replicas(1, 64)), Change(210, replicas(10, 64))),
        lengths=Lengths(prompt=Uniform(200), output=Uniform(40)),
        duration=330,
        retry=PATIENT,
        aims=Aims(goodput=0.928, lost=0, settle=10),
        oracle=(64, 128, 320, 640, 700),
    )


def _outage() -> World:
    return replace(
        QUEUES,
        name="outage",
        title="ten seconds in which everything is cut off and nobody answers, 1 % random errors",
        changes=tuple(
            change
            for minute in (1, 3)
            for change in (
                Change(60.0 * minute, None, resets=True),
                Change(60.0 * minute + 10, GPU),
            )
        ),
        errors=0.01,
        retry=PATIENT,
        window=2_000,
        aims=Aims(goodput=0.874, wait=0.10, lost=0, settle=10),
    )


def length_worlds() -> Iterator[World]:
    """Answers of other lengths than usual."""
    queues = replace(QUEUES, group="lengths", aims=Aims(goodput=0.9, wait=0.10))
    yield replace(
        queues,
        name="long-tail",
        title="answers of 5 to 4,000 tokens, log-normal",
        lengths=Lengths(prompt=Uniform(200), output=LogNormal(150, 1.2, 5, 4000)),
        duration=900,
        aims=Aims(goodput=0.957, wait=0.10),
    )
    yield replace(
        queues,
        name="lengths, all equal",
        title="every prompt and every answer of one length",
        lengths=Lengths(prompt=Same(200), output=Same(64)),
    )
    yield replace(
        queues,
        name="lengths, few distinct",
        title="answers of 16, 128 or 1,600 tokens",
        lengths=Lengths(prompt=Uniform(200), output=Few(((0.7, 16), (0.25, 128), (0.05, 1600)))),
        duration=600,
    )
    yield replace(
        queues,
        name="lengths, Pareto",
        title="answers of at least 20 tokens, Pareto with exponent 1.2, up to 8,000",
        lengths=Lengths(prompt=Uniform(200), output=Pareto(1.2, 20, 8000)),
        duration=600,
    )
    yield replace(
        queues,
        name="lengths, Pareto, refuses",
        title="the same before 100 seats that refuse the next",
        capacity=REFUSES.capacity,
        lengths=Lengths(prompt=Uniform(200), output=Pareto(1.2, 20, 8000)),
        duration=600,
        aims=Aims(goodput=0.9, refused=0.02),
        oracle=REFUSES.oracle,
    )
