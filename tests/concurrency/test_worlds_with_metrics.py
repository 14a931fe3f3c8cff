"""The controller in simulated worlds where the server tells how many requests run and wait."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Fixed, Ours, OursWithMetrics, Policy
from benchmarks.worlds.record import Record
from benchmarks.worlds.simulation import simulate


def lived(name: str, policy: Policy, seconds: float) -> Record:
    return simulate(replace(WORLDS[name], duration=seconds), policy)


def test_interactive_users_hardly_notice_the_batch_and_most_of_what_they_leave_is_used() -> None:
    ours = lived("shared", OursWithMetrics(), 900)
    alone, greedy = lived("shared", Fixed(0), 900), lived("shared", Fixed(300), 900)
    assert ours.first_token_p99 < 1.5 * alone.first_token_p99
    assert ours.tokens_per_second > 0.7 * greedy.tokens_per_second


def test_where_nobody_else_is_the_metrics_cost_nothing() -> None:
    for name in ("queues", "refuses"):
        with_them, without = lived(name, OursWithMetrics(), 240), lived(name, Ours(), 240)
        assert with_them.tokens_per_second > 0.97 * without.tokens_per_second
        assert with_them.wait_share < 0.10


def test_a_short_queue_of_millisecond_requests_is_left_as_it_is() -> None:
    with_them, best = lived("tiny", OursWithMetrics(), 6), lived("tiny", Fixed(48), 6)
    assert with_them.tokens_per_second > 0.9 * best.tokens_per_second
