"""What was seen of a batch, stored and added up: nothing is lost, and its size has a bound."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.engine.figures import Cause, Figures
from batch_gateway.errors import ServerError
from batch_gateway.report.collected import MOST_SLOW, Collected, Line
from batch_gateway.report.course import Course, Stretch, pack_course, unpack_course
from batch_gateway.report.timeline import MAX_SLICES
from tests.report.test_collecting import BODY, Clock

BEGAN = 1_800_000_000.0

answers = st.lists(
    st.tuples(st.floats(0, 5_000), st.sampled_from("abc"), st.booleans(), st.floats(0.001, 100)),
    max_size=40,
)
pieces = st.lists(st.tuples(st.floats(0, 100_000), answers), min_size=1, max_size=4)


def course_of(at: float, ended: list[tuple[float, str, bool, float]]) -> Course:
    """Of a process that began so many seconds after the first one."""
    clock = Clock()
    clock.now = at
    collected, good = Collected(clock), 0
    for number, (after, model, ok, seconds) in enumerate(ended):
        clock.now += after
        answer = (
            InferenceResponse(request_id="r", status_code=200, body=BODY) if ok else ServerError("")
        )
        good += ok
        line = Line(number, "c")
        collected.add("g", model, f"r{number}", answer, seconds, line_of=lambda _, at=line: at)
    figures = Figures(succeeded=good, failed=len(ended) - good)
    return Course.of(collected, figures, BEGAN + clock.now)


@given(pieces)
def test_what_several_processes_saw_is_all_there_in_the_sum(
    seen: list[tuple[float, list[tuple[float, str, bool, float]]]],
) -> None:
    parts = [course_of(at, ended) for at, ended in seen]
    whole = unpack_course(pack_course(reduce(add, parts)))
    every = [one for _, ended in seen for one in ended]
    good = sum(ok for _, _, ok, _ in every)
    assert (whole.figures.succeeded, whole.figures.failed) == (good, len(every) - good)
    assert sum(one.succeeded for one in whole.time.slices) == good
    assert sum(one.latencies.count for one in whole.time.slices) == good
    assert len(whole.time.slices) <= MAX_SLICES + 1
    assert {model for _, model in whole.totals} == {model for _, model, _, _ in every}
    shown = whole.collected()
    assert shown.total().usage.output_tokens == 7 * good
    slow = sorted((seconds for *_, seconds in every), reverse=True)[:MOST_SLOW]
    assert [one.duration for one in shown.slowest()] == slow
    if every:
        assert whole.time.began == min(p.time.began for p in parts if p.time.slices)
        assert whole.time.ended == max(p.time.ended for p in parts if p.time.slices)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=5))
def test_each_answer_stands_where_it_was_to_within_the_width_of_a_slice_a_sum(
    moments: list[float],
) -> None:
    parts = [course_of(at, [(0.0, "m", True, 1.0)]) for at in moments]
    time = reduce(add, parts).time
    placed = [
        time.began + index * time.width
        for index, one in enumerate(time.slices)
        for _ in range(one.succeeded)
    ]
    for found, at in zip(placed, sorted(moments), strict=True):
        assert found == pytest.approx(BEGAN + at, abs=2 * len(moments) * time.width)


def test_nothing_adds_nothing() -> None:
    course = course_of(5.0, [(1.0, "m", True, 1.0)])
    assert course + Course() == Course() + course == course
    assert Course().time == Stretch()


def test_what_is_stored_has_a_bound_whatever_strangers_call_their_lines() -> None:
    causes = {
        str(number): Cause(number, "c" * 100_000, "UNKNOWN", None, str(number))
        for number in range(900)
    }
    ended = [(1.0, f"model-{number}", number % 3 > 0, 1.0) for number in range(5_000)]
    course = course_of(0.0, ended) + Course(Figures(failed=900, causes=causes))
    packed = pack_course(course)
    assert len(packed) < 100_000
    assert unpack_course(packed).figures.failed == course.figures.failed
