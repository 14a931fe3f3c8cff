"""Latency that no length explains: what is a queue, and what only looks like one."""

from __future__ import annotations

import random

import pytest

from batch_gateway.concurrency.rounds import Reading
from batch_gateway.concurrency.waiting_seats import NOTHING_KNOWN, Lately, Waiting, Waits


def reading(share: float, in_flight: float = 100.0, latency: float = 1.0) -> Reading:
    """A round in which so large a share of the latency was no work."""
    work = latency * (1 - share)
    return Reading(0.0, in_flight, latency, 100.0, work / 100, 0.01, latency * share, 0.01)


def told(waits: Waits, *shares: float, in_flight: float = 100.0) -> list[Waiting]:
    return [waits.learn(reading(share, in_flight), 100.0) for share in shares]


def too_many(seen: list[Waiting], *, raised: bool = False) -> int:
    """In how many of these rounds more than may seem to wait."""
    lately, found = Lately(), 0
    for one in seen:
        lately.learn(one)
        found += lately.too_many(raised=raised)
    return found


def test_a_queue_that_stays_for_two_rounds_is_believed_and_measured() -> None:
    waits = Waits()
    told(waits, *[0.05] * 5)
    once, twice = told(waits, 0.5, 0.5)
    assert not too_many([once])
    assert too_many([once, twice])
    assert twice.share == pytest.approx(0.47, abs=0.03)


def test_of_many_a_smaller_share_may_wait_than_of_few() -> None:
    found = dict.fromkeys((16, 400), 0)
    for in_flight in found:
        waits = Waits()
        told(waits, *[0.05] * 5, in_flight=in_flight)
        found[in_flight] = too_many(told(waits, *[0.2] * 9, in_flight=in_flight))
    assert not found[16]
    assert found[400]


def test_one_round_shows_a_queue_after_a_raise_and_elsewhere_may_be_a_standstill() -> None:
    waits = Waits()
    told(waits, *[0.05] * 5)
    calm = told(waits, *[0.05] * 5)
    (standstill,) = told(waits, 0.4)
    assert too_many([standstill], raised=True)
    assert not too_many([*calm, standstill, *told(waits, *[0.05] * 5)])


def test_what_a_server_does_before_the_first_token_is_no_queue() -> None:
    assert not too_many(told(Waits(), *[0.6] * 30), raised=True)


@pytest.mark.parametrize("share", [0.9, 0.99, 1.0])
def test_where_the_length_hardly_matters_nothing_is_called_a_queue(share: float) -> None:
    chance = random.Random(1)
    shares = [share + chance.gauss(0, 0.02) for _ in range(200)]
    assert too_many(told(Waits(), *shares)) < 5


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
    assert too_many(seen) < 40


def test_what_waits_whatever_we_do_counts_as_none_in_time() -> None:
    waits = Waits()
    told(waits, *[0.02] * 5)
    # Others whose queue does not go with ours would bring us down to nothing, and keep us there.
    seen = told(waits, *[0.5] * 150, in_flight=20.0)
    assert too_many(seen[:10])
    assert not too_many(seen[100:])


def test_a_queue_of_ours_is_gone_after_a_cut_and_may_come_again() -> None:
    waits = Waits()
    told(waits, *[0.02] * 5)
    told(waits, 0.5, 0.5)
    (after_cut,) = told(waits, 0.03, in_flight=50.0)
    assert after_cut.share < 0.05
    assert too_many(told(waits, 0.5, 0.5))


def test_a_queue_is_not_taken_for_the_least_where_fewer_answers_showed_none() -> None:
    waits = Waits()
    for _ in range(3):
        few = reading(0.03, in_flight=16.0)._replace(wait_error=0.08)
        assert waits.learn(few, 100.0) == NOTHING_KNOWN
    found = told(waits, 0.5, 0.5)
    assert too_many(found)
    assert found[-1].share > 0.25


def test_where_lengths_hardly_differ_nothing_is_known() -> None:
    blind = reading(0.5)._replace(wait_error=float("inf"))
    assert Waits().learn(blind, 100.0) == NOTHING_KNOWN
    assert not too_many([NOTHING_KNOWN] * 9, raised=True)
