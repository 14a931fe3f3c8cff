"""Charts and causes: nothing a run can do makes a drawing that is none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.figures import Cause, Figures
from batch_gateway.engine.results import Outcome
from batch_gateway.errors import ErrorCategory
from batch_gateway.histogram import DURATIONS, Histogram
from batch_gateway.report.causes import group_causes
from batch_gateway.report.charts import Chart, Series, distribution_chart, time_chart
from batch_gateway.report.scales import (
    axis_labels,
    duration_text,
    duration_ticks,
    log_ticks,
    number_text,
    time_ticks,
    value_ticks,
)
from batch_gateway.report.strips import State

STATES = (None, State("one", "why knee", "one of them"), State("two", "why pace", "another"))
VALUES = st.lists(st.none() | st.floats(0, 1e12), min_size=1, max_size=60)


def assert_on_the_canvas(chart: Chart) -> None:
    for shape in chart.shapes:
        for number in re.findall(r"-?[\w.]*\d", re.sub(r"[MLHVZ]", " ", shape.path)):
            assert -0.1 <= float(number) <= 1000.1
    for tick in (*chart.x_ticks, *chart.y_ticks):
        assert -0.01 <= tick.percent <= 100.01
    for mark in (*chart.marks, *chart.bands):
        assert mark.x >= 0
        assert mark.x + mark.width <= 1000.1
    for one in chart.strips:
        ends = [0.0, *(piece.left + piece.width for piece in one.pieces)]
        assert all(piece.left >= end - 1e-6 for piece, end in zip(one.pieces, ends, strict=False))
        assert ends[-1] <= 100.01


@given(VALUES, st.floats(0.05, 1e5), st.floats(0.05, 1))
def test_a_course_stays_on_its_canvas(
    values: list[float | None], width: float, part: float
) -> None:
    chart = time_chart(
        "Throughput",
        "requests/s",
        [
            Series("one", "good", values, is_area=True),
            Series("two", "bad", [1.0] * len(values), is_area=True),
            Series("line", "limit", values),
        ],
        width=width,
        seconds=width * (len(values) - 1 + part),
        bands=[(0, 1, "paused")],
        states=[("why", [STATES[int(value or 0) % 3] for value in values])],
    )
    assert_on_the_canvas(chart)
    assert len(chart.rows) == len(values)
    assert all(len(row) == len(chart.header) for row in chart.rows)


def test_a_strip_says_what_was_so_when_and_leaves_out_when_nothing_was() -> None:
    knee = State("more brought nothing", "why knee", "64 at a time: more brought nothing")
    later = State("more brought nothing", "why knee", "70 at a time: more brought nothing")
    pace = State("a pace is kept", "why pace", "keeping to 600 a minute")
    chart = time_chart(
        "In flight", "requests",
        [Series("in flight", "flight", [1.0] * 6)],
        width=10.0, seconds=60.0,
        states=[("why no more", [None, knee, later, None, pace, pace])],
    )  # fmt: skip
    [drawn] = chart.strips
    assert [(piece.left, piece.width) for piece in drawn.pieces] == [
        (pytest.approx(100 / 6), pytest.approx(100 / 3)),
        (pytest.approx(200 / 3), pytest.approx(100 / 3)),
    ]
    assert drawn.description == (
        "why no more: 10 s to 30 s: 70 at a time: more brought nothing;"
        " 40 s to 1:00: keeping to 600 a minute"
    )
    assert chart.legend == [
        ("in flight", "flight"),
        ("more brought nothing", "why knee"),
        ("a pace is kept", "why pace"),
    ]
    assert chart.header == ["from", "in flight", "why no more"]
    assert [row[2] for row in chart.rows] == [
        "—", knee.text, later.text, "—", pace.text, pace.text,
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_distribution_stays_on_its_canvas(durations: list[float]) -> None:
    histogram = Histogram(DURATIONS)
    for duration in durations:
        histogram.add(duration)
    assert_on_the_canvas(distribution_chart("Latency", histogram))


@given(st.floats(1e-9, 1e15))
def test_axes_are_labelled_with_few_round_numbers(highest: float) -> None:
    values = value_ticks(highest)
    assert 2 <= len(values) <= 7
    assert values[0] == 0
    assert values[-1] >= highest * 0.999
    assert len(time_ticks(highest)) <= 8
    ticks = log_ticks(0.001, max(0.002, min(highest, 1e5)))
    assert len(ticks) <= 7
    assert ticks == sorted(ticks)


def labels_of(highest: float, write: str) -> list[str]:
    ticks = duration_ticks(highest) if write == "duration" else value_ticks(highest)
    return axis_labels(ticks, write)


def test_an_axis_keeps_to_one_unit() -> None:
    assert labels_of(9_000, "number") == ["0", "5k", "10k"]
    assert labels_of(800, "number") == ["0", "200", "400", "600", "800"]
    assert labels_of(0.13, "duration") == ["0", "50 ms", "100 ms", "150 ms"]
    assert labels_of(0.0013, "duration") == ["0", "0.5 ms", "1 ms", "1.5 ms"]
    assert labels_of(5.5, "duration") == ["0", "2 s", "4 s", "6 s"]
    assert labels_of(230, "duration") == ["0", "1 min", "2 min", "3 min", "4 min"]
    assert labels_of(9_000, "duration") == ["0", "30 min", "60 min", "90 min", "120 min", "150 min"]
    assert labels_of(3 * 86_400, "duration")[-1] == "72 h"


@given(st.floats(1e-4, 1e7), st.sampled_from(["number", "duration"]))
def test_no_two_labels_of_an_axis_are_alike(highest: float, write: str) -> None:
    labels = labels_of(highest, write)
    assert 2 <= len(labels) <= 7
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (12.5, "12.5"), (950.4, "950"), (8231, "8,231"), (10_412, "10.4k"),
     (1_254_000, "1.25M")],
)  # fmt: skip
def test_numbers_have_three_or_four_digits_that_count(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(0, 1e12))
def test_numbers_stay_short(value: float) -> None:
    assert len(number_text(value)) <= 8
    assert not math.isnan(value)
    assert duration_text(value)


def cause(message: str, line: int, count: int = 1) -> Cause:
    return Cause(line, f"req-{line}", ErrorCategory.SERVER_ERROR, 500, message, count)


def test_messages_that_differ_in_ids_and_numbers_are_one_cause() -> None:
    groups = group_causes(
        [
            cause("request 8f2a91 failed after 12.5 s", 1),
            cause("model not loaded", 2, 10),
            cause("request 77b0c2 failed after 3 s", 3, 2),
            *(cause(f"request x{number} failed after 9 s", number) for number in range(10, 20)),
        ]
    )
    assert [(group.count, group.message) for group in groups] == [
        (13, "request 8f2a91 failed after 12.5 s"),
        (10, "model not loaded"),
    ]
    assert [line.line_number for line, _, _ in groups[0].examples()] == [1, 3, 10]


def test_a_cause_of_one_message_has_three_lines_and_says_how_many_more_there_are() -> None:
    def counted(lines: Iterable[int]) -> Figures:
        found = Figures()
        for line in lines:
            found.count(
                Outcome(
                    index=line,
                    custom_id=f"req-{line}",
                    line=b"",
                    attempts=1,
                    message="gone",
                    status_code=404,
                    category=ErrorCategory.INVALID_REQ,
                ),
                line,
            )
        return found

    figures = counted(range(9, 2, -1)) + counted([2, 20])
    [group] = group_causes(figures.causes.values())
    shown = [(line.line_number, line.custom_id, more) for line, _, more in group.examples()]
    assert shown == [(2, "req-2", 0), (3, "req-3", 0), (4, "req-4", 6)]
