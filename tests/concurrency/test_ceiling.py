"""How many are accepted, or how fast: what refusals tell, against small servers and any history."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_gateway.concurrency.ceiling import Ceiling
from batch_gateway.concurrency.events import Outcome, Started
from batch_gateway.concurrency.reasons import Reason
from tests.concurrency.refusing_servers import (
    Rule,
    Run,
    accepts_all,
    both,
    bucket,
    chance,
    refuses_all,
    seats,
    switching,
    window,
)

SEEDS = range(1, 4)


# -- nothing refused -----------------------------------------------------------------------


def test_nothing_is_limited_and_nothing_said_where_nothing_is_refused() -> None:
    run = Run(accepts_all).run(60)
    assert run.limit == math.inf
    assert run.ceiling.paused_until == 0
    assert run.why is None


def test_refusals_are_forgotten_when_the_gateway_has_accepted_all_for_long() -> None:
    run = Run(switching((0, seats(8)), (30, accepts_all))).run(120)
    assert run.limit == math.inf
    assert run.why is None


# -- a ceiling -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_a_full_server_is_known_after_a_few_refusals(count: int) -> None:
    run = Run(seats(count)).run(10)
    why = run.why
    assert why is not None
    assert why.reason in (Reason.CEILING, Reason.SHUT)
    run.counts_from_here().run(300)
    assert run.answered >= 0.95 * 290 * count
    # One more is tried nine times a minute at most.
    assert run.refused <= max(0.03 * run.sent, 300 / 7) + 5


@given(count=st.integers(1, 60), share=st.sampled_from([0.0, 0.01, 0.05]), seed=st.integers(1, 99))
@settings(max_examples=15, deadline=None)
def test_a_true_step_is_found_whatever_chance_adds(count: int, share: float, seed: int) -> None:
    run = Run(both(seats(count), chance(share, seed)), seed=seed).run(40)
    run.counts_from_here().run(160)
    assert run.answered >= 0.8 * 120 * count
    # One more is tried nine times a minute at most.
    assert run.refused <= (share + 0.1) * run.sent + 120 / 7 + 10


def test_more_is_sent_soon_after_a_server_has_grown() -> None:
    run = Run(switching((0, seats(10)), (60, seats(60)))).run(85)
    run.counts_from_here().run(145)
    assert run.answered >= 0.9 * 60 * 60


def test_less_is_sent_soon_after_others_have_taken_most_of_it() -> None:
    run = Run(switching((0, seats(60)), (60, seats(12)))).run(64)
    run.counts_from_here().run(124)
    assert run.answered >= 0.9 * 60 * 12
    assert run.refused <= 0.06 * run.sent


# -- chance --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("asks", [0.0, 1.0])
def test_chance_is_no_reason_to_send_less(share: float, asks: float, seed: int) -> None:
    run = Run(chance(share, seed, asks), seed=seed).run(120)
    assert run.answered >= (0.9 if share <= 0.05 else 0.8) * 120 * 64


def test_two_refusals_at_the_start_are_soon_forgiven() -> None:
    calls = 0

    def rule(serving: int, now: float) -> float | None:
        nonlocal calls
        calls += 1
        return 0.0 if calls in (17, 18, 19) else None

    run = Run(rule).run(10)
    run.counts_from_here().run(20)
    assert run.answered >= 0.95 * 10 * 64


def test_one_refusal_by_chance_is_no_reason_to_say_anything() -> None:
    ceiling = Ceiling()
    for number in range(64):
        started = Started(number / 10, 0.0, 1)
        ceiling.sent(started, started.at)
        if number % 16 == 9:
            started.outcome = Outcome.REFUSED
            ceiling.refused(started, None, 0, started.at + 0.01)
        now = started.at + 0.06
        assert ceiling.why(ceiling.limit(0, now), now) is None


# -- quotas --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("asks", [0.0, 1.0])
@pytest.mark.parametrize(("rate", "burst"), [(20, 100), (20, 5), (60, 100), (2, 10)])
def test_a_quota_is_kept_by_a_pace(rate: float, burst: float, asks: float, seed: int) -> None:
    run = Run(bucket(rate, burst, asks), seed=seed).run(150)
    run.counts_from_here().run(450)
    assert run.answered >= 0.9 * 300 * rate
    assert run.refused <= 0.05 * run.sent


@pytest.mark.parametrize("seed", SEEDS)
def test_a_quota_that_takes_no_two_at_once_is_no_ceiling_of_one(seed: int) -> None:
    run = Run(bucket(5, 1), seed=seed).run(150)
    run.counts_from_here().run(450)
    assert run.answered >= 0.7 * 300 * 5
    assert run.refused <= 0.05 * run.sent


@pytest.mark.parametrize("seed", SEEDS)
def test_a_quota_is_used_up_though_some_are_refused_by_chance(seed: int) -> None:
    run = Run(both(chance(0.03, seed), bucket(20, 40)), seed=seed).run(100)
    run.counts_from_here().run(500)
    assert run.answered >= 0.88 * 400 * 20
    assert run.refused <= 0.1 * run.sent


def test_a_slow_quota_is_kept_too() -> None:
    run = Run(bucket(0.5, 5), wanted=16).run(60)
    assert run.refused <= 40
    run.counts_from_here().run(1_260)
    assert run.answered >= 0.85 * 1_200 * 0.5
    assert run.refused <= 0.1 * run.sent


def test_the_pace_is_said_in_sends_a_minute() -> None:
    run = Run(bucket(20, 20)).run(100)
    why = run.why
    assert why is not None
    assert why.reason is Reason.PACE
    assert why.figure == pytest.approx(1_200, rel=0.35)


@pytest.mark.parametrize("seed", SEEDS)
def test_chance_is_not_said_to_be_a_quota_because_a_pace_was_tried(seed: int) -> None:
    run = Run(chance(0.2, seed), wanted=16, seed=seed)
    said = [run.run(float(second)).reason for second in range(1, 300)]
    assert said.count(Reason.PACE) <= 0.02 * len(said)


def test_a_pace_is_dropped_when_the_quota_is_gone() -> None:
    run = Run(switching((0, bucket(5, 5)), (100, accepts_all))).run(220)
    run.counts_from_here().run(280)
    assert run.answered >= 0.9 * 60 * 64
    assert run.reason is not Reason.PACE


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_pace_is_dropped_when_what_is_left_is_chance(share: float) -> None:
    run = Run(switching((0, bucket(20, 20)), (100, chance(share)))).run(280)
    run.counts_from_here().run(400)
    assert run.answered >= (0.9 if share <= 0.05 else 0.8) * 120 * 64


@pytest.mark.parametrize("tells", [False, True])
def test_a_quota_of_each_minute_is_used_up_with_few_refusals(tells: bool) -> None:
    run = Run(window(600, 60, tells=tells)).run(300)
    run.counts_from_here().run(900)
    assert run.answered >= 0.9 * 6_000
    assert run.refused <= 0.06 * run.sent


def test_a_quota_that_others_take_half_of_is_followed_down_and_up_again() -> None:
    run = Run(switching((0, bucket(20, 40)), (100, bucket(10, 1)), (300, bucket(20, 40)))).run(160)
    run.counts_from_here().run(300)
    assert run.answered >= 0.85 * 140 * 10
    assert run.refused <= 0.05 * run.sent
    run.run(400)
    run.counts_from_here().run(600)
    assert run.answered >= 0.9 * 200 * 20
    assert run.refused <= 0.05 * run.sent


def test_a_small_quota_of_each_minute_is_known_after_some_of_them() -> None:
    run = Run(window(30, 60), wanted=16).run(300)
    run.counts_from_here().run(1_800)
    assert run.answered >= 0.9 * 750
    assert run.refused <= 0.12 * run.sent


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_quota_took_in_one_minute_is_all_that_the_next_is_asked_for(seed: int) -> None:
    run = Run(window(30, 60), wanted=16, seed=seed).run(58)
    run.counts_from_here().run(80)
    assert run.answered == 30
    # Two seconds apart it is tried again.
    assert run.refused <= 25


def test_a_quota_and_a_ceiling_at_once_are_both_kept() -> None:
    for quota in (12, 20, 40):
        run = Run(both(seats(20), bucket(quota, 30))).run(100)
        run.counts_from_here().run(300)
        assert run.answered >= 0.9 * 200 * min(20, quota)
        assert run.refused <= 0.06 * run.sent


# -- nobody accepted -----------------------------------------------------------------------


def test_few_are_sent_while_nobody_is_accepted_and_many_soon_after() -> None:
    run = Run(switching((0, refuses_all), (90, accepts_all))).run(90)
    assert run.reason is Reason.SHUT
    assert run.sent <= 64 + 60
    # Two seconds of a pause, and three of one-second answers.
    run.counts_from_here().run(95)
    assert run.most == 64


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_row_of_refusals_is_not_taken_for_chance_because_it_is_long(seed: int) -> None:
    rule = switching((0, accepts_all), (20, refuses_all))
    run = Run(rule, wanted=200, seed=seed).run(20)
    run.counts_from_here().run(22)
    assert run.refused <= 100


def test_an_outage_in_the_middle_is_over_in_seconds() -> None:
    run = Run(switching((0, accepts_all), (30, refuses_all), (50, accepts_all))).run(50)
    run.counts_from_here().run(56)
    assert run.most == 64
    assert run.answered >= 3 * 64


def test_the_gateway_is_asked_no_sooner_than_it_says_while_nobody_is_accepted() -> None:
    def told(serving: int, now: float) -> float | None:
        return None if now >= 40 else 40 - now

    run = Run(told).run(40)
    assert run.sent <= 64 + 3
    run.counts_from_here().run(43)
    assert run.most == 64


def test_a_full_server_that_asks_for_a_minute_is_no_closed_one() -> None:
    def rule(serving: int, now: float) -> float | None:
        return None if serving < 40 else 60.0

    run = Run(rule).run(20)
    run.counts_from_here().run(320)
    assert run.answered >= 0.95 * 300 * 40


def test_a_wait_asked_by_mistake_is_cut() -> None:
    ceiling = Ceiling()
    for number in range(4):
        started = Started(float(number), 0.0, 1)
        ceiling.sent(started, started.at)
        started.outcome = Outcome.REFUSED
        ceiling.refused(started, 86_400.0, 0, started.at + 0.01)
    assert ceiling.paused_until <= 310


# -- any history ---------------------------------------------------------------------------

OUTCOMES = {"refuse": Outcome.REFUSED, "answer": Outcome.OK, "fail": Outcome.FAILED}
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "refuse", "answer", "fail", "wait"]),
        st.integers(0, 20),
        st.sampled_from([0.0, 0.001, 0.02, 0.5, 7.0]),
    ),
    max_size=200,
)


@given(EVENTS, st.integers(1, 8))
def test_the_limit_never_falls_below_the_least(
    events: list[tuple[str, int, float]], minimum: int
) -> None:
    ceiling = Ceiling(minimum)
    running: list[Started] = []
    now, paused = 0.0, 0.0
    for kind, which, seconds in events:
        now += seconds
        if kind == "send":
            started = Started(now, 0.0, len(running) + 1)
            running.append(started)
            ceiling.sent(started, now)
        elif running and kind != "wait":
            started = running.pop(which % len(running))
            started.outcome = OUTCOMES[kind]
            if kind == "refuse":
                ceiling.refused(started, seconds or None, len(running), now)
        limit = ceiling.limit(len(running), now)
        assert limit >= minimum
        assert ceiling.paused_until >= paused
        paused = ceiling.paused_until
        ceiling.why(limit, now)


RULES = st.one_of(
    st.integers(0, 50).map(seats),
    st.sampled_from([0.02, 0.2, 0.5]).map(chance),
    st.sampled_from([0.5, 5.0, 20.0, 50.0]).map(lambda rate: bucket(rate, 10)),
    st.sampled_from([30, 300]).map(lambda count: window(count, 20)),
    st.just(refuses_all),
    st.just(accepts_all),
)


@given(st.lists(st.tuples(RULES, st.integers(1, 60)), min_size=1, max_size=4), st.integers(1, 99))
@example([(seats(24), 1), (refuses_all, 16), (seats(1), 5)], 1)
@example([(seats(50), 53), (refuses_all, 55), (bucket(20.0, 10), 9)], 96)
@example(
    [(bucket(20.0, 5), 5), (bucket(5.0, 10), 37), (refuses_all, 54), (bucket(0.5, 10), 31)], 64
)
# A quota that was slow takes one in some hundreds a few minutes more.
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_server_that_accepts_all_again_is_used_again_within_minutes(
    history: list[tuple[Rule, int]], seed: int
) -> None:
    parts: list[tuple[float, Rule]] = []
    begins = 0.0
    for rule, seconds in history:
        parts.append((begins, rule))
        begins += seconds
    run = Run(switching(*parts, (begins, accepts_all)), wanted=24, seed=seed).run(begins + 330)
    run.counts_from_here().run(begins + 360)
    assert run.answered >= 0.8 * 30 * 24
