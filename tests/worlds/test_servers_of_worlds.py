"""What happens to the servers of simulated worlds: slow clocks, balancers, deaths."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from batch_gateway.simulator.batching import EventKind
from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.lengths import Lengths, Same
from benchmarks.worlds.policies import Fixed
from benchmarks.worlds.pool import NOTICED_AFTER, Pool
from benchmarks.worlds.record import BIN, Record
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.world import Balancing, Change, Stalls, Wobble, World

# An answer of ten tokens takes one second, however many run.
SERVER = Capacity(
    seats=4, time_per_token=0.1, load_growth=0.0, prefill_tokens_per_second=1e9, jitter=0.0
)
STEADY = replace(
    WORLDS["queues"],
    capacity=SERVER,
    lengths=Lengths(prompt=Same(1), output=Same(10)),
    duration=60,
    round_trip=0.0,
)


def pool_of(count: int, balancing: Balancing = Balancing.LEAST_LOADED) -> Pool:
    return Pool(replace(STEADY, others=(SERVER,) * (count - 1), balancing=balancing))


def ends(pool: Pool) -> float:
    """When what runs has its last token."""
    while (at := pool.next_event_time()) is not None:
        if any(kind is EventKind.FINISHED for kind, _ in pool.advance(at)):
            return at
    raise AssertionError("nothing ran")


def lived(world: World, limit: int) -> Record:
    return simulate(world, Fixed(limit))


def rate(found: Record, since: float, until: float) -> float:
    """Tokens a second."""
    return sum(found.tokens_by_bin[int(since / BIN) : int(until / BIN)]) / (until - since)


# -- clocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1.0, 1.7, 4.0])
def test_a_slower_clock_makes_every_answer_so_many_times_as_long(times: float) -> None:
    pool = pool_of(1)
    pool.set_pace(1 / times, 3.0)
    pool.submit(pool.pods[0], "line", 1, 10, 5.0)
    assert ends(pool) == pytest.approx(5 + times)


def test_an_answer_under_way_is_slowed_down_for_the_rest_of_it() -> None:
    pool = pool_of(1)
    pool.submit(pool.pods[0], "line", 1, 10, 0.0)
    pool.set_pace(0.5, 0.5)
    assert ends(pool) == pytest.approx(1.5)


def test_nothing_happens_while_a_server_stands_still() -> None:
    pool = pool_of(1)
    pool.submit(pool.pods[0], "line", 1, 10, 0.0)
    pool.set_pace(0.0, 0.5)
    assert pool.next_event_time() is None
    pool.submit(pool.pods[0], "another", 1, 10, 1.0)
    pool.set_pace(1.0, 2.5)
    assert ends(pool) == pytest.approx(3.0)


def test_latencies_of_a_wobbling_world_are_one_to_k_times_the_base() -> None:
    steady, wobbling = lived(STEADY, 4), lived(replace(STEADY, wobble=Wobble(3)), 4)
    mean, slowed = (run.latency_sum / run.completed for run in (steady, wobbling))
    # Time is what k is uniform in, so that work done goes with the mean of 1/k: ln(3) / 2.
    assert slowed / mean == pytest.approx(1.82, rel=0.1)


def test_a_server_that_stalls_makes_tokens_the_rest_of_the_time() -> None:
    steady = lived(STEADY, 4)
    stalled = lived(replace(STEADY, stalls=Stalls(20, 2)), 4)
    # Two stalls within a minute; the third would begin at its end.
    assert stalled.tokens == pytest.approx(steady.tokens * 56 / 60, rel=0.01)


# -- balancers -----------------------------------------------------------------------------


def spread(pool: Pool, sends: int) -> list[int]:
    chosen: Counter[int] = Counter()
    for number in range(sends):
        pod = pool.choose(0.0)
        chosen[pool.pods.index(pod)] += 1
        pool.submit(pod, number, 1, 10, 0.0)
    return [chosen[number] for number in range(len(pool.pods))]


def test_in_turn_each_server_gets_as_many() -> None:
    assert spread(pool_of(3, Balancing.IN_TURN), 30) == [10, 10, 10]


def test_the_least_loaded_gets_the_next() -> None:
    pool = pool_of(3)
    for number in range(5):
        pool.submit(pool.pods[0], f"earlier {number}", 1, 10, 0.0)
    assert spread(pool, 10) == [0, 5, 5]


def test_at_random_nobody_looks_at_the_load() -> None:
    pool = pool_of(2, Balancing.AT_RANDOM)
    for number in range(500):
        pool.submit(pool.pods[0], f"earlier {number}", 1, 10, 0.0)
    assert min(spread(pool, 400)) > 160


def test_a_balancer_sends_to_a_dead_server_until_it_has_noticed() -> None:
    pool = pool_of(2, Balancing.IN_TURN)
    pool.change(pool.pods[1], None, 10.0)
    early = {pool.choose(10.0 + NOTICED_AFTER / 2).serves for _ in range(10)}
    late = {pool.choose(10.0 + NOTICED_AFTER).serves for _ in range(10)}
    assert early == {True, False}
    assert late == {True}


def test_what_a_dead_server_runs_is_cut_off_and_the_others_go_on() -> None:
    two = replace(
        STEADY,
        others=(SERVER,),
        balancing=Balancing.IN_TURN,
        changes=(Change(30.5, None, resets=True, server=1),),
    )
    found = lived(two, 8)
    assert found.errors >= 4
    # Two bring eight answers in 1.1 s, as a line waits for the next step; one brings 40 tokens/s.
    assert rate(found, 0, 30) == pytest.approx(80 / 1.1, rel=0.03)
    assert rate(found, 40, 60) == pytest.approx(40, rel=0.03)


def test_a_server_that_joins_is_used_from_then_on() -> None:
    joins = replace(STEADY, others=(None,), changes=(Change(30, SERVER, server=1),))
    found = lived(joins, 8)
    assert rate(found, 0, 30) == pytest.approx(40, rel=0.03)
    assert rate(found, 35, 60) == pytest.approx(80 / 1.1, rel=0.03)
