"""The controller beside interactive users who come in bursts, on servers of other sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Fixed, Ours, Policy
from benchmarks.worlds.record import Record
from benchmarks.worlds.simulation import simulate


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
