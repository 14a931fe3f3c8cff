"""What is kept of a run: exact sums, near quantiles, and a size that does not grow with it."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.client.interfaces.instrumentation import (
    GatewayEvents,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.errors import RateLimitError
from batch_gateway.report.collected import OTHERS
from batch_gateway.report.collector import RunCollector
from batch_gateway.report.timeline import MAX_SLICES, HeldBy, Timeline
from batch_gateway.wire.headers import Headers

BODY = b'{"usage":{"prompt_tokens":3,"completion_tokens":7}}'


class Clock:
    """Shows whatever it was set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def finished(
    number: int = 0, *, model: str = "m", duration: float = 1.0, outcome: str = "ok"
) -> RequestFinished:
    started = RequestStarted("http://gateway", f"id-{number}", model, "/v1/chat/completions")
    if outcome == "cancelled":
        return RequestFinished(started, outcome, duration, 0)
    if outcome != "ok":
        return RequestFinished(started, outcome, duration, 2, error=RateLimitError("busy"))
    response = InferenceResponse(
        request_id=f"id-{number}",
        status_code=200,
        headers=Headers([]),
        body=BODY,
        time_to_first_token=duration / 2,
    )
    return RequestFinished(started, outcome, duration, 1, response=response)


@given(
    st.lists(st.floats(-10, 1e7) | st.floats(0, 1), min_size=1)
    | st.lists(st.floats(0, 1), min_size=1),
    st.integers(1, 100),
)
def test_a_course_keeps_every_event_in_few_slices_that_are_in_order(
    moments: list[float], wanted: int
) -> None:
    timeline = Timeline(100.0)
    for moment in moments:
        timeline.at(100.0 + moment).succeeded += 1
    for course in (timeline, timeline.at_most(wanted)):
        assert len(course.slices) <= MAX_SLICES
        assert sum(one.succeeded for one in course.slices) == len(moments)
        # Up to any slice's end at least the events before it have been counted.
        ends = itertools.accumulate(one.succeeded for one in course.slices)
        for number, seen in enumerate(ends, 1):
            before = sum(moment < (number - 1) * course.width for moment in moments)
            assert seen >= before
            # A hair's breadth for moments that floating point puts on the other side.
            reached = sum(moment < number * course.width * 1.000_001 for moment in moments)
            assert seen <= reached
    assert len(timeline.at_most(wanted).slices) <= wanted


def test_a_thousand_hours_take_no_more_room_than_one() -> None:
    clock = Clock()
    collector = RunCollector(clock)
    events = [finished(number, model=f"m{number % 500}") for number in range(2_000)]
    failed = [finished(number, outcome="RATE_LIMIT") for number in range(100)]

    def hear(hours: float) -> None:
        for number, event in enumerate(events):
            clock.now += hours * 3600 / len(events)
            collector.request_finished(event)
            collector.request_finished(failed[number % 100])
            collector.sample()

    hear(1)
    tracemalloc.start()
    try:
        for _ in range(5):
            hear(200)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 600_000  # the slices' histograms, made anew
    assert len(collector.timeline.slices) <= MAX_SLICES
    assert len(collector.slowest()) == 20
    assert len(collector.by_model()) == 101
    total = collector.total()
    assert total.succeeded == total.failed == 12_000
    assert total.usage.output_tokens == 84_000
    assert collector.by_model()[OTHERS].succeeded > 0


def test_the_size_of_what_is_kept_has_a_bound_for_any_number_of_requests() -> None:
    clock = Clock()
    collector = RunCollector(clock)
    event = finished()
    for _ in range(100_000):
        clock.now += 0.01
        collector.request_finished(event)
    assert sum(one.succeeded for one in collector.timeline.slices) == 100_000
    assert len(collector.timeline.slices) <= MAX_SLICES


def test_the_slowest_are_kept_and_told_in_order() -> None:
    collector = RunCollector(Clock())
    for number in range(500):
        collector.request_finished(finished(number, duration=float(number * 7 % 500)))
    assert [one.duration for one in collector.slowest()] == [float(499 - n) for n in range(20)]


