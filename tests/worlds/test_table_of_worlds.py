"""The table of worlds: what its figures are, and the worlds that it is of."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.worlds import suite
from benchmarks.worlds.catalogue import GROUPS, WORLDS
from benchmarks.worlds.lengths import Few, Lengths, LogNormal, Pareto, Same, Uniform
from benchmarks.worlds.policies import Fixed, Ours, policy_named
from benchmarks.worlds.pool import Pool
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.suite import best_fixed, kindest_fixed, run, used_and_ttft
from benchmarks.worlds.table import Cell, Figures, aims_of, cell, row
from benchmarks.worlds.world import Aims, World


@pytest.fixture(autouse=True)
def _results_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "OUT", tmp_path)


def short(name: str, seconds: float) -> World:
    return replace(WORLDS[name], duration=seconds)


def cell_of(*runs: Figures, aims: Aims, contender: str = "adaptive") -> Cell:
    return Cell(replace(short("queues", 5), oracle=(64,), aims=aims), contender, (1,), runs)


def missed(found: Cell) -> list[str]:
    return [aim.what for aim in aims_of(found) if not aim.met]


# -- worlds --------------------------------------------------------------------------------


@pytest.mark.parametrize("group", list(GROUPS))
def test_a_world_of_every_group_repeats_exactly_and_differs_by_seed(group: str) -> None:
    world = short(GROUPS[group][-1], 10)
    first, again, other = (
        simulate(replace(world, seed=seed), *[Ours() for _ in world.clients]) for seed in (4, 4, 5)
    )
    assert first.figures() == again.figures()
    assert first.tokens_by_bin == again.tokens_by_bin
    assert first.figures() != other.figures()


def test_every_world_has_rising_limits_to_try_and_an_aim() -> None:
    for world in WORLDS.values():
        assert list(world.oracle) == sorted(set(world.oracle)), world.name
        assert world.aims != Aims(), world.name


def test_no_two_worlds_are_the_same() -> None:
    assert len({world.happens for world in WORLDS.values()}) == len(WORLDS)


@pytest.mark.parametrize(
    "draw",
    [Same(7), Uniform(64), LogNormal(150, 1.2, 5, 4000), Few(((0.5, 8), (0.5, 90)))],
)
def test_what_happens_is_known_by_its_numbers(draw: object) -> None:
    """So that results of one distribution are never taken for another's."""
    assert "0x" not in repr(draw)


def test_no_two_seeds_and_no_two_servers_have_the_same_jitter() -> None:
    world = replace(WORLDS["pool of 2"], lengths=Lengths(prompt=Same(1), output=Same(64)))
    first, other = (Pool(replace(world, seed=seed)).pods for seed in (1, 2))
    times = [pod.batch.capacity.step_time(1) for pod in (*first, *other)]
    assert len(set(times)) == 4


def test_no_world_has_a_part_without_its_numbers() -> None:
    assert not [world.name for world in WORLDS.values() if " at 0x" in world.happens]


def test_pareto_tails_are_as_heavy_as_they_say() -> None:
    draws = random.Random(1)
    drawn = [Pareto(1.2, 20, 8000)(draws) for _ in range(20_000)]
    assert min(drawn) == 20
    assert max(drawn) == 8000
    longer = sum(one > 200 for one in drawn) / len(drawn)
    assert longer == pytest.approx(10**-1.2, rel=0.1)


# -- figures -------------------------------------------------------------------------------


def test_a_fixed_limit_beside_the_best_one_is_its_own_share() -> None:
    world = short("refuses", 20)
    limit, best = best_fixed(world)
    assert limit in (99, 100, 101)
    [half] = cell(world, "fixed 50", [1]).runs
    expected = run(world, "fixed 50").figures["tokens_per_second"]
    assert half.goodput == pytest.approx(expected / best.figures["tokens_per_second"])


def test_other_seeds_try_only_the_best_of_the_first_and_its_neighbours(tmp_path: Path) -> None:
    world = short("refuses", 20)
    best_fixed(world)
    first = len(list(tmp_path.rglob("*.json")))
    best_fixed(replace(world, seed=2))
    assert first == len(world.oracle)
    assert len(list(tmp_path.rglob("*.json"))) == first + 3


