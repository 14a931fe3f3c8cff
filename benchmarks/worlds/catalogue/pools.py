"""One to eight servers behind a picker that chooses the least loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.worlds.catalogue.plain import QUEUES
from benchmarks.worlds.catalogue.servers import PATIENT, replicas, scaled
from benchmarks.worlds.world import Aims, Balancing, Change, World

__all__ = ["pool_worlds"]

_POD = replicas(1, 32)
_LIMITS = (16, 24, 30, 32, 34, 36, 40)
"""For one pod."""


def pool_worlds() -> Iterator[World]:
    for count in (2, 8):
        yield _pool(
            count,
            name=f"pool of {count}",
            title=f"{count} pods of 32 seats, the least loaded is picked",
        )
    yield _pool(
        4,
        name="pool of 4, in turn",
        title="4 pods of 32 seats, picked in turn whatever their load",
        balancing=Balancing.IN_TURN,
    )
    yield _pool(
        4,
        name="pool of 4, refuses",
        title="4 pods of 32 seats without a queue",
        capacity=replace(_POD, queue_limit=0),
        others=(replace(_POD, queue_limit=0),) * 3,
        aims=Aims(goodput=0.9, refused=0.02),
    )
    yield from _changing_pools()


def _changing_pools() -> Iterator[World]:
    yield _pool(
        4,
        name="pool, one dies",
        title="one of 4 pods dies with what it runs at 70 s and is back at 140 s",
        changes=(Change(70, None, resets=True, server=2), Change(140, _POD, server=2)),
        aims=Aims(goodput=0.9, lost=0),
    )
    yield _pool(
        3,
        name="pool, one joins",
        title="a pod joins two others at 80 s",
        others=(_POD, None),
        changes=(Change(80, _POD, server=2),),
        aims=Aims(goodput=0.9, wait=0.10),
    )
    yield _pool(
        8,
        name="pool, 1 to 8",
        title="one pod, and one more every 30 s",
        others=(None,) * 7,
        changes=tuple(Change(30.0 * number, _POD, server=number) for number in range(1, 8)),
        duration=240,
        aims=Aims(goodput=0.9),
    )


def _pool(count: int, **changed: object) -> World:
    pool = replace(
        QUEUES,
        group="pools",
        duration=200,
        capacity=_POD,
        others=(_POD,) * (count - 1),
        retry=PATIENT,
        aims=Aims(goodput=0.9, wait=0.10),
        oracle=scaled(_LIMITS, count),
    )
    return replace(pool, **changed)  # type: ignore[arg-type]
