"""What a simulated world's gateway refuses by itself, and a client that is short of CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.client import Cpu
from benchmarks.worlds.policies import Fixed
from benchmarks.worlds.record import Record
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.world import Busy, Chance, Quota, World

QUEUES = replace(WORLDS["chance 5%"], duration=60)


def lived(world: World, limit: int = 64) -> Record:
    return simulate(world, Fixed(limit))


@pytest.mark.parametrize("told", [0.0, 0.001, 1.0])
def test_a_quota_is_what_is_answered_however_many_are_sent(told: float) -> None:
    found = lived(replace(QUEUES, chance=None, quota=Quota(10, 50, told=told)))
    assert found.completed == pytest.approx(650, abs=65)
    assert found.refused > 0


def test_a_quota_of_each_minute_grants_all_at_once_and_nothing_more_until_the_next() -> None:
    quota = Quota(1, window=60)
    found = lived(replace(QUEUES, chance=None, quota=quota, duration=90))
    # The clock's minute ends in the middle of ours.
    assert found.completed == 120
    refused = [index / 2 for index, count in enumerate(found.refused_by_bin) if count]
    assert not [at for at in refused if 36 < at < 37]
    assert max(refused) > 80


def test_a_quota_of_tokens_counts_answers_when_they_end() -> None:
    quota = Quota(64, window=60, of_tokens=True)
    found = lived(replace(QUEUES, chance=None, quota=quota, duration=90))
    granted = quota.granted(120)
    # What ran when the last one ended is more than was granted.
    assert granted < found.tokens < granted + 2 * 64 * 100


def test_others_take_of_a_quota_and_give_it_back() -> None:
    quota = Quota(10, 10, later=((20.0, 2.0), (40.0, 10.0)))
    assert quota.granted(60) == 10 + 200 + 40 + 200
    found = lived(replace(QUEUES, chance=None, quota=quota))
    assert found.completed == pytest.approx(450, abs=45)


@pytest.mark.parametrize("limit", [8, 128])
@pytest.mark.parametrize("share", [0.02, 0.2])
def test_chance_refuses_its_share_whatever_is_in_flight(limit: int, share: float) -> None:
    found = lived(replace(QUEUES, chance=Chance(share), duration=300), limit)
    assert found.refused_share == pytest.approx(share, rel=0.35)


def test_chance_refuses_only_while_it_lasts() -> None:
    found = lived(replace(QUEUES, chance=Chance(0.5, since=20, until=40)))
    refused = [index / 2 for index, count in enumerate(found.refused_by_bin) if count]
    assert refused
    assert min(refused) >= 20
    assert max(refused) < 41


def test_answers_wait_for_the_cpu_of_their_client_in_order() -> None:
    cpu = Cpu(Busy(0.1), "1")
    assert [cpu.heard(5.0) for _ in range(3)] == pytest.approx([5.1, 5.2, 5.3])
    assert cpu.heard(9.0) == pytest.approx(9.1)


def test_a_pause_delays_all_that_arrive_in_it() -> None:
    cpu = Cpu(Busy(0.0, pauses_every=1.0, pause=0.5), "1")
    heard = [cpu.heard(at / 100) for at in range(1_000)]
    late = [round(when - at / 100, 6) for at, when in enumerate(heard)]
    assert heard == sorted(heard)
    assert 0 < sum(delay > 0 for delay in late) < 500
    assert max(late) <= 1.0


def test_a_busy_client_hears_no_more_answers_than_its_cpu_can_read() -> None:
    world = replace(WORLDS["busy client"], duration=20)
    few, many = (simulate(world, Fixed(limit)) for limit in (40, 128))
    assert few.completed == pytest.approx(20 / 0.004, rel=0.05)
    assert many.completed == pytest.approx(few.completed, rel=0.02)
    # More in flight only wait for the client itself.
    assert many.latency_sum / many.completed > 2 * few.latency_sum / few.completed
    assert many.wait_share < 0.01


def test_each_of_several_clients_has_its_own_limit_and_start() -> None:
    world = replace(WORLDS["two clients"], duration=40, clients=(0.0, 20.0))
    found = simulate(world, Fixed(20), Fixed(60))
    assert found.in_flight_by_bin[20] == pytest.approx(20, abs=1)
    assert found.in_flight_by_bin[70] == pytest.approx(80, abs=2)
    assert found.least_share == pytest.approx(0.5, abs=0.08)
    with pytest.raises(ValueError, match="2 clients"):
        simulate(world, Fixed(20))
