"""What of a streamed answer is reported at once, and what together: never lost, never late."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.picker.gathering import Gathering

INTERVAL, MOST = 0.02, 1_000
# Of a stream with pauses of any length between its pieces, in seconds.
PAUSES = st.one_of(st.just(0.0), st.floats(0.0, INTERVAL), st.floats(0.0, 10 * INTERVAL))
STREAMS = st.lists(st.tuples(PAUSES, st.integers(1, 1_300)), max_size=60)


class Played:
    """A stream with a timer of its own. `reports` are what was reported, and when."""

    def __init__(self, stream: list[tuple[float, int]], interval: float = INTERVAL) -> None:
        gathering, now, timer = Gathering(interval, MOST), 0.0, math.inf
        self.came: list[tuple[float, bytes]] = []
        self.reports: list[tuple[float, bytes]] = []
        for number, (pause, size) in enumerate(stream):
            now += pause
            if timer <= now:
                self.reports.append((timer, gathering.due(timer)))
                timer = math.inf
            piece = bytes([number]) * size
            self.came.append((now, piece))
            self.reports += [(now, ready) for ready in gathering.comes(piece, now)]
            timer = min(timer, now + interval) if gathering.pieces else math.inf
        if gathering.pieces:
            self.reports.append((timer, gathering.due(timer)))


@given(STREAMS)
def test_however_pieces_come_they_are_reported_whole_once_and_in_order(
    stream: list[tuple[float, int]],
) -> None:
    played = Played(stream)
    reported = b"".join(report for _, report in played.reports)
    assert reported == b"".join(piece for _, piece in played.came)
    assert all(report for _, report in played.reports)


@given(STREAMS)
def test_no_piece_waits_for_longer_than_the_interval(stream: list[tuple[float, int]]) -> None:
    played = Played(stream)
    times = [at for at, report in played.reports for _ in report]
    came = [at for at, piece in played.came for _ in piece]
    assert all(at - then <= INTERVAL + 1e-9 for at, then in zip(times, came, strict=True))


@given(st.lists(st.tuples(PAUSES, st.integers(1, 4)), max_size=200))
def test_a_stream_of_small_pieces_makes_a_message_an_interval_and_four_ahead(
    stream: list[tuple[float, int]],
) -> None:
    times = [at for at, _ in Played(stream).reports]
    for begin, first in enumerate(times):
        for count, at in enumerate(times[begin:], 1):
            assert count <= 4 + (at - first) / INTERVAL + 1 + 1e-6


@given(st.floats(1.0, 50.0), st.integers(5, 60))
def test_a_stream_with_an_interval_between_its_pieces_is_reported_as_it_comes(
    pause: float, count: int
) -> None:
    played = Played([(pause * INTERVAL, 1)] * count)
    assert played.reports == played.came


def test_pieces_two_at_a_time_of_a_slow_stream_are_reported_as_they_come() -> None:
    played = Played([(5 * INTERVAL, 1), (0.001, 1)] * 20)
    assert played.reports == played.came


def test_the_first_pieces_of_a_fast_answer_are_reported_at_once_and_the_rest_by_frames() -> None:
    played = Played([(0.001, 1)] * 200)
    assert played.reports[:4] == played.came[:4]
    pauses = [later - before for (before, _), (later, _) in pairwise(played.reports[4:])]
    assert min(pauses) >= INTERVAL - 1e-9
    assert len(played.reports) < 16


def test_what_makes_a_full_message_does_not_wait() -> None:
    played = Played([(0.0, 300)] * 10)
    assert [len(report) for _, report in played.reports] == [300, 300, 300, 300, 900, 900]
    assert [at for at, _ in played.reports] == [0.0] * 5 + [INTERVAL]


@given(STREAMS)
def test_without_an_interval_nothing_is_gathered(stream: list[tuple[float, int]]) -> None:
    played = Played(stream, interval=0.0)
    assert played.reports == played.came
