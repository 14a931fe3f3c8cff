"""The controller alone at servers that stream: what is heard late there is nobody's doing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Fixed, Ours
from benchmarks.worlds.simulation import simulate


@pytest.mark.parametrize(
    ("name", "best", "seeds", "least"),
    [
        ("busy client", 32, 1, 0.9),
        ("busy client, slow server", 300, 2, 0.8),
        ("wobble 1..4, 256 seats", 270, 3, 0.4),
        ("pool of 4, in turn", 144, 1, 0.9),
        ("full replica, in turn", 200, 1, 0.85),
    ],
)
def test_what_makes_first_tokens_late_is_not_taken_for_others(
    name: str, best: int, seeds: int, least: float
) -> None:
    shares: list[float] = []
    for seed in range(1, seeds + 1):
        world = replace(WORLDS[name], seed=seed)
        fixed = Fixed(best)
        fixed.sees_first_token = True
        found = simulate(world, Ours(sees_first_token=True)).tokens_per_second
        shares.append(found / simulate(world, fixed).tokens_per_second)
    assert sum(shares) > 0.8 * len(shares), shares
    assert min(shares) > least, shares
