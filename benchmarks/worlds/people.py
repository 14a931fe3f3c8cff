"""People who use the servers of a world too: when they come, and how long each waits."""

from __future__ import annotations

import math
import random

from benchmarks.worlds.agenda import Agenda
from benchmarks.worlds.pool import Pool
from benchmarks.worlds.record import Record
from benchmarks.worlds.world import Interactive

__all__ = ["People", "Person"]


class Person:
    """One request of a person."""

    __slots__ = ("came",)

    def __init__(self, came: float) -> None:
        self.came = came


class People:
    def __init__(
        self, people: Interactive, seed: int, agenda: Agenda, pool: Pool, record: Record
    ) -> None:
        self._people = people
        self._agenda = agenda
        self._pool = pool
        self._record = record
        self._draws = random.Random(f"{seed}:people")
        self._most = people.rate * (1 + (people.drift[1] if people.drift else 0.0))

    def plan(self) -> None:
        if self._people.rate:
            self._agenda.at(self._draws.expovariate(self._most), self._somebody_comes)
        if self._people.burst is not None:
            self._agenda.at(self._people.burst.first, self._burst)

    def _burst(self, _: None) -> None:
        burst = self._people.burst
        assert burst is not None
        for _number in range(burst.size):
            self._agenda.after(self._draws.random() * burst.width, self._comes)
        self._agenda.after(burst.every, self._burst)

    def _somebody_comes(self, _: None) -> None:
        # A Poisson process whose rate changes is one at the highest rate, thinned (Lewis and
        # Shedler, 1979).
        if self._people.drift is None or self._draws.random() * self._most < self._rate():
            self._comes(None)
        self._agenda.after(self._draws.expovariate(self._most), self._somebody_comes)

    def _rate(self) -> float:
        assert self._people.drift is not None
        period, depth = self._people.drift
        turn = math.cos(2 * math.pi * self._agenda.now / period)
        return self._people.rate * (1 - depth * turn)

    def _comes(self, _: None) -> None:
        now = self._agenda.now
        if any(begin <= now < end for begin, end in self._people.lulls):
            return
        person = Person(now)
        self._record.person_came(person)
        lengths = self._people.lengths
        prompt, output = lengths.prompt(self._draws), lengths.output(self._draws)
        pod = self._pool.choose(now)
        self._pool.submit(pod, person, prompt, output, now, self._people.priority)
