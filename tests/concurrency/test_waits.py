"""Latency that no length explains: what is a queue, and what only looks like one."""

from __future__ import annotations

import random

import pytest

from batch_gateway.concurrency.rounds import Reading
from batch_gateway.concurrency.waiting_seats import NOTHING_KNOWN, Waiting, Waits


def reading(share: float, in_flight: float = 100.0, latency: float = 1.0) -> Reading:
    """A round in which so large a share of the latency was no work."""
    work = latency * (1 - share)
    return Reading(0.0, in_flight, latency, 100.0, work / 100, 0.01, latency * share, 0.01)


def told(waits: Waits, *shares: float, in_flight: float = 100.0) -> list[Waiting]:
    return [waits.learn(reading(share, in_flight), 100.0) for share in shares]


def test_a_queue_that_stays_for_two_rounds_is_believed_and_measured() -> None:
    waits = Waits()
    told(waits, *[0.05] * 5)
    once, twice = told(waits, 0.5, 0.5)
    assert not once.lasting
    assert twice.lasting
    assert twice.share == pytest.approx(0.47, abs=0.03)


def test_of_many_a_smaller_share_may_wait_than_of_few() -> None:
    lasting = dict.fromkeys((16, 400), False)
    for in_flight in lasting:
        waits = Waits()
        told(waits, *[0.05] * 5, in_flight=in_flight)
        lasting[in_flight] = any(
            one.lasting for one in told(waits, *[0.2] * 9, in_flight=in_flight)
        )
    assert lasting == {16: False, 400: True}


def test_one_round_shows_that_many_wait_but_not_that_they_will() -> None:
    waits = Waits()
    told(waits, *[0.05] * 5)
    (standstill, after) = told(waits, 0.4, 0.05)
    assert standstill.many
    assert not standstill.lasting
    assert not after.many
    assert after.share == pytest.approx(0, abs=0.02)


def test_what_a_server_does_before_the_first_token_is_no_queue() -> None:
    waits = Waits()
    assert all(not one.lasting and not one.many for one in told(waits, *[0.6] * 30))


@pytest.mark.parametrize("share", [0.9, 0.99, 1.0])
def test_where_the_length_hardly_matters_nothing_is_called_a_queue(share: float) -> None:
    chance = random.Random(1)
    waits = Waits()
    shares = [share + chance.gauss(0, 0.02) for _ in range(200)]
    assert sum(one.lasting or one.many for one in told(waits, *shares)) < 5


def test_a_server_that_does_everything_more_slowly_is_no_queue() -> None:
    waits = Waits()
    told(waits, *[0.1] * 5)
    for latency in (2.0, 5.0, 20.0):
        found = waits.learn(reading(0.1, latency=latency), 100.0)
        assert abs(found.share) < 0.01


def test_rounds_that_scatter_by_themselves_hardly_ever_look_like_a_queue() -> None:
    chance = random.Random(1)
    waits = Waits()
    seen = [
        waits.learn(reading(0.2 + chance.gauss(0, 0.03))._replace(wait_error=0.03), 100.0)
        for _ in range(2000)
    ]
    assert sum(one.lasting for one in seen) < 40


def test_what_waits_as_much_with_fewer_in_flight_is_no_queue_of_ours() -> None:
    waits = Waits()
    told(waits, *[0.02] * 5)
    told(waits, 0.5, 0.5)
    # Once, others may have taken the room that it left.
    after_cut = told(waits, 0.5, 0.5, in_flight=50.0)
    assert after_cut[-1].lasting
    (after_another,) = told(waits, 0.5, in_flight=25.0)
    assert after_another == NOTHING_KNOWN
    # It is cut for a few times more, and then never again.
    in_flight, cuts = 25.0, 0
    for _ in range(200):
        (one,) = told(waits, 0.5, in_flight=in_flight)
        cuts += one.lasting
        in_flight *= 1 - one.share * one.lasting
    assert cuts <= 4


def test_a_queue_of_ours_is_gone_after_a_cut_and_may_come_again() -> None:
    waits = Waits()
    told(waits, *[0.02] * 5)
    told(waits, 0.5, 0.5)
    (after_cut,) = told(waits, 0.03, in_flight=50.0)
    assert after_cut.share < 0.05
    assert told(waits, 0.5, 0.5)[-1].lasting


def test_a_queue_is_not_taken_for_the_least_where_fewer_answers_showed_none() -> None:
    waits = Waits()
    for _ in range(3):
        few = reading(0.03, in_flight=16.0)._replace(wait_error=0.08)
        assert waits.learn(few, 100.0) == NOTHING_KNOWN
    found = told(waits, 0.5, 0.5)[-1]
    assert found.lasting
    assert found.share > 0.25


def test_where_lengths_hardly_differ_nothing_is_known() -> None:
    blind = reading(0.5)._replace(wait_error=float("inf"))
    assert Waits().learn(blind, 100.0) == NOTHING_KNOWN
    assert not NOTHING_KNOWN.many
