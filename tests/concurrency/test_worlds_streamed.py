"""The controller alone at servers that stream: what is heard late there is nobody's doing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Fixed, Ours
from benchmarks.worlds.simulation import simulate


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("busy client", 32),
        ("busy client, slow server", 300),
        ("wobble 1..4, 256 seats", 270),
        ("pool, one joins", 102),
    ],
)
def test_what_makes_first_tokens_late_is_not_taken_for_others(
    name: str, best: int, seed: int
) -> None:
    world = replace(WORLDS[name], seed=seed)
    fixed = Fixed(best)
    fixed.sees_first_token = True
    found = simulate(world, Ours(sees_first_token=True)).tokens_per_second
    assert found > 0.75 * simulate(world, fixed).tokens_per_second
