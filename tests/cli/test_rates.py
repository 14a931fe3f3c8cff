"""Rates and time left, from snapshots alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.cli.rates import Mark, Rates, measure, with_mark
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.progress import RunStats


def at(seconds: float, done: int = 0, tokens: int = 0) -> Mark:
    return Mark(seconds, done, tokens)


def test_rates_are_per_second_between_two_snapshots() -> None:
    assert measure(at(10, 5, 100), at(20, 25, 1100)) == Rates(requests=2.0, tokens=100.0)


def test_no_time_is_no_rate() -> None:
    assert measure(at(10, 5), at(10, 50)) == Rates()


def test_failed_lines_and_earlier_results_count_as_done() -> None:
    run = RunStats(total=10, done_before=1, figures=Figures(succeeded=3, failed=2))
    assert (run.done, run.left) == (6, 4)


@given(gaps=st.lists(st.floats(0.01, 20), min_size=1, max_size=80))
def test_the_window_spans_its_length_and_little_more(gaps: list[float]) -> None:
    window: tuple[Mark, ...] = (at(0),)
    now = 0.0
    for gap in gaps:
        now += gap
        window = with_mark(window, at(now), seconds=30)
        assert window[-1].at == now
        assert now - window[0].at >= min(30, now) - 1e-9
        if len(window) > 1:
            assert now - window[1].at < 30
