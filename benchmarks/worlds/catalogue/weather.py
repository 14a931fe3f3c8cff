"""Servers whose speed changes by itself, and stands still at times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.worlds.catalogue.plain import QUEUES
from benchmarks.worlds.catalogue.servers import QUICK, QUICK_ANSWERS, QUICK_LIMITS
from benchmarks.worlds.lengths import Lengths, Same, Uniform
from benchmarks.worlds.world import Aims, Stalls, Wobble, World

__all__ = ["stall_worlds", "wobble_worlds"]

_AIMS = Aims(goodput=0.9, wait=0.10)


def wobble_worlds() -> Iterator[World]:
    queues = replace(QUEUES, group="wobble", aims=_AIMS)
    quick = replace(queues, capacity=QUICK, lengths=QUICK_ANSWERS, oracle=QUICK_LIMITS, duration=80)
    for most in (2, 4):
        yield replace(
            quick,
            name=f"wobble 1..{most}",
            title=f"all latencies 1 to {most} times the base, anew every 0.2 to 1 s",
            wobble=Wobble(most),
        )
    yield replace(
        quick,
        name="wobble 1..4, every 10 s",
        title="all latencies 1 to 4 times the base, anew every 10 s",
        wobble=Wobble(4, 10, 10),
        duration=100,
    )
    yield replace(
        quick,
        name="wobble 1..4, equal answers",
        title="the same every 0.2 to 1 s, where all answers are of one length",
        lengths=Lengths(prompt=Same(40), output=Same(45)),
        wobble=Wobble(4),
    )
    yield replace(
        quick,
        name="wobble 1..4, refuses",
        title="the same before 64 seats that refuse the next",
        capacity=replace(QUICK, queue_limit=0),
        wobble=Wobble(4),
        aims=Aims(goodput=0.9),
    )
    yield replace(
        queues,
        name="wobble 1..4, 256 seats",
        title="a large server with answers of 1 to 3 s",
        wobble=Wobble(4),
    )
    yield replace(
        queues,
        name="wobble 1..4, long answers",
        title="a large server with answers of 8 to 20 s",
        lengths=Lengths(prompt=Uniform(200), output=Uniform(256)),
        wobble=Wobble(4),
        duration=800,
    )


def stall_worlds() -> Iterator[World]:
    stalls = replace(QUEUES, group="stalls", aims=_AIMS)
    title = "every 20 s the server stands still for 2 s"
    quick = replace(stalls, capacity=QUICK, lengths=QUICK_ANSWERS, oracle=QUICK_LIMITS)
    yield replace(
        quick,
        name="stalls",
        title=f"{title}, answers of 100 ms",
        stalls=Stalls(20, 2),
        duration=80,
    )
    yield replace(
        stalls,
        name="stalls, slow",
        title=f"{title}, answers of 1 to 3 s",
        stalls=Stalls(20, 2),
    )
    yield replace(
        quick,
        name="stalls, refuses",
        title=f"{title}, 64 seats that refuse the next",
        capacity=replace(QUICK, queue_limit=0),
        stalls=Stalls(20, 2),
        duration=80,
        aims=Aims(goodput=0.9),
    )
    yield replace(
        stalls,
        name="stalls, 5 s in 30",
        title="every 30 s the server stands still for 5 s, answers of 1 to 3 s",
        stalls=Stalls(30, 5),
    )
