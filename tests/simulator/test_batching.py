"""The model of continuous batching: what must hold whatever happens to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.simulator.batching import Admission, ContinuousBatch, Event, EventKind
from batch_gateway.simulator.capacity import Capacity

Operation = tuple[Any, ...]

# Binary fractions, so that parts of a gap add up to it exactly.
gaps = st.sampled_from([0.0, 1 / 1024, 10 / 1024, 16 / 1024, 0.25, 3.0])
submissions = st.tuples(
    st.just("submit"),
    gaps,
    st.integers(0, 1500),  # prompt tokens
    st.integers(0, 60),  # output tokens
    st.sampled_from([1, 1, 1, 2]),  # width
    st.sampled_from([-1, 0, 0, 100]),  # priority
)
cancellations = st.tuples(st.just("cancel"), gaps, st.integers(0, 40))
looks = st.tuples(st.just("advance"), gaps)
operations = st.lists(st.one_of(submissions, submissions, cancellations, looks), max_size=60)
capacities = st.builds(
    Capacity,
    seats=st.integers(2, 5),
    queue_limit=st.sampled_from([None, 0, 2]),
    queue_ttl=st.sampled_from([None, 0.2]),
    kv_cache_tokens=st.sampled_from([None, 2000]),
    time_per_token=st.just(0.01),
    load_growth=st.sampled_from([0.0, 0.1]),
    tokens_per_second=st.sampled_from([None, 250.0]),
    jitter=st.sampled_from([0.0, 0.2]),
)


@dataclass
class Played:
    """A batch after some operations, and everything that it said."""

    batch: ContinuousBatch
    events: list[Event] = field(default_factory=list[Event])
    submitted: dict[int, float] = field(default_factory=dict[int, float])
    admissions: list[Admission] = field(default_factory=list[Admission])


def play(capacity: Capacity, script: list[Operation], check: bool = False) -> Played:
    played = Played(ContinuousBatch(capacity))
    now = 0.0
    for operation in script:
        now += operation[1]
        before = len(played.events)
        if operation[0] == "submit":
            number = len(played.submitted)
            played.submitted[number] = now
            _, _, prompt, output, width, priority = operation
            admission = played.batch.submit(
                number, prompt, output, now, width=width, priority=priority
            )
            played.admissions.append(admission)
        elif operation[0] == "cancel":
            played.batch.cancel(operation[2], now)
        played.events += played.batch.advance(now)
        if check:
            assert all(event.time <= now for event in played.events[before:])
            assert_consistent(played.batch)
    return played


def drain(played: Played) -> None:
    while (at := played.batch.next_event_time()) is not None:
        played.events += played.batch.advance(at)


def assert_consistent(batch: ContinuousBatch) -> None:
    totals = batch.totals
    gone = totals.finished + totals.cancelled + totals.refused + totals.dropped
    assert totals.submitted == gone + batch.running + batch.waiting
    assert 0 <= batch.seats_taken <= batch.capacity.seats
    assert 0 <= batch.kv_usage <= 1
    limit = batch.capacity.queue_limit
    assert limit is None or batch.waiting <= limit


@given(capacities, operations)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_limit_is_passed(
    capacity: Capacity, script: list[Operation]
) -> None:
    played = play(capacity, script, check=True)
    drain(played)
    assert_consistent(played.batch)
    assert (played.batch.running, played.batch.waiting) == (0, 0)
    assert (played.batch.seats_taken, played.batch.kv_usage) == (0, 0)


@given(capacities, operations)
@settings(max_examples=50, deadline=None)
def test_events_come_in_order_and_never_before_their_cause(
    capacity: Capacity, script: list[Operation]
) -> None:
    played = play(capacity, script)
    drain(played)
    assert [e.time for e in played.events] == sorted(e.time for e in played.events)
    seen: dict[object, list[EventKind]] = {}
    for event in played.events:
        assert isinstance(event.sequence_id, int)
        assert event.time >= played.submitted[event.sequence_id]
        seen.setdefault(event.sequence_id, []).append(event.kind)
    ends = [EventKind.FINISHED], [EventKind.EXPIRED], [EventKind.DISPLACED]
    for kinds in seen.values():
        assert kinds in (*ends, [EventKind.FIRST_TOKEN], [EventKind.FIRST_TOKEN, *ends[0]])


@given(capacities, operations, st.sampled_from([2, 4]))
@settings(max_examples=50, deadline=None)
def test_the_same_traffic_gives_the_same_events_however_often_one_looks(
    capacity: Capacity, script: list[Operation], parts: int
) -> None:
    plain = play(capacity, script)
    drain(plain)
    watched: list[Operation] = []
    for operation in script:
        part = operation[1] / parts
        watched += [("advance", part)] * (parts - 1)
        watched.append((operation[0], operation[1] - part * (parts - 1), *operation[2:]))
    again = play(capacity, watched)
    drain(again)
    assert [(e.kind, e.sequence_id) for e in again.events] == [
        (e.kind, e.sequence_id) for e in plain.events
    ]
    assert [e.time for e in again.events] == pytest.approx([e.time for e in plain.events])
    assert again.admissions == plain.admissions


@given(st.lists(st.tuples(gaps, st.integers(0, 300), st.integers(1, 40)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_seat_stays_empty_while_somebody_waits(
    arrivals: list[tuple[float, int, int]],
) -> None:
    batch = ContinuousBatch(Capacity(seats=3, time_per_token=0.01))
    now = 0.0
    for number, (gap, prompt, output) in enumerate(arrivals):
        now += gap
        batch.submit(number, prompt, output, now)
        assert batch.waiting == 0 or batch.running == 3
    while (at := batch.next_event_time()) is not None:
        batch.advance(at)
        assert batch.waiting == 0 or batch.running == 3


# -- worked examples -----------------------------------------------------------------------


def finish_times(batch: ContinuousBatch) -> dict[object, float]:
    times: dict[object, float] = {}
    while (at := batch.next_event_time()) is not None:
        for event in batch.advance(at):
            if event.kind is EventKind.FINISHED:
                times[event.sequence_id] = event.time
    return times


def test_one_sequence_takes_its_prefill_and_then_a_step_a_token() -> None:
    capacity = Capacity(
        time_per_token=0.01, prefill_tokens_per_second=1000, prefill_chunk_tokens=200
    )
    batch = ContinuousBatch(capacity)
    assert batch.submit("a", 300, 5, 0.0) is Admission.RUNNING
    # Two chunks are read in two steps, the second of which brings the first token.
    (first,) = batch.advance(0.32)
    assert first == (pytest.approx(0.32), EventKind.FIRST_TOKEN, "a")
    assert finish_times(batch) == {"a": pytest.approx(0.36)}


def test_tokens_come_slower_the_more_sequences_run() -> None:
    alone = ContinuousBatch(Capacity(time_per_token=0.01, load_growth=0.5))
    alone.submit("a", 0, 10, 0.0)
    together = ContinuousBatch(Capacity(time_per_token=0.01, load_growth=0.5))
    together.submit("a", 0, 10, 0.0, width=3)
    assert finish_times(alone) == {"a": pytest.approx(0.10)}
    assert finish_times(together) == {"a": pytest.approx(0.20)}


def test_all_sequences_together_stay_under_the_ceiling() -> None:
    batch = ContinuousBatch(
        Capacity(seats=50, time_per_token=0.01, load_growth=0, tokens_per_second=1000)
    )
    for number in range(50):
        batch.submit(number, 0, 100, 0.0)
    assert max(finish_times(batch).values()) == pytest.approx(5000 / 1000, rel=0.02)


def test_a_cancelled_sequence_frees_its_seat_for_the_next_at_once() -> None:
    batch = ContinuousBatch(Capacity(seats=1, time_per_token=0.01))
    batch.submit("a", 0, 1000, 0.0)
    assert batch.submit("b", 0, 10, 0.0) is Admission.QUEUED
    assert batch.cancel("a", 0.05)
    assert (batch.running, batch.waiting) == (1, 0)
    assert finish_times(batch)["b"] == pytest.approx(0.16, abs=0.011)
    assert not batch.cancel("a", 1.0)


def test_tokens_can_be_followed_step_by_step() -> None:
    batch = ContinuousBatch(Capacity(time_per_token=0.01))
    batch.submit("a", 0, 5, 0.0)
    seen: list[int] = []
    while (at := batch.next_step_time()) is not None:
        batch.advance(at)
        seen.append(batch.generated("a"))
    assert seen == [1, 2, 3, 4, 0]


def test_higher_priority_goes_first_and_takes_places_in_a_full_queue() -> None:
    batch = ContinuousBatch(Capacity(seats=1, queue_limit=1, time_per_token=0.01))
    batch.submit("running", 0, 10, 0.0)
    assert batch.submit("batch", 0, 10, 0.0, priority=-1) is Admission.QUEUED
    assert batch.submit("chat", 0, 10, 0.0, priority=100) is Admission.QUEUED
    assert batch.submit("late", 0, 10, 0.0, priority=-1) is Admission.REFUSED
    assert [(e.kind, e.sequence_id) for e in batch.advance(0.0)] == [(EventKind.DISPLACED, "batch")]
    assert set(finish_times(batch)) == {"running", "chat"}


def test_the_queue_is_served_by_priority_and_then_in_order() -> None:
    batch = ContinuousBatch(Capacity(seats=1, time_per_token=0.01))
    for name, priority in (("now", 0), ("last", -1), ("second", 0), ("first", 5), ("third", 0)):
        batch.submit(name, 0, 10, 0.0, priority=priority)
    assert list(finish_times(batch)) == ["now", "first", "second", "third", "last"]


def test_cached_tokens_are_not_read_but_held() -> None:
    capacity = Capacity(time_per_token=0.01, prefill_tokens_per_second=1000, kv_cache_tokens=1000)
    batch = ContinuousBatch(capacity)
    batch.submit("a", 300, 1, 0.0, cached_tokens=200)
    assert batch.kv_usage == pytest.approx(0.301)
    assert finish_times(batch) == {"a": pytest.approx(0.11)}


def test_jitter_belongs_to_the_step_whoever_comes_and_goes() -> None:
    capacity = Capacity(time_per_token=0.01, load_growth=0, jitter=0.3)
    batch = ContinuousBatch(capacity)
    batch.submit("long", 0, 100, 0.0)
    batch.submit("short", 0, 5, 0.0)
    expected = sum(capacity.step_time(1, step=step) for step in range(100))
    assert finish_times(batch)["long"] == pytest.approx(expected)
    assert expected != pytest.approx(1.0, abs=1e-6)


def test_a_queued_sequence_expires() -> None:
    batch = ContinuousBatch(Capacity(seats=1, queue_ttl=0.5, time_per_token=0.01))
    batch.submit("a", 0, 1000, 0.0)
    batch.submit("b", 0, 10, 0.1)
    assert batch.advance(0.7)[-1] == (pytest.approx(0.6), EventKind.EXPIRED, "b")
    assert batch.waiting == 0


def test_more_seats_let_the_queue_in_and_fewer_let_it_drain() -> None:
    batch = ContinuousBatch(Capacity(seats=1, time_per_token=0.01))
    for name in "abcd":
        batch.submit(name, 0, 100, 0.0)
    batch.reconfigure(Capacity(seats=3, time_per_token=0.01), 0.5)
    assert (batch.running, batch.waiting) == (3, 1)
    batch.reconfigure(Capacity(seats=1, time_per_token=0.01), 0.6)
    assert (batch.running, batch.waiting) == (3, 1)
    times = finish_times(batch)
    assert times["d"] > times["c"] > times["a"]


def test_what_the_kv_cache_never_holds_is_refused_at_once() -> None:
    batch = ContinuousBatch(Capacity(kv_cache_tokens=1000))
    assert batch.submit("a", 900, 101, 0.0) is Admission.TOO_LARGE
    assert batch.submit("b", 900, 100, 0.0) is Admission.RUNNING
    assert batch.submit("c", 1, 1, 0.0) is Admission.QUEUED
    assert batch.kv_usage == 1.0


def test_time_does_not_go_back() -> None:
    batch = ContinuousBatch(Capacity(), now=10.0)
    with pytest.raises(ValueError, match="time goes back"):
        batch.advance(9.0)
