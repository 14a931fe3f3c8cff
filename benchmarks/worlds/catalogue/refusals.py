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

__all__ = ["cap_worlds", "chance_worlds", "quota_worlds", "replica_worlds"]

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
    yield replace(
        quota,
        name="quota, others take half",
        title="600 a minute, 50 at once, of which others take half from 200 to 400 s",
        quota=Quota(10, 50, later=((200.0, 5.0), (400.0, 10.0))),
        oracle=limits,
    )
    yield replace(
        quota,
        name="quota, chance 3%",
        title="600 a minute, 50 at once, and 3 % refused by chance",
        quota=Quota(10, 50),
        chance=Chance(0.03),
        aims=Aims(quota=0.9, refused=0.08),
        oracle=limits,
    )
    yield from _quotas_of_each_minute(quota)


def _quotas_of_each_minute(quota: World) -> Iterator[World]:
    """As the rate limit service of Envoy counts: all of a minute's at once, on the clock. What
    answers took is charged when they end, as by Envoy AI Gateway."""
    limits = (4, 8, 12, 14, 15, 16, 20, 32, 64)
    requests = Quota(10, window=60)
    tokens = Quota(640, window=60, of_tokens=True)
    for suffix, told in (("", 0.0), (", Retry-After", _RETRY_AFTER)):
        yield replace(
            quota,
            name=f"quota of each minute{suffix}",
            title="600 in each minute, and everything refused until the next one",
            quota=replace(requests, told=told),
            oracle=limits,
        )
        yield replace(
            quota,
            name=f"quota of tokens{suffix}",
            title="38,400 output tokens in each minute, known when an answer ends",
            quota=replace(tokens, told=told),
            oracle=limits,
        )
    yield replace(
        quota,
        name="quota of each minute, small",
        title="30 in each minute",
        quota=Quota(0.5, window=60),
        duration=1_800,
        oracle=(1, 2, 4, 8),
    )


def cap_worlds() -> Iterator[World]:
    """As many of a key in flight as somebody has set."""
    capped = replace(REFUSES, group="caps", aims=Aims(goodput=0.9, refused=0.05))
    yield replace(
        capped,
        name="refuses, changes",
        title="429 above 100 in flight, from 100 s on above 40, from 200 s on above 160",
        changes=(Change(100, _cap(40)), Change(200, _cap(160))),
        oracle=(30, 40, 60, 80, 100, 120, 140, 160),
    )
    yield replace(
        capped,
        name="refuses, Retry-After",
        title="429 above an unknown number of seats, and one minute is asked for each time",
        retry_after=60.0,
    )


def _cap(seats: int) -> Capacity:
    assert REFUSES.capacity is not None
    return replace(REFUSES.capacity, seats=seats)


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
