"""The controller beside interactive users who come in bursts, on servers of other sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Fixed, Ours, Policy
from benchmarks.worlds.record import Record
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.world import World


def lived(name: str, seed: int, policy: Policy) -> Record:
    return simulate(replace(WORLDS[name], seed=seed, duration=600), policy)


@pytest.mark.parametrize(
    ("name", "seed"), [("shared, 512 seats", 1), ("shared, 1.6 times the people", 3)]
)
def test_a_burst_during_the_first_climb_is_not_taken_for_the_end_of_the_server(
    name: str, seed: int
) -> None:
    ours, all_of_it = (lived(name, seed, policy) for policy in (Ours(), Fixed(1_000)))
    assert ours.tokens_per_second > 0.6 * all_of_it.tokens_per_second


@pytest.mark.parametrize("seed", [1, 2])
def test_a_raise_that_makes_a_queue_is_taken_back_at_once_where_answers_are_streamed(
    seed: int,
) -> None:
    world = replace(WORLDS["shared"], duration=120, seed=seed)
    alone = simulate(replace(world, duration=900), Fixed(0)).first_token_p99
    waited = [ttft for ttft in ours_streamed(world).first_tokens if ttft > 1.25 * alone]
    # A queue that stands until its round is over would harm four times as many.
    assert len(waited) < 120


def ours_streamed(world: World) -> Record:
    return simulate(world, Ours(sees_first_token=True))