def test_a_run_is_kept_and_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = short("refuses", 10)
    first = run(world, "fixed 50")
    monkeypatch.setattr(suite, "simulate", None)
    assert run(world, "fixed 50") == first


@pytest.mark.parametrize("change", [{"seed": 2}, {"duration": 11.0}, {"errors": 0.5}])
def test_another_world_is_not_taken_for_one_that_was_kept(change: dict[str, float]) -> None:
    world = short("refuses", 10)
    assert run(world, "fixed 50") != run(replace(world, **change), "fixed 50")  # type: ignore[arg-type]


def test_a_quota_counts_its_burst_as_granted() -> None:
    # Ten a second and fifty at once, of which a few are still under way at the end.
    [found] = cell(short("quota", 60), "fixed 30", [1]).runs
    assert 0.96 < (found.quota or 0) <= 1


def test_who_knows_the_people_takes_the_most_that_is_still_kind() -> None:
    world = replace(short("shared", 120), oracle=(16, 64, 128, 400))
    limit, used, ttft = kindest_fixed(world, (1,))
    assert limit in (64, 128)
    assert 0.3 < used < 1
    assert ttft <= 1.25


def test_who_knows_the_people_is_judged_by_the_seed_that_is_worst() -> None:
    world = replace(short("shared", 120), oracle=(64, 128))
    both = kindest_fixed(world, (1, 2))
    each = [used_and_ttft(replace(world, seed=seed), f"fixed {both[0]}") for seed in (1, 2)]
    assert both[1] == min(used for used, _ in each)
    assert both[2] == max(ttft for _, ttft in each)


def test_mean_and_worst_are_told_of_several_seeds() -> None:
    found = cell_of(
        Figures(0.9, 0.02, 0.0, 0), Figures(0.8, 0.30, 0.01, 4), aims=Aims(goodput=0.9, wait=0.1)
    )
    shown = row(found)
    assert shown[:4] == ["0.850 (0.800)", "30.0%", "1.0%", "4"]
    assert shown[-1] == "missed: goodput, wait"


def test_an_aim_is_met_by_the_worst_seed_alone() -> None:
    good, bad = Figures(0.95, 0.0, 0.01, 0), Figures(0.89, 0.0, 0.06, 1)
    aims = Aims(goodput=0.9, refused=0.05, lost=0)
    assert missed(cell_of(good, good, aims=aims)) == []
    assert [what.partition(": ")[2] for what in missed(cell_of(good, bad, aims=aims))] == [
        "goodput",
        "refused",
        "lost",
    ]


def test_people_may_wait_longer_where_nothing_is_seen_of_them() -> None:
    aims = Aims(ttft=1.25, ttft_unseen=1.5, leftover=0.7)
    one = Figures(None, 0.0, 0.0, 0, used=0.8, ttft=1.4)
    assert missed(cell_of(one, aims=aims)) == []
    assert len(missed(cell_of(one, aims=aims, contender="adaptive, streamed"))) == 1


# -- contenders ----------------------------------------------------------------------------


def half(streamed: bool) -> Fixed:
    made = Fixed(50)
    made.sees_first_token = streamed
    return made


def test_any_policy_that_can_be_imported_is_a_contender() -> None:
    assert policy_named(f"{__name__}:half, streamed").sees_first_token
    assert not policy_named(f"{__name__}:half").sees_first_token
    world = short("refuses", 10)
    assert run(world, f"{__name__}:half").figures == run(world, "fixed 50").figures


def test_a_controller_that_can_be_imported_is_fed_as_the_products_own() -> None:
    world = short("refuses", 10)
    spec = f"{__name__}:controller"
    for form in ("", ", streamed", ", with metrics"):
        assert run(world, spec + form).figures == run(world, "adaptive" + form).figures


def controller() -> object:
    return Ours().controller


def test_an_unknown_name_is_no_policy() -> None:
    with pytest.raises(SystemExit, match="no policy"):
        policy_named("adaptiv")
