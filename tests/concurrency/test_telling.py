"""Which changes of a reason are told, and how long each one kept requests waiting."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.telling import HeldReason, ReasonTimes, Telling

CLIMBING, KNEE = Why(Reason.CLIMBING), Why(Reason.KNEE)
Moments = Sequence[tuple[float, Why | None]]


def pace(a_minute: float) -> Why:
    return Why(Reason.PACE, a_minute)


def told(moments: Moments) -> list[tuple[float, Why | None]]:
    telling = Telling()
    return [(now, why) for now, why in moments if telling.is_news(why, now)]


def test_a_reason_that_follows_one_that_lasted_is_told_at_once() -> None:
    moments = [(0.0, CLIMBING), (0.5, CLIMBING), (3.0, KNEE), (3.1, KNEE), (9.0, pace(600))]
    assert told(moments) == [(0.0, CLIMBING), (3.0, KNEE), (9.0, pace(600))]


def test_two_reasons_that_flicker_are_told_once_each() -> None:
    moments = [(0.1 * step, (CLIMBING, KNEE)[step % 2]) for step in range(100)]
    assert told(moments) == [(0.0, CLIMBING)]
    moments += [(10.0 + 0.1 * step, KNEE) for step in range(20)]
    assert [why for _, why in told(moments)] == [CLIMBING, KNEE]


def test_a_reason_that_flickered_is_told_when_it_stays() -> None:
    telling = Telling()
    assert telling.is_news(CLIMBING, 0.0)
    assert not telling.is_news(KNEE, 0.5)
    assert telling.pending
    assert telling.is_news(KNEE, 1.5)
    assert not telling.pending


def test_that_nobody_is_accepted_is_told_at_once_since_nothing_may_follow() -> None:
    shut = Why(Reason.SHUT, 60.0)
    assert told([(0.0, CLIMBING), (0.2, shut)]) == [(0.0, CLIMBING), (0.2, shut)]


def test_a_reason_that_is_gone_is_not_left_standing_while_others_flicker() -> None:
    shut = Why(Reason.SHUT, 0.25)
    moments: Moments = [(0.0, CLIMBING), (5.0, shut)]
    moments += [(5.2 + 0.1 * step, (KNEE, pace(600), CLIMBING)[step % 3]) for step in range(90)]
    assert [now for now, _ in told(moments)] == pytest.approx([0.0, 5.0, 6.2])


def test_a_figure_that_creeps_is_told_when_it_has_moved_by_a_tenth() -> None:
    moments: Moments = [(float(step), pace(600 * 1.01**step)) for step in range(30)]
    figures = [why.figure / 600 for _, why in told(moments) if why]
    assert figures == pytest.approx([1.0, 1.01**10, 1.01**20])


def test_the_next_of_many_short_tries_is_no_news_and_a_long_wait_is() -> None:
    moments: Moments = [(float(n), Why(Reason.SHUT, n / 4)) for n in range(1, 9)]
    assert told([*moments, (20.0, Why(Reason.SHUT, 60.0))]) == [
        moments[0],
        (20.0, Why(Reason.SHUT, 60.0)),
    ]


reasons = st.sampled_from([None, CLIMBING, KNEE, pace(60), pace(61), pace(600)])


@given(st.lists(st.tuples(st.floats(0, 3), reasons)))
def test_whatever_happens_little_is_told_and_in_the_end_what_holds(
    steps: list[tuple[float, Why | None]],
) -> None:
    telling, now, last, times = Telling(), 0.0, None, list[float]()
    for seconds, why in steps:
        now += seconds
        if telling.is_news(why, now):
            last = why
            times.append(now)
    for _ in range(4):
        now += 1.0
        if steps and telling.is_news(steps[-1][1], now):
            last = steps[-1][1]
            times.append(now)
    # Any three are a second apart.
    assert all(third - first >= 1.0 for first, third in zip(times, times[2:], strict=False))
    if steps:
        holds = steps[-1][1]
        assert (last and last.reason) == (holds and holds.reason)
        assert last is None or holds is None or last.figure == pytest.approx(holds.figure, rel=0.1)


def test_time_counts_for_what_kept_requests_waiting_and_only_while_they_wait() -> None:
    times = ReasonTimes()
    times.hold(CLIMBING, 16, 10.0)
    times.wait(11.0)
    times.hold(KNEE, 64, 13.0)
    times.flow(17.0)
    times.hold(pace(600), 9, 18.0)
    knee, climbing = HeldReason(KNEE, 64, 4.0), HeldReason(CLIMBING, 16, 2.0)
    assert times.held(20.0) == (knee, climbing)
    times.wait(20.0)
    times.hold(pace(630), 10, 25.0)
    assert times.held(26.0) == (HeldReason(pace(630), 10, 6.0), knee, climbing)


def test_while_nobody_is_accepted_all_wait_for_the_next_try_wherever_that_is() -> None:
    times = ReasonTimes()
    shut = Why(Reason.SHUT, 2.0)
    times.hold(shut, 1, 0.0)
    times.hold(None, 1, 1.5)
    times.wait(6.0)
    assert times.held(60.0) == (HeldReason(shut, 1, 1.5),)


def test_an_hour_in_which_nothing_is_tried_counts_for_nothing() -> None:
    times = ReasonTimes()
    shut = Why(Reason.SHUT, 2.0)
    times.hold(shut, 1, 0.0)
    assert times.held(3600.0) == (HeldReason(shut, 1, 2.0),)
    times.wait(3600.0)
    times.flow(3601.0)
    assert times.held(7200.0) == (HeldReason(shut, 1, 3.0),)


@given(st.lists(st.tuples(st.floats(0, 9), reasons, st.booleans())))
def test_no_second_counts_twice(steps: list[tuple[float, Why | None, bool]]) -> None:
    times, now, waited = ReasonTimes(), 0.0, 0.0
    why, waits = None, False
    for seconds, next_why, next_waits in steps:
        now += seconds
        waited += seconds * (waits and why is not None)
        why, waits = next_why, next_waits
        times.hold(why, 8, now)
        if waits:
            times.wait(now)
        else:
            times.flow(now)
    assert sum(one.seconds for one in times.held(now)) == pytest.approx(waited)
