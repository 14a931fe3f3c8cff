"""How long the rest of a run takes is told rightly, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.figures import Figures
from batch_gateway.engine.lengths import Lengths
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.time_left import TimeLeft
from benchmarks.time_left import WORLDS, moments
from tests.engine.lines_under_way import end, sending

FORETOLD = [name for name, world in WORLDS.items() if world.foretells and name != "fast"]
# What cannot be known of these at ten seconds is said wrongly there and rightly afterwards.
LEAST_RIGHT = {"5 to 1 s, sorted": 0.7, "600 a minute at once": 0.7, "lognormal, sorted down": 0.7}


@pytest.mark.parametrize("name", FORETOLD)
def test_it_is_within_a_factor_of_one_and_a_half_where_the_past_foretells(name: str) -> None:
    world = WORLDS[name]
    told, _ = moments(world, seed=3)
    late = [one for one in told if one.at >= max(10, world.outage[1])]
    ratios = [one.ratio for one in late if one.ratio is not None]
    right = sum(1 / 1.5 <= ratio <= 1.5 for ratio in ratios)
    assert right >= LEAST_RIGHT.get(name, 0.85) * len(ratios)
    if name != "40 lines in 64 places":
        assert len(ratios) >= 0.55 * len(late)


def test_nothing_is_said_while_ever_more_lines_are_sent_at_a_time() -> None:
    told, _ = moments(WORLDS["places double in 4 s"])
    assert all(one.said is None for one in told[5:20])


def test_nothing_is_said_when_the_last_ones_take_longer_than_any_before() -> None:
    told, whole = moments(WORLDS["the last three take 60 s"])
    assert all(one.said is None for one in told if one.at > whole - 55)


def test_before_the_first_result_nothing_is_said() -> None:
    stats = RunStats(total=100, time_left=sending(8))
    assert [stats.seconds_left(float(second)) for second in range(10)] == [None] * 10


def test_results_of_earlier_runs_do_not_make_this_one_look_fast() -> None:
    stats = RunStats(total=100, done_before=80)
    for second in range(11):
        stats.figures = Figures(succeeded=second)
        stats.look(float(second))
    assert stats.seconds_left(10.0) == pytest.approx(10)


def test_a_run_that_stops_or_is_done_has_no_time_left() -> None:
    stats = RunStats(total=20)
    for second in range(11):
        stats.figures = Figures(succeeded=second)
        stats.look(float(second))
    assert stats.seconds_left(10.0) is not None
    stats.stopping = True
    assert stats.seconds_left(10.0) is None
    assert RunStats(total=10, figures=Figures(succeeded=10)).seconds_left(10.0) is None


def test_while_a_gateway_is_down_nothing_is_said_and_no_time_passes() -> None:
    stats = RunStats(total=100)
    for second in range(21):
        stats.figures = Figures(succeeded=second)
        stats.look(float(second))
    stats.is_down = lambda: True
    assert [stats.seconds_left(float(second)) for second in range(21, 120)] == [None] * 99
    stats.is_down = lambda: False
    assert stats.seconds_left(120.0) == pytest.approx(80, rel=0.2)


@given(
    ends=st.lists(st.floats(0.01, 100), min_size=1, max_size=300),
    every=st.floats(0.05, 20),
    left=st.integers(0, 500),
)
def test_whatever_happens_it_is_a_time_or_nothing(
    ends: list[float], every: float, left: int
) -> None:
    told, now = TimeLeft(), 0.0
    told.look(0, now)
    for line, seconds in enumerate(ends):
        told.begin(line, now)
        end(told, line, now + seconds)
        if not line % 3:
            told.begin(line, now)
        now += every
        told.look(line + 1, now)
        said = told.seconds(left + len(told.under_way), 100_000)
        assert said is None or said >= 0


def test_it_keeps_little_of_a_long_run() -> None:
    told = TimeLeft()
    for line in range(200_000):
        told.begin(line, line / 10)
        end(told, line, line / 10 + 1)
        if not line % 10:
            told.look(line, line / 10)
    assert len(told._kept) <= 2_000
    assert len(told._looks) <= 513


@given(ended=st.lists(st.floats(0.1, 50), min_size=1, max_size=50))
def test_the_mean_of_lengths_that_all_ended_is_theirs(ended: list[float]) -> None:
    assert Lengths(ended, []).mean == pytest.approx(sum(ended) / len(ended))


def test_lines_that_go_on_make_the_mean_longer_and_less_known() -> None:
    lengths = Lengths([1.0, 2.0, 10.0], [5.0])
    assert lengths.mean > Lengths([1.0, 2.0, 10.0], []).mean
    assert Lengths([1.0, 2.0], [5.0, 5.0]).known == pytest.approx(0.5)
