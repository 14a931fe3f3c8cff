"""What follows from a gateway's own account of its load, as a pure function."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.concurrency.server_load import Load, ServerLoad, Standing


class Story:
    """Looks a second apart at a server of so many seats, with a client that does as advised."""

    def __init__(self, seats: int = 100) -> None:
        self.seats = seats
        self.load = ServerLoad()
        self.now = 0.0
        self.answered = 0
        self.look(0)

    def look(
        self, ours: int, others: int = 0, *, usage: float = 0.1, seconds: float = 1.0
    ) -> float:
        present = ours + others
        running = min(self.seats, present)
        load = Load(running, present - running, usage, servers=1)
        self.now += seconds
        self.answered += 1
        return self.load.advice(load, Standing(ours, ours, self.answered), self.now).most


def test_nothing_is_advised_while_nothing_waits() -> None:
    story = Story()
    assert [story.look(ours) for ours in (10, 50, 100)] == [math.inf] * 3


def test_a_few_that_wait_are_no_reason() -> None:
    assert Story().look(109) == math.inf


def test_alone_ours_come_down_to_what_runs_and_a_tenth_more() -> None:
    assert Story().look(200) == pytest.approx(110)


def test_beside_others_ours_come_down_by_their_share() -> None:
    story = Story()
    story.look(50, others=10)
    assert story.look(75, others=75) <= 75 * 102 / 150


def test_room_for_the_most_that_others_needed_is_kept_for_ten_minutes() -> None:
    story = Story()
    story.look(90, others=40)
    kept = story.look(50, others=5)
    assert kept == pytest.approx(100 - 1.1 * 40)
    assert story.look(50, others=5, seconds=300) >= kept
    story.look(50, others=5, seconds=400)
    assert story.look(50, others=0, seconds=700) == math.inf


def test_a_tenth_of_the_capacity_is_never_given_up_to_others() -> None:
    story = Story()
    story.look(20, others=500)
    assert story.look(5, others=90) == pytest.approx(10)


def test_a_capacity_that_nothing_confirms_gives_way() -> None:
    story = Story()
    story.look(90, others=40)
    first = story.look(50, others=20)
    later = [story.look(50, others=20, seconds=60) for _ in range(8)]
    assert later == sorted(later)
    assert later[-1] > first + 20


def test_more_servers_have_another_capacity() -> None:
    story = Story()
    story.look(90, others=40)
    ours = Standing(50, 50, 9)
    assert story.load.advice(Load(60, 0, 0.1, servers=1), ours, 2.0).most < math.inf
    assert story.load.advice(Load(60, 0, 0.1, servers=3), ours, 3.0).most == math.inf


def test_a_page_of_some_of_the_servers_is_taken_for_all_of_them() -> None:
    load = ServerLoad()
    load.advice(Load(10, 10, servers=1), Standing(200, 200, 0), 0.0)
    advice = load.advice(Load(10, 10, servers=1), Standing(200, 200, 0), 1.0)
    assert advice.most == pytest.approx(110)
    assert not advice.whole
    assert load.capacity == math.inf


def test_a_guess_about_others_is_not_needed_where_everything_is_seen() -> None:
    whole = ServerLoad().advice(Load(50, 0, servers=1), Standing(50, 50, 0), 1.0)
    part = ServerLoad().advice(Load(5, 0, servers=1), Standing(50, 50, 0), 1.0)
    assert whole.within(20) == math.inf
    assert part.within(20) == 20


def test_room_beside_others_may_be_used_without_a_doubt() -> None:
    story = Story()
    story.look(90, others=40)
    advice = story.load.advice(Load(55, 0, servers=1), Standing(50, 50, 9), 3.0)
    assert 0.85 * advice.most < advice.least < advice.most


def test_waits_of_milliseconds_are_nobodys_business() -> None:
    load = ServerLoad()
    looks = [
        load.advice(Load(24, 24, servers=1), Standing(48, 48, 7000 * second), second).most
        for second in range(1, 5)
    ]
    assert looks == [math.inf] * 4


def test_a_nearly_full_cache_holds_the_limit_until_it_is_less_full() -> None:
    story = Story()
    assert story.look(50, usage=0.94) == math.inf
    assert story.look(60, usage=0.96) == 60
    assert story.look(70, usage=0.93) == 60
    assert story.look(60, usage=0.89) == math.inf


def test_a_saturated_pool_brings_ours_down_until_it_is_not() -> None:
    load, ours = ServerLoad(), 100
    for saturation in (1.0, 1.5, 1.0):
        advice = load.advice(Load(saturation=saturation), Standing(ours, ours, 0), 1.0).most
        assert advice < ours
        ours = int(advice)
    assert load.advice(Load(saturation=0.93), Standing(ours, ours, 0), 2.0).most <= 95
    assert load.advice(Load(saturation=0.5), Standing(ours, ours, 0), 3.0).most == math.inf


_maybe = st.none() | st.floats(0, 1e6)
_loads = st.builds(Load, _maybe, _maybe, _maybe, _maybe, st.integers(0, 5))


@given(st.lists(st.tuples(_loads, st.integers(0, 10_000), st.floats(0, 100)), max_size=20))
def test_whatever_a_page_says_the_advice_is_a_number_of_requests(
    looks: list[tuple[Load, int, float]],
) -> None:
    server, now = ServerLoad(), 0.0
    for load, in_flight, seconds in looks:
        now += seconds
        advice = server.advice(load, Standing(in_flight, in_flight, 0), now).most
        assert advice >= 0
        assert not math.isnan(advice)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 300))
def test_a_client_that_does_as_advised_ends_the_wait_or_is_down_to_its_share(
    ours: int, others: int, seats: int
) -> None:
    story = Story(seats)
    for _ in range(60):
        advice = story.look(ours, others)
        ours = max(1, min(ours, math.floor(min(advice, 1e9))))
    waiting = max(0, ours + others - seats)
    assert waiting <= max(1.0, 0.1 * seats) or ours <= max(1.0, 0.1 * seats) + 1
