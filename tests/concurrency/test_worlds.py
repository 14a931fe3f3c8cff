"""The controller in short worlds: simulated gateways, simulated time, the same on every run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import AIMD, Fixed, Ours, Policy
from benchmarks.worlds.record import Record
from benchmarks.worlds.simulation import simulate


def lived(name: str, policy: Policy, seconds: float) -> Record:
    return simulate(replace(WORLDS[name], duration=seconds), policy)


def test_a_run_repeats_exactly() -> None:
    first, second = (lived("flaky", Ours(), 60).figures() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("name", "best"), [("queues", 256), ("refuses", 100), ("flaky", 256)])
def test_finds_the_throughput_of_the_best_fixed_limit_without_being_told(
    name: str, best: int
) -> None:
    ours = lived(name, Ours(), 240)
    assert ours.tokens_per_second > 0.92 * lived(name, Fixed(best), 240).tokens_per_second
    assert ours.lost == 0


def test_what_every_answer_takes_on_its_way_is_not_taken_for_a_queue_of_others() -> None:
    far = replace(WORLDS["queues"], round_trip=1.0, duration=180)
    ours, best = simulate(far, Ours()), simulate(far, Fixed(384))
    assert ours.tokens_per_second > 0.9 * best.tokens_per_second


def test_keeps_the_queue_of_a_server_that_never_refuses_short() -> None:
    ours, usual = lived("queues", Ours(), 240), lived("queues", AIMD(), 240)
    assert ours.wait_share < 0.10
    assert usual.wait_share > 2


def test_few_sends_are_refused_where_the_number_of_seats_is_unknown() -> None:
    ours = lived("refuses", Ours(), 240)
    assert 0 < ours.refused_share < 0.02


@pytest.mark.parametrize("seed", [24, 43])
def test_sends_are_not_drawn_apart_for_good_where_half_of_them_are_refused_anyway(
    seed: int,
) -> None:
    world = replace(WORLDS["full replica, other queues"], seed=seed, duration=60)
    ours, best = simulate(world, Ours()), simulate(world, Fixed(200))
    assert ours.tokens_per_second > 0.5 * best.tokens_per_second


def test_random_errors_are_not_taken_for_overload() -> None:
    ours, usual = lived("flaky", Ours(), 240), lived("flaky", AIMD(), 240)
    assert ours.tokens_per_second > 2 * usual.tokens_per_second


def test_long_and_short_answers_are_not_taken_for_changes_of_load() -> None:
    ours, best = lived("long-tail", Ours(), 600), lived("long-tail", Fixed(256), 600)
    assert ours.tokens_per_second > 0.92 * best.tokens_per_second
    assert ours.wait_share < 0.15


@pytest.mark.parametrize("streamed", [False, True])
def test_millisecond_requests_go_at_thousands_a_second(streamed: bool) -> None:
    ours, best = lived("tiny", Ours(sees_first_token=streamed), 4), lived("tiny", Fixed(48), 4)
    assert ours.tokens_per_second > 0.93 * best.tokens_per_second


def test_follows_a_server_that_doubles_and_halves() -> None:
    ours, high = lived("changes", Ours(), 240), lived("changes", Fixed(512), 240)
    low = lived("changes", Fixed(256), 240)
    assert ours.tokens_per_second > 0.9 * high.tokens_per_second
    assert ours.tokens_per_second > 1.05 * low.tokens_per_second
    assert ours.wait_share < high.wait_share


@pytest.mark.parametrize(("seed", "streamed"), [(2, False), (4, True)])
def test_a_server_that_doubles_while_fewer_are_sent_to_try_is_noticed(
    seed: int, streamed: bool
) -> None:
    world = replace(WORLDS["changes"], seed=seed, duration=220)
    ours, best = simulate(world, Ours(sees_first_token=streamed)), simulate(world, Fixed(600))
    for doubled_at in (60, 180):
        settled = slice(int((doubled_at + 10) / 0.5), int((doubled_at + 40) / 0.5))
        assert sum(ours.tokens_by_bin[settled]) > 0.85 * sum(best.tokens_by_bin[settled])


def test_an_outage_loses_nothing_and_its_end_is_used_within_ten_seconds() -> None:
    ours = lived("scale-from-zero", Ours(), 150)
    assert ours.lost == 0
    assert ours.refused < 90
    settled = ours.tokens_by_bin[int(100 / 0.5) : int(140 / 0.5)]
    best = lived("scale-from-zero", Fixed(64), 150).tokens_by_bin[int(110 / 0.5) : int(140 / 0.5)]
    assert sum(settled) / len(settled) > 0.9 * sum(best) / len(best)


@pytest.mark.parametrize("name", ["two clients, refuses", "four clients, refuses"])
def test_nobody_starves_before_a_server_that_refuses_whom_it_has_no_seat_for(name: str) -> None:
    world = replace(WORLDS[name], seed=4)
    ours = simulate(world, *[Ours() for _ in world.clients])
    # Chance decides whose try meets a free seat: of eight seeds the least of four had 0.37 to 0.92.
    assert ours.least_share > 0.33
    assert ours.tokens_per_second > 0.9 * lived("refuses", Fixed(100), 300).tokens_per_second


def test_who_comes_later_to_a_queue_comes_to_a_like_share() -> None:
    world = WORLDS["two clients, one by one"]
    runs = [simulate(replace(world, seed=seed), Ours(), Ours()) for seed in range(1, 5)]
    assert sum(run.least_share for run in runs) / len(runs) > 0.65
    assert min(run.least_share for run in runs) > 0.35
