"""The worlds with other seeds, sizes, lengths and people: `python -m benchmarks.worlds --seeds 3`.

What holds in one run of one world may be luck; the worst over seeds and variations is told here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from batch_gateway.simulator.capacity import Capacity
from benchmarks.tables import print_table
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.judgement import trade_off_of
from benchmarks.worlds.suite import best_fixed, run, settling_times
from benchmarks.worlds.world import Interactive, Lengths, World, uniform

__all__ = ["Figures", "print_variations", "variations", "worst_over_seeds"]

OURS = ("adaptive", "adaptive, streamed")
_COLUMNS = ("", "", "goodput", "refused", "wait", "lost", "new level, s", "p99 TTFT", "leftover")


class Figures(NamedTuple):
    """The worst of several runs; None for what a world does not aim at."""

    goodput: float | None
    refused: float
    wait: float
    lost: int
    settle: float | None
    ttft: float | None
    leftover: float | None


def print_variations(seeds: int) -> None:
    """One row for each world, variation and form, the worst over so many seeds."""
    rows: list[list[str]] = []
    for world in (*WORLDS.values(), *variations()):
        for contender in OURS:
            figures = worst_over_seeds(world, contender, seeds)
            shown = ["" if figure is None else f"{figure:.3g}" for figure in figures]
            rows.append([world.name, contender, *shown])
    print_table(f"the worst of {seeds} seeds", list(_COLUMNS), rows)


def worst_over_seeds(world: World, contender: str, seeds: int) -> Figures:
    found = [_figures(replace(world, seed=seed + 1), contender) for seed in range(seeds)]
    return Figures(
        goodput=_least([one.goodput for one in found]),
        refused=max(one.refused for one in found),
        wait=max(one.wait for one in found),
        lost=max(one.lost for one in found),
        settle=_most([one.settle for one in found]),
        ttft=_most([one.ttft for one in found]),
        leftover=_least([one.leftover for one in found]),
    )


def _figures(world: World, contender: str) -> Figures:
    ours = run(world, contender)
    goodput = settle = ttft = leftover = None
    if world.interactive is not None:
        leftover, ttft = trade_off_of(world, contender)
    else:
        best = best_fixed(world)[1].figures["tokens_per_second"]
        goodput = ours.figures["tokens_per_second"] / best
    if world.aims.settle is not None:
        settle = max(settling_times(world, ours))
    figures = ours.figures
    refused, wait, lost = figures["refused_share"], figures["wait_share"], figures["lost"]
    return Figures(goodput, refused, wait, lost, settle, ttft, leftover)


def _least(values: list[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _most(values: list[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


# -- variations ----------------------------------------------------------------------------


def variations() -> Iterator[World]:
    """Worlds like `queues` and `shared`, of other sizes, lengths and people."""
    queues, shared = WORLDS["queues"], WORLDS["shared"]
    assert queues.capacity is not None
    assert shared.capacity is not None
    assert shared.interactive is not None
    for share in (0.25, 2.0):
        yield _sized(queues, share)
    yield _named(
        queues, "longer answers", lengths=Lengths(prompt=uniform(200), output=uniform(128))
    )
    for share in (0.25, 2.0):
        people = _people(shared.interactive, share)
        yield replace(_sized(shared, share), interactive=people, duration=1800)
    yield _named(
        shared,
        "longer answers",
        lengths=Lengths(prompt=uniform(100), output=uniform(512)),
        duration=1800,
    )
    for share, name in ((0.5, "half the people"), (1.6, "1.6 times the people")):
        yield _named(shared, name, interactive=_people(shared.interactive, share), duration=1800)


def _named(world: World, name: str, **changed: object) -> World:
    return replace(world, name=f"{world.name}, {name}", **changed)  # type: ignore[arg-type]


def _sized(world: World, share: float) -> World:
    assert world.capacity is not None
    return _named(
        world,
        f"{round(share * world.capacity.seats)} seats",
        capacity=_grown(world.capacity, share),
        oracle=tuple(max(1, round(share * limit)) for limit in world.oracle),
    )


def _grown(capacity: Capacity, share: float) -> Capacity:
    """As if by so many times the servers, which share the load evenly."""
    return replace(
        capacity,
        seats=round(share * capacity.seats),
        load_growth=capacity.load_growth / share,
        prefill_tokens_per_second=capacity.prefill_tokens_per_second * share,
        prefill_chunk_tokens=round(capacity.prefill_chunk_tokens * share),
    )


def _people(people: Interactive, share: float) -> Interactive:
    assert people.burst is not None
    burst = replace(people.burst, size=round(share * people.burst.size))
    return replace(people, rate=share * people.rate, burst=burst)
