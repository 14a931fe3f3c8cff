"""When people come in simulated worlds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.worlds.agenda import Agenda
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.people import People, Person
from benchmarks.worlds.pool import Pool
from benchmarks.worlds.record import Record
from benchmarks.worlds.world import Interactive

SHARED = WORLDS["shared"]
assert SHARED.interactive is not None
ALONE = replace(SHARED.interactive, burst=None)


class Arrivals(Record):
    """Remembers when each of them came."""

    def __init__(self) -> None:
        super().__init__(SHARED)
        self.came: list[float] = []

    def person_came(self, person: Person) -> None:
        self.came.append(person.came)
        super().person_came(person)


def arrivals(people: Interactive, seconds: float = 1800) -> list[float]:
    agenda, record = Agenda(), Arrivals()
    People(people, 1, agenda, Pool(SHARED), record).plan()
    while (at := agenda.next_time(seconds)) < seconds:
        agenda.now = at
        agenda.run_next()
    return record.came


def test_they_come_at_their_rate() -> None:
    assert len(arrivals(ALONE)) == pytest.approx(18_000, rel=0.03)


def test_a_burst_brings_its_people_within_its_width() -> None:
    assert SHARED.interactive is not None
    came = arrivals(replace(SHARED.interactive, rate=0.0), 110)
    assert len(came) == 120
    assert all(20 <= when % 30 < 24 for when in came)


def test_a_drifting_day_has_the_mean_rate_and_is_quiet_at_its_ends() -> None:
    came = arrivals(replace(ALONE, drift=(1800.0, 0.8)))
    assert len(came) == pytest.approx(18_000, rel=0.03)
    thirds = [sum(600 * n <= when < 600 * (n + 1) for when in came) for n in range(3)]
    assert thirds[1] > 2 * thirds[0]
    assert thirds[1] > 2 * thirds[2]


def test_nobody_comes_in_a_lull() -> None:
    assert SHARED.interactive is not None
    came = arrivals(replace(SHARED.interactive, lulls=((300.0, 900.0),)))
    assert not any(300 <= when < 900 for when in came)
    assert max(after - before for before, after in pairwise(came)) >= 600
