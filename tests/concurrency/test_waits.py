"""Latency that no length explains: what is a queue, and what only looks like one."""

from __future__ import annotations

import math
import random

import pytest

from batch_gateway.concurrency.rounds import Reading
from batch_gateway.concurrency.waiting_seats import Waits


def reading(
    share: float, in_flight: float = 100.0, latency: float = 1.0, error: float = 0.01
) -> Reading:
    """A round in which so large a share of the latency was no work."""
    return Reading(in_flight, latency, 100.0, latency * (1 - share) / 100, 0.01, error)


def seen(*shares: float) -> Waits:
    """These rounds, and then another level."""
    waits = Waits()
    too_many(waits, *shares)
    waits.begin()
    return waits


def too_many(
    waits: Waits,
    *shares: float,
    in_flight: float = 100.0,
    error: float = 0.01,
    raised: bool = False,
) -> int:
    """In how many of these rounds more than may seem to wait."""
    found = 0
    for share in shares:
        waits.learn(reading(share, in_flight, error=error), 100.0)
        found += waits.too_many(raised=raised)
    return found


def test_a_queue_that_stays_for_two_rounds_is_believed_and_measured() -> None:
    waits = seen(*[0.05] * 5)
    assert not too_many(waits, 0.5)
    assert too_many(waits, 0.5)
    assert waits.share == pytest.approx(0.47, abs=0.03)


def test_of_many_a_smaller_share_may_wait_than_of_few() -> None:
    for in_flight, queue in ((16, False), (400, True)):
        waits = seen(*[0.05] * 5)
        assert bool(too_many(waits, *[0.2] * 9, in_flight=in_flight)) is queue


def test_one_round_shows_a_queue_after_a_raise_and_elsewhere_may_be_a_standstill() -> None:
    assert too_many(seen(*[0.05] * 10), 0.4, raised=True)
    waits = seen(*[0.05] * 5)
    assert not too_many(waits, *[0.05] * 5, 0.4, *[0.05] * 5)


def test_what_a_server_does_before_the_first_token_is_no_queue() -> None:
    assert not too_many(Waits(), *[0.6] * 30, raised=True)


@pytest.mark.parametrize("share", [0.9, 0.99, 1.0])
def test_where_the_length_hardly_matters_nothing_is_called_a_queue(share: float) -> None:
    chance = random.Random(1)
    shares = [min(1.0, share + chance.gauss(0, 0.02)) for _ in range(200)]
    assert too_many(Waits(), *shares) < 5


def test_a_server_that_does_everything_more_slowly_is_no_queue() -> None:
    waits = seen(*[0.1] * 5)
    for latency in (2.0, 5.0, 20.0):
        waits.learn(reading(0.1, latency=latency), 100.0)
        assert abs(waits.share) < 0.01


def test_rounds_that_scatter_by_themselves_hardly_ever_look_like_a_queue() -> None:
    chance = random.Random(1)
    shares = [0.2 + chance.gauss(0, 0.03) for _ in range(2000)]
    assert too_many(Waits(), *shares, error=0.03) < 40


def test_what_waits_whatever_we_do_counts_as_none_in_time() -> None:
    waits = seen(*[0.02] * 5)
    # Others whose queue does not go with ours would bring us down to nothing, and keep us there.
    assert too_many(waits, *[0.5] * 10, in_flight=20.0)
    too_many(waits, *[0.5] * 90, in_flight=20.0)
    assert not too_many(waits, *[0.5] * 50, in_flight=20.0)


def test_a_queue_of_ours_is_gone_after_a_cut_and_may_come_again() -> None:
    waits = seen(*[0.02] * 5)
    assert too_many(waits, 0.5, 0.5)
    waits.begin()
    assert not too_many(waits, 0.03, in_flight=50.0)
    assert waits.share < 0.05
    waits.begin()
    assert too_many(waits, 0.5, 0.5)


def test_a_queue_is_not_taken_for_the_least_where_fewer_answers_showed_none() -> None:
    waits = Waits()
    assert not too_many(waits, *[0.03] * 3, in_flight=16.0, error=0.08)
    assert not waits.may
    assert too_many(waits, 0.5, 0.5)
    assert waits.share > 0.25


def test_where_lengths_hardly_differ_nothing_is_known() -> None:
    waits = Waits()
    assert not too_many(waits, *[0.5] * 9, error=math.inf, raised=True)
    assert not waits.may
