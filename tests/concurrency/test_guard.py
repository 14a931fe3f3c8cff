"""Room for others: what streamed answers tell of it, and what is no sign of anybody."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.concurrency.events import Started
from batch_gateway.concurrency.guard import Guard, State
from tests.concurrency.streaming_server import StreamingServer

BURST, EVERY = 6.0, 30.0


def bursts(seats: int, taken: int, until: float = math.inf) -> Callable[[float], int]:
    """Every half a minute others come for six seconds."""
    return lambda now: seats - taken * (now < until and now % EVERY > EVERY - BURST)


# -- the door ------------------------------------------------------------------------------


def test_few_of_ours_wait_in_front_of_others_however_many_are_wanted() -> None:
    server = StreamingServer(lambda _: 100).run(60)
    server.most_waiting = 0
    server.run(60)
    assert server.most_waiting <= 16
    assert server.in_flight >= 98


def test_ours_make_room_within_seconds_when_others_take_seats() -> None:
    server = StreamingServer(lambda now: 100 if now < 60 else 60).run(59)
    server.run(5)
    assert server.in_flight <= 70


def test_the_room_is_used_again_as_soon_as_it_is_back() -> None:
    server = StreamingServer(lambda now: 60 if 60 < now < 90 else 100).run(95)
    assert server.in_flight >= 95


def test_a_first_token_that_takes_longer_for_good_does_not_hold_ours_back_for_long() -> None:
    server = StreamingServer(lambda _: 100, wanted=100).run(60)
    server.first = 0.6
    server.run(120)
    assert server.in_flight >= 90


def test_what_is_first_heard_late_does_not_make_all_that_follows_late() -> None:
    server = StreamingServer(lambda _: 100)
    server.first, server.heard_after = 0.3, 5.0
    server.run(4)
    server.heard_after = 0.0
    server.run(120)
    assert server.in_flight >= 70


def test_answers_that_were_read_late_did_not_end_ahead_of_a_first_token() -> None:
    server = StreamingServer(lambda _: 400, wanted=100)
    server.reads = 0.005
    server.run(60).pause(3)
    for _ in range(6):
        server.run(1)
        assert not server.guard.queues


@pytest.mark.parametrize("streams", [0.0, 0.3])
def test_nothing_is_capped_where_few_answers_are_streamed(streams: float) -> None:
    server = StreamingServer(bursts(100, 40))
    server.streams = streams
    server.run(300)
    assert not server.guard.watches
    assert server.guard.room == math.inf


def test_nothing_is_capped_any_more_when_answers_are_no_longer_streamed() -> None:
    server = StreamingServer(bursts(100, 40)).run(200)
    assert server.guard.room < 70
    server.streams = 0.0
    server.run(60)
    assert not server.guard.watches
    assert server.guard.room == math.inf
    assert server.in_flight == 300


# -- the room ------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [12, 25, 40])
def test_room_that_others_need_again_and_again_is_kept_for_them(taken: int) -> None:
    server = StreamingServer(bursts(100, taken)).run(100)
    assert server.guard.state is State.KEEPS
    assert 0.75 * (100 - taken) <= server.guard.room <= 100 - taken


def test_others_hardly_wait_once_they_are_known() -> None:
    server = StreamingServer(bursts(100, 30)).run(100)
    server.most_waiting = 0
    server.run(120)
    assert server.most_waiting <= 3


def test_a_lull_of_ten_minutes_does_not_make_others_forgotten() -> None:
    lull = (300.0, 900.0)

    def seats(now: float) -> int:
        return 100 if lull[0] <= now < lull[1] else bursts(100, 30)(now)

    server = StreamingServer(seats).run(lull[1])
    assert server.guard.room <= 90


def test_room_is_given_back_within_twenty_minutes_after_others_are_gone() -> None:
    server = StreamingServer(bursts(100, 40, until=300)).run(300)
    assert server.guard.room < 70
    server.run(20 * 60)
    assert server.guard.room == math.inf
    assert server.in_flight >= 98


def test_another_batch_that_takes_whatever_ours_leave_is_kept_no_room_for() -> None:
    server = StreamingServer(bursts(100, 30)).run(100)
    assert server.guard.state is State.KEEPS
    server.seats = lambda _: max(10, server.in_flight - 4)
    server.run(30)
    server.seats = bursts(100, 30)
    server.run(5 * 60)
    assert server.guard.state is State.FREE


# -- what is nobody ------------------------------------------------------------------------


def test_a_server_with_room_for_all_is_never_taken_for_shared() -> None:
    server = StreamingServer(lambda _: 400).run(300)
    assert server.guard.room == math.inf
    assert server.in_flight == 300


def test_a_full_server_alone_is_not_shared() -> None:
    server = StreamingServer(lambda _: 100).run(300)
    assert server.guard.state is State.FREE


def test_a_server_that_became_smaller_or_larger_for_long_is_not_shared() -> None:
    server = StreamingServer(lambda now: 100 if now % 120 < 60 else 60).run(480)
    assert server.guard.state is State.FREE


def test_a_smaller_number_of_ours_by_our_own_choice_is_nobody() -> None:
    server = StreamingServer(lambda _: 100)
    for _ in range(10):
        server.wanted = 120
        server.run(10)
        server.wanted = 60
        server.run(10)
    assert server.guard.state is State.FREE


def test_a_server_that_is_full_for_a_moment_now_and_then_is_not_shared() -> None:
    server = StreamingServer(lambda now: 80 if now % 30 > 29.25 else 100).run(300)
    assert server.guard.state is State.FREE


def test_what_was_refused_at_once_holds_up_nothing_behind_it() -> None:
    server = StreamingServer(lambda _: 100).run(60)
    guard, n, now = server.guard, server.in_flight, server.now
    before = guard.allowed_now(n)
    for _ in range(10):
        refused = Started(now, 0.0, n + 1)
        guard.sent(refused, n + 1, now)
        guard.ended(refused, False, n, now)
    assert guard.allowed_now(n) == before + 10


def test_an_outage_in_which_all_of_ours_fail_is_nobody() -> None:
    server = StreamingServer(lambda _: 100)
    for _ in range(5):
        server.run(40)
        server.fail_all()
    server.run(40)
    assert server.guard.state is State.FREE


# -- any history ---------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "first", "end", "fail"]), st.floats(0.0, 2.0)),
    max_size=300,
)


@given(STEPS, st.floats(0.0, 1000.0))
@settings(max_examples=50, deadline=None)
def test_one_may_always_be_sent_when_nothing_waits(
    steps: list[tuple[str, float]], rate: float
) -> None:
    guard, now = Guard(), 0.0
    waiting, running = list[Started](), list[Started]()
    guard.learn(rate)
    for what, after in steps:
        now += after
        n = len(waiting) + len(running)
        if what == "send":
            waiting.append(Started(now, 0.0, n + 1))
            if guard.listens:
                guard.sent(waiting[-1], n + 1, now)
        elif what == "first" and waiting:
            running.append(waiting.pop(0))
            guard.first_token(running[-1], now - running[-1].at, n, now)
        elif what == "end" and running:
            one = running.pop(0)
            if guard.listens:
                guard.ended(one, True, n - 1, now)
        elif what == "fail" and waiting:
            one = waiting.pop(0)
            if guard.listens:
                guard.ended(one, False, n - 1, now)
        assert guard.room >= 1
        if guard.watches:
            assert guard.allowed_now(len(waiting) + len(running)) >= len(running)


@given(st.integers(30, 200), st.floats(0.0, 0.6), st.integers(0, 100))
# One in some thousands is taken for others all the same, and kept room for.
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_server_that_is_free_again_is_used_within_a_minute_while_others_are_not_known(
    seats: int, share: float, seed: int
) -> None:
    left = max(4, int((1 - share) * seats))
    server = StreamingServer(lambda now: left if now < 60 else seats, wanted=seats, seed=seed)
    server.run(120)
    assert server.in_flight >= 0.8 * seats