def test_requests_that_were_cut_off_are_no_results() -> None:
    collector = RunCollector(Clock())
    collector.request_finished(finished(outcome="cancelled"))
    assert collector.cancelled == 1
    assert collector.total().succeeded == collector.total().failed == 0
    assert collector.slowest() == []


def test_what_is_in_flight_is_looked_at_from_time_to_time() -> None:
    clock = Clock()
    collector = RunCollector(clock)
    events = GatewayEvents("http://gateway", [collector])
    for in_flight, limit, state in ((4, 8, "closed"), (8, 8, "closed"), (0, 1, "open")):
        events.attempts_in_flight = in_flight
        events.limit_changed(limit)
        events.breaker_changed(state)
        collector.sample()
    present = collector.timeline.slices[0]
    assert present.mean_in_flight() == pytest.approx(4)
    assert present.mean_limit() == pytest.approx(17 / 3)
    assert present.peak == 8
    assert present.paused == 1


def look(
    collector: RunCollector, events: GatewayEvents, limit: int, why: Why | None, waiting: int = 3
) -> None:
    events.limit_changed(limit, why)
    events.concurrency = lambda: ConcurrencyStatistics(limit, limit, waiting, why)
    collector.sample()


def test_what_holds_requests_back_is_kept_with_its_last_figures() -> None:
    clock = Clock()
    collector = RunCollector(clock)
    events = GatewayEvents("g", [collector])
    look(collector, events, 32, Why(Reason.CLIMBING))
    look(collector, events, 64, Why(Reason.KNEE))
    look(collector, events, 60, Why(Reason.KNEE))
    look(collector, events, 9, Why(Reason.PACE, 600.0), waiting=0)
    present = collector.timeline.slices[0]
    assert present.held_at("g") == HeldBy(2, 60, Why(Reason.KNEE))
    assert present.held_at("another") is None
    assert present.mean_knee() == 62
    # Nobody waited in the fourth.
    assert sum(held.samples for held in present.held_by.values()) == 3


def test_a_stretch_in_which_next_to_nobody_waited_has_no_reason() -> None:
    collector = RunCollector(Clock())
    events = GatewayEvents("g", [collector])
    look(collector, events, 64, Why(Reason.KNEE))
    for _ in range(3):
        look(collector, events, 64, Why(Reason.KNEE), waiting=0)
    assert collector.timeline.slices[0].held_at("g") is None


def test_the_knee_of_several_gateways_is_known_where_all_are_at_it() -> None:
    collector = RunCollector(Clock())
    first, second = (GatewayEvents(name, [collector]) for name in "ab")
    look(collector, first, 64, Why(Reason.KNEE))
    look(collector, second, 8, Why(Reason.CEILING, 8.0))
    assert collector.timeline.slices[0].mean_knee() is None
    look(collector, second, 10, Why(Reason.QUEUE))
    assert collector.timeline.slices[0].mean_knee() == 74


whys = st.sampled_from([Why(Reason.KNEE), Why(Reason.CLIMBING), Why(Reason.PACE, 60.0)])


@given(st.lists(st.tuples(st.floats(0, 3_000), st.sampled_from("ab"), whys), max_size=200))
def test_no_sample_of_a_reason_is_lost_when_slices_grow_wider(
    samples: list[tuple[float, str, Why]],
) -> None:
    timeline, now = Timeline(0.0), 0.0
    for seconds, gateway, why in samples:
        now += seconds
        timeline.at(now).hold(gateway, 8, why)
    for course in (timeline, timeline.at_most(7)):
        kept = [held for one in course.slices for held in one.held_by.values()]
        assert sum(held.samples for held in kept) == len(samples)


def test_retries_count_by_reason() -> None:
    collector = RunCollector(Clock())
    error = RateLimitError("busy")
    for reason in ("rate_limit_exceeded", "timeout", "timeout"):
        collector.retry_scheduled(
            RetryScheduled("http://gateway", "id", "m", "/v1/x", 1, reason, 0.5, error)
        )
    assert collector.retries == {"timeout": 2, "rate_limit_exceeded": 1}
    assert collector.timeline.slices[0].retries == 3
