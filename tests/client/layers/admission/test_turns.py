"""Whose turn it is: the law in `turns`, each clause of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.client.layers.admission.turns import EVERY, Turn, Turns, urgency

NONE = float("inf")
HOUR, DAY = 3600.0, 86_400.0


def taken(turns: Turns[str]) -> Iterator[str]:
    while turns:
        yield turns.pop()


def test_without_due_times_and_tenants_the_order_is_that_of_arrival() -> None:
    turns = Turns[int]()
    for number in range(100):
        turns.push(number, float(number))
    assert [turns.pop() for _ in range(100)] == list(range(100))
    with pytest.raises(IndexError):
        turns.pop()


def test_an_urgent_line_passes_a_long_queue() -> None:
    turns = Turns[str]()
    for number in range(10_000):
        turns.push(f"day {number}", 0.0, DAY)
    for _ in range(5):
        turns.pop()
    turns.push("hour", 1.0, HOUR)
    assert "hour" in [turns.pop() for _ in range(2)]


@given(
    backlog=st.lists(
        st.tuples(st.sampled_from([2 * HOUR, 6 * HOUR, DAY, NONE]), st.sampled_from("abc")),
        max_size=200,
    ),
    given_before=st.integers(0, 40),
    tenant=st.sampled_from("abcd"),
)
def test_an_urgent_arrival_gets_one_of_the_next_two_permits(
    backlog: list[tuple[float, str]], given_before: int, tenant: str
) -> None:
    turns = Turns[str]()
    for due, name in backlog:
        turns.push("later", 0.0, due, name)
    for _ in range(min(given_before, len(backlog))):
        turns.pop()
    turns.push("urgent", 1.0, 60.0, tenant)
    assert "urgent" in [turns.pop() for _ in range(min(2, len(turns)))]


@given(
    lines=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=300),
    leaves=st.lists(st.integers(0, 299), max_size=30),
)
def test_of_tenants_that_wait_no_other_has_two_turns_between_two_of_ones_own(
    lines: list[tuple[str, bool]], leaves: list[int]
) -> None:
    """Whoever comes, goes, or has many more waiting than the others."""
    turns, waiting = Turns[str](), Counter[str]()
    since: dict[str, Counter[str]] = {name: Counter() for name in "abcd"}
    places: list[Turn[str]] = []

    def take() -> None:
        served = turns.pop()
        waiting[served] -= 1
        for name, others in since.items():
            if name == served or not waiting[name]:
                others.clear()
            else:
                others[served] += 1
                assert others[served] == 1

    for number, (name, takes) in enumerate(lines):
        places.append(turns.push(name, 0.0, DAY, name))
        waiting[name] += 1
        if number in leaves and places[number // 2].waits:
            gone = places[number // 2]
            turns.remove(gone)
            waiting[gone.item] -= 1
            if not waiting[gone.item]:
                since[gone.item].clear()
        if takes and turns:
            take()
    while turns:
        take()


def test_a_tenant_with_many_waiters_does_not_slow_another() -> None:
    turns = Turns[str]()
    for _ in range(100_000):
        turns.push("many", 0.0, DAY, "many")
    for _ in range(5):
        turns.push("few", 0.0, DAY, "few")
    assert Counter(turns.pop() for _ in range(10)) == {"many": 5, "few": 5}


def test_a_tenant_that_queues_again_after_each_turn_has_no_more_than_its_share() -> None:
    turns = Turns[str]()
    for _ in range(100):
        turns.push("queue", 0.0, NONE, "queue")
    turns.push("again", 0.0, NONE, "again")
    had = Counter[str]()
    for _ in range(60):
        served = turns.pop()
        had[served] += 1
        turns.push(served, 0.0, NONE, served)
    assert had == {"queue": 30, "again": 30}


arrivals = st.lists(
    st.tuples(
        st.sampled_from([-5.0, 3.0, 100.0, HOUR, DAY, NONE]),
        st.sampled_from("abc"),
        st.integers(0, 3),
        st.floats(0, 60),
    ),
    min_size=1,
    max_size=400,
)


@given(arrivals)
def test_nobody_starves(events: list[tuple[float, str, int, float]]) -> None:
    """Each has its turn within the bound of the law, whoever comes behind it."""
    turns = Turns[int]()
    # Of each that waits: level, tenant, and the permits it may have to see pass.
    owed: dict[int, tuple[int, str, int]] = {}
    keys: dict[int, tuple[int, str]] = {}
    now, served = 0.0, 0
    bound = EVERY * 6 * 3

    def take() -> None:
        nonlocal served
        number = turns.pop()
        served += 1
        arrived, _, own = owed.pop(number)
        assert served - arrived <= bound * (own + 1)

    for number, (left, tenant, permits, gap) in enumerate(events):
        now += gap
        due = now + left
        keys[number] = (urgency(due, now), tenant)
        # Whoever is of one tenant and level may go before it, the earlier due ones of later.
        for other, (arrived, name, own) in list(owed.items()):
            if keys[other] == keys[number] and left != NONE:
                owed[other] = (arrived, name, own + 1)
        own = sum(keys[other] == keys[number] for other in owed)
        owed[number] = (served, tenant, own)
        turns.push(number, now, due, tenant)
        for _ in range(min(permits, len(turns))):
            take()
    while turns:
        take()
    assert owed == {}


def test_the_least_urgent_have_their_share_under_a_flood_that_never_ends() -> None:
    turns = Turns[str]()
    for _ in range(20):
        turns.push("patient", 0.0)
    had = Counter[str]()
    for now in range(160):
        turns.push("flood", float(now), now + 60.0)
        turns.push("flood", float(now), now + 60.0)
        had[turns.pop()] += 1
    assert had["patient"] >= 160 // EVERY // 2


@given(
    st.lists(
        st.tuples(st.sampled_from([60.0, DAY, NONE]), st.sampled_from("ab"), st.booleans()),
        max_size=200,
    )
)
def test_who_leaves_costs_the_others_nothing_and_is_never_served(
    events: list[tuple[float, str, bool]],
) -> None:
    with_leavers, without = Turns[int](), Turns[int]()
    leavers: list[Turn[int]] = []
    for number, (due, tenant, leaves) in enumerate(events):
        # Whoever leaves had come last of its tenant, or its tenant's place in the round was taken.
        if leaves:
            leavers.append(with_leavers.push(-1, 0.0, due, f"{tenant} {number}"))
        else:
            with_leavers.push(number, 0.0, due, tenant)
            without.push(number, 0.0, due, tenant)
    for turn in leavers:
        with_leavers.remove(turn)
        with_leavers.remove(turn)
    assert len(with_leavers) == len(without)
    left, right = ([one.pop() for _ in range(len(one))] for one in (with_leavers, without))
    # Levels may have begun in another order, which the eighth permits show.
    assert sorted(left) == sorted(right)
    assert -1 not in left
    if len({due for due, _, leaves in events}) <= 1:
        assert left == right


def test_those_who_come_and_leave_while_nobody_is_served_take_no_room() -> None:
    turns = Turns[int]()
    stays = turns.push(0, 0.0)
    for number in range(1, 10_000):
        turns.remove(turns.push(number, 0.0))
    assert len(stays.line.heap) < 50
    assert turns.pop() == 0


def test_within_twice_the_time_left_lines_are_equally_urgent() -> None:
    assert urgency(DAY, 0.0) == urgency(DAY, 1800.0)
    assert urgency(HOUR, 0.0) < urgency(DAY, 0.0) < urgency(NONE, 0.0)
    assert urgency(-1e9, 0.0) == urgency(0.5, 0.0) == 0


@given(
    waiting=st.lists(st.tuples(st.sampled_from([60.0, DAY, NONE]), st.sampled_from("ab"))),
    due=st.sampled_from([60.0, NONE]),
    later=st.lists(st.tuples(st.sampled_from([60.0, NONE]), st.sampled_from("abc")), max_size=20),
)
def test_who_surely_goes_before_one_does_whoever_comes_later(
    waiting: list[tuple[float, str]], due: float, later: list[tuple[float, str]]
) -> None:
    turns = Turns[int]()
    for when, tenant in waiting:
        turns.push(0, 0.0, when, tenant)
    before = turns.surely_before(due, "a")
    assert before == (sum(one == (NONE, "a") for one in waiting) if due == NONE else 0)
    turns.push(1, 0.0, due, "a")
    for when, tenant in later:
        turns.push(0, 0.0, when, tenant)
    assert list(iter(turns.pop, 1)).count(0) >= before
