"""Gateways that refuse for other reasons than a full server: by chance, by quota, by a replica."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.catalogue.plain import QUEUES, REFUSES
from benchmarks.worlds.catalogue.servers import (
    PATIENT,
    QUICK,
    QUICK_ANSWERS,
    QUICK_LIMITS,
    replicas,
)
from benchmarks.worlds.world import Aims, Balancing, Chance, Change, Quota, World

__all__ = ["chance_worlds", "quota_worlds", "replica_worlds"]

_RETRY_AFTER = 1.0  # whole seconds (RFC 9110, 10.2.3)
_RESET = 0.001  # x-ratelimit-reset-requests of OpenAI


def chance_worlds() -> Iterator[World]:
    queues = replace(QUEUES, group="chance", retry=PATIENT)
    refuses = replace(REFUSES, group="chance", retry=PATIENT)
    for share in (0.01, 0.02, 0.05, 0.2):
        aims = Aims(goodput=0.9 if share <= 0.05 else 0.8, wait=0.10)
        yield _chance(queues, share, aims=aims)
        yield _chance(queues, share, retry_after=1.0, aims=aims)
    yield _chance(refuses, 0.05, aims=Aims(goodput=0.9))
    yield _chance(refuses, 0.2, retry_after=1.0, aims=Aims(goodput=0.8))
    quick = replace(queues, capacity=QUICK, lengths=QUICK_ANSWERS, oracle=QUICK_LIMITS, duration=60)
    yield _chance(quick, 0.02, ", 100 ms", aims=Aims(goodput=0.9, wait=0.10))
    yield replace(
        queues,
        name="chance comes and goes",
        title="10 % refused by chance from 100 to 200 s",
        chance=Chance(0.1, since=100, until=200),
        aims=Aims(goodput=0.9, wait=0.10),
    )


def _chance(
    world: World, share: float, suffix: str = "", *, retry_after: float | None = None, aims: Aims
) -> World:
    refuses = ", refuses" if world.capacity == REFUSES.capacity else ""
    told = ", Retry-After" if retry_after else ""
    return replace(
        world,
        name=f"chance {share:.0%}{refuses}{told}{suffix}",
        title=f"{share:.0%} of requests refused by chance, whatever the load",
        chance=Chance(share, retry_after),
        aims=aims,
    )


def quota_worlds() -> Iterator[World]:
    quota = replace(
        QUEUES, group="quota", retry=PATIENT, duration=600, aims=Aims(quota=0.9, refused=0.05)
    )
    limits = (4, 8, 10, 12, 13, 14, 15, 16, 20)
    yield replace(
        quota,
        name="quota",
        title="600 a minute, 50 at once, then a plain 429",
        quota=Quota(10, 50),
        oracle=limits,
    )
    yield replace(
        quota,
        name="quota, Retry-After",
        title="the same, and the refusal tells when there is room, in whole seconds",
        quota=Quota(10, 50, told=_RETRY_AFTER),
        oracle=limits,
    )
    yield replace(
        quota,
        name="quota, x-ratelimit",
        title="the same, told in milliseconds",
        quota=Quota(10, 50, told=_RESET),
        oracle=limits,
    )
    yield replace(
        quota,
        name="quota, slow",
        title="one in two seconds, 5 at once",
        quota=Quota(0.5, 5),
        oracle=(1, 2, 4, 8),
    )
    yield replace(
        quota,
        name="quota, near capacity",
        title="60 a second, where the server brings 61",
        quota=Quota(60, 100),
        duration=300,
        oracle=(64, 96, 110, 128, 144, 160, 200, 256),
    )
    yield replace(
        quota,
        name="quota, quick",
        title="100 a second, 200 at once, answers of 100 ms",
        capacity=QUICK,
        lengths=QUICK_ANSWERS,
        quota=Quota(100, 200),
        duration=100,
        oracle=(2, 4, 6, 8, 9, 10, 11, 12, 16),
    )


def replica_worlds() -> Iterator[World]:
    """Two servers, one of which others fill up; from 150 s on it has room again."""
    refusing = replace(replicas(1, 64), queue_limit=0)
    full = replace(refusing, seats=2)
    two = replace(
        QUEUES,
        group="replica",
        title="two replicas, others hold all but 2 seats of one until 150 s",
        capacity=refusing,
        others=(full,),
        changes=(Change(150, refusing, server=1),),
        retry=PATIENT,
        aims=Aims(goodput=0.9),
        oracle=(48, 64, 72, 96, 128, 160, 200),
    )
    yield replace(two, name="full replica, in turn", balancing=Balancing.IN_TURN)
    yield replace(two, name="full replica, at random", balancing=Balancing.AT_RANDOM)
    yield replace(
        two,
        name="full replica, other queues",
        title="the same for all the time; the other replica queues",
        capacity=replicas(1, 64),
        changes=(),
        balancing=Balancing.AT_RANDOM,
    )
    yield _full_of_eight(full)


def _full_of_eight(full: Capacity) -> World:
    refusing = replace(full, seats=32)
    return replace(
        QUEUES,
        name="full replica of eight",
        title="eight replicas of 32 seats in turn, one of which is full",
        group="replica",
        duration=150,
        capacity=refusing,
        others=(full, *[refusing] * 6),
        balancing=Balancing.IN_TURN,
        retry=PATIENT,
        aims=Aims(goodput=0.9),
        oracle=(160, 192, 208, 224, 256, 288, 320),
    )
