"""Policies that know more than a client can, in short worlds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batch_gateway.concurrency.events import Ended, Started
from benchmarks.worlds import suite
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.knowing import KnowsPace, KnowsQuotas, KnowsServer, KnowsSize
from benchmarks.worlds.knowing_people import KnowsPeople, Told, ways_of
from benchmarks.worlds.lengths import Lengths, Same
from benchmarks.worlds.policies import Fixed, policy_named
from benchmarks.worlds.policy import Policy
from benchmarks.worlds.record import Record
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.suite import best_fixed, best_way, used_and_ttft
from benchmarks.worlds.world import Quota, World


@pytest.fixture(autouse=True)
def _results_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "OUT", tmp_path)


def short(name: str, seconds: float) -> World:
    return replace(WORLDS[name], duration=seconds)


def lived(world: World, policy: Callable[[], Policy]) -> Record:
    return simulate(world, *[policy() for _ in world.clients])


@pytest.mark.parametrize(
    "name", ["queues", "changes", "wobble 1..4, 256 seats", "pool of 4, in turn"]
)
def test_who_knows_the_server_fills_it_and_nobody_waits(name: str) -> None:
    world = short(name, 70)
    found = lived(world, KnowsServer)
    best = simulate(world, Fixed(world.oracle[-1]))
    assert found.wait_share == pytest.approx(0, abs=1e-6)
    assert found.tokens_per_second > 0.93 * best.tokens_per_second


@pytest.mark.parametrize(
    "name", ["quota", "quota, near capacity", "quota of each minute", "refuses"]
)
def test_who_knows_the_server_is_never_refused(name: str) -> None:
    found = lived(short(name, 60), KnowsServer)
    assert found.refused == 0
    assert found.completed > 600


def test_of_several_who_know_the_server_each_has_its_share() -> None:
    assert lived(short("four clients, one by one", 260), KnowsServer).least_share > 0.98


def test_nothing_is_sent_to_a_server_that_is_dead() -> None:
    found = lived(short("pool, one dies", 140), KnowsServer)
    assert found.errors <= 33  # what it ran


def test_who_learns_the_size_from_answers_lets_some_wait_when_it_falls() -> None:
    halves = short("changes", 170)
    assert 0 < lived(halves, KnowsSize).wait_share < 0.1


@pytest.mark.parametrize("quota", [Quota(0.3, 2), Quota(3, 100), Quota(20, 10)])
def test_who_knows_quotas_finds_one_of_any_size(quota: Quota) -> None:
    found = lived(replace(WORLDS["quota"], quota=quota), KnowsQuotas)
    granted = quota.burst + quota.per_second * found.world.duration
    assert found.completed > 0.95 * granted
    assert found.refused < 30


class _Watched(KnowsPace):
    """Remembers how long answers took for the controller."""

    def __init__(self) -> None:
        super().__init__()
        self.took: list[float] = []

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        self.took.append(self._clock() - started.at)


def test_for_who_knows_the_pace_a_server_that_wobbles_is_steady() -> None:
    wobbles = short("wobble 1..4", 20)
    assert wobbles.capacity is not None
    steady = replace(wobbles.capacity, jitter=0.0)
    alike = Lengths(prompt=Same(1), output=Same(45))
    watched = _Watched()
    simulate(replace(wobbles, capacity=steady, lengths=alike, round_trip=0.0), watched)
    first = watched.took[:16]
    assert max(first) - min(first) < 0.003
    assert min(watched.took) > 0.08


# -- people --------------------------------------------------------------------------------


def test_every_way_of_knowing_people_is_a_contender() -> None:
    names = [name for told in Told for name in ways_of(told)]
    assert len(set(names)) == len(names)
    for name in names:
        made = policy_named(name)
        assert isinstance(made, KnowsPeople)
        assert made.name == name


def test_the_sooner_people_are_known_the_less_they_wait() -> None:
    world = short("shared, 64 seats", 300)
    ahead, now, late = (
        used_and_ttft(world, f"{told.value}, 10% free, {seconds} s")
        for told, seconds in ((Told.AHEAD, 4), (Told.NOW, 0), (Told.ANSWERS, 0))
    )
    assert ahead[1] < 1.25
    assert now[1] < 1.25
    assert late[1] > 1.5
    assert used_and_ttft(world, f"{Told.LAW.value}, 20% free, 0 s")[1] < 1.25
    assert min(ahead[0], now[0], late[0]) > 0.7


def test_the_best_way_is_the_one_that_uses_most_of_those_that_are_kind() -> None:
    world = short("shared, 64 seats", 150)
    best = best_way(world, Told.NOW)
    used, ttft = used_and_ttft(world, best)
    others = [used_and_ttft(world, name) for name in ways_of(Told.NOW)]
    assert ttft <= 1.25
    assert used == max(other for other, wait in others if wait <= 1.25)


def test_what_knows_more_is_kept_whatever_becomes_of_the_controller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def changed() -> bytes:
        raise AssertionError("looked at the controller")

    world = short("queues", 5)
    monkeypatch.setattr(suite, "_of_controllers", changed)
    for name in ("fixed 16", KnowsServer.name, KnowsQuotas.name):
        suite.run(world, name)
    with pytest.raises(AssertionError):
        suite.run(world, KnowsPace.name)


def test_who_knows_the_server_does_as_well_as_the_best_fixed_limit() -> None:
    world = short("refuses", 40)
    best = best_fixed(world)[1].figures["tokens_per_second"]
    assert lived(world, KnowsServer).tokens_per_second == pytest.approx(best, rel=0.02)
