"""People on the same server, whom a batch is to leave their room without being told of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.worlds.catalogue.servers import FAST_GPU, grown, scaled
from benchmarks.worlds.lengths import Lengths, LogNormal, Uniform
from benchmarks.worlds.world import Aims, Burst, Interactive, World

__all__ = ["SHARED", "people_worlds"]

LIMITS = (16, 32, 64, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_PEOPLE = Interactive(
    rate=10.0,
    lengths=Lengths(prompt=LogNormal(800, 0.8, 50, 6000), output=Uniform(150)),
    burst=Burst(size=40, every=30, width=4, first=20),
)

SHARED = World(
    name="shared",
    title="interactive users with bursts on the same server",
    group="people",
    capacity=FAST_GPU,
    lengths=Lengths(prompt=Uniform(100), output=Uniform(256)),
    duration=1800,
    interactive=_PEOPLE,
    aims=Aims(ttft=1.25, ttft_unseen=1.5, leftover=0.7),
    oracle=LIMITS,
)


def people_worlds() -> Iterator[World]:
    yield SHARED
    for share in (0.25, 2.0):
        seats = round(share * FAST_GPU.seats)
        yield replace(
            SHARED,
            name=f"shared, {seats} seats",
            title=f"{seats} seats, with people in proportion",
            capacity=grown(FAST_GPU, share),
            interactive=_crowd(share),
            oracle=scaled(LIMITS, share),
        )
    for times in (2, 4):
        yield replace(
            SHARED,
            name=f"shared, answers {times} times as long",
            title=f"answers of the batch {times} times as long",
            lengths=Lengths(prompt=Uniform(100), output=Uniform(256 * times)),
        )
    for share, words in ((0.5, "half the people"), (1.6, "1.6 times the people")):
        yield replace(
            SHARED,
            name=f"shared, {words}",
            title=words,
            interactive=_crowd(share),
        )
    yield from _other_days()


def _other_days() -> Iterator[World]:
    yield replace(
        SHARED,
        name="shared, drift",
        title="a day of half an hour: from a fifth of the people to 1.8 times as many and back",
        interactive=replace(_PEOPLE, drift=(1800.0, 0.8)),
    )
    yield replace(
        SHARED,
        name="shared, lulls",
        title="nobody comes for ten minutes, twice",
        interactive=replace(_PEOPLE, lulls=((300.0, 900.0), (1200.0, 1800.0))),
        duration=2100,
    )
    yield replace(
        SHARED,
        name="shared, no bursts",
        title="15 users a second, at random alone",
        interactive=replace(_PEOPLE, rate=15.0, burst=None),
    )


def _crowd(share: float) -> Interactive:
    assert _PEOPLE.burst is not None
    burst = replace(_PEOPLE.burst, size=round(share * _PEOPLE.burst.size))
    return replace(_PEOPLE, rate=share * _PEOPLE.rate, burst=burst)
