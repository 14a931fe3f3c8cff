"""Policies that know the people on a server: what could be left to them, and used of the rest, by
when they are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import NamedTuple

from batch_gateway.concurrency.events import Ended, Started
from benchmarks.worlds.policy import Fixed, Policy
from benchmarks.worlds.simulation import Simulation, simulate
from benchmarks.worlds.world import World

__all__ = ["KnowsPeople", "Told", "Way", "ways_of"]

_START = 16
"""In flight until anything is known, as ours."""

_TENTHS = 10
"""Of a second: how finely those that will come are known."""


class Told(Enum):
    """When a policy knows how many seats people have or want."""

    AHEAD = "knows who will come"
    NOW = "knows who is there"
    FIRST_TOKENS = "knows from first tokens"
    ANSWERS = "knows from answers"


class Way(NamedTuple):
    """What a policy does with what it knows of people.

    Attributes:
        told: when it knows.
        room: share of the seats that it leaves free beside people.
        seconds: how long it remembers the most people that there were, or how far it looks ahead.
    """

    told: Told
    room: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.told.value}, {self.room:.0%} free, {self.seconds:g} s"


_LONG = 600.0
_WAYS = {
    Told.AHEAD: ((0.0, 2.0), (0.0, 4.0), (0.0, 8.0), (0.0, 16.0), (0.1, 4.0), (0.1, 8.0)),
    Told.NOW: ((0.1, 0.0), (0.15, 0.0), (0.2, 0.0)),
    Told.FIRST_TOKENS: ((0.1, 0.0), (0.15, 0.0), (0.2, 0.0), (0.0, _LONG)),
    Told.ANSWERS: ((0.1, 0.0), (0.2, 0.0), (0.3, 0.0), (0.0, _LONG)),
}


def ways_of(told: Told) -> Iterator[str]:
    """The contenders of which the best is shown."""
    return (str(Way(told, room, seconds)) for room, seconds in _WAYS[told])


class KnowsPeople(Policy):
    """Fills the seats that people leave, but for some room.

    Told by first tokens or answers, it knows without an error how many people there were when the
    request was sent that was heard of last; that is more than anybody could infer from it.
    """

    holds_in_backoff = False

    def __init__(self, way: Way) -> None:
        super().__init__(0)
        self.name = str(way)
        self.sees_first_token = way.told is Told.FIRST_TOKENS
        self._way = way
        self._heard: int | None = None
        self._at_sending: dict[Started, int] = {}
        self._past: deque[tuple[float, int]] = deque()

    @classmethod
    def named(cls, name: str) -> KnowsPeople | None:
        """None where that is the name of another policy."""
        ways = (Way(told, *one) for told, some in _WAYS.items() for one in some)
        return next((cls(way) for way in ways if str(way) == name), None)

    def enters(self, simulation: Simulation) -> None:
        self._simulation = simulation
        capacity = simulation.world.capacity
        assert capacity is not None
        self._seats = capacity.seats

    @property
    def limit(self) -> int:  # type: ignore[override]
        running = len(self._simulation.record.running)
        people = self._people()
        if people is None:
            return self.in_flight + max(0, _START - running)
        room = self._seats * (1 - self._way.room) - people - running
        return self.in_flight + max(0, int(room))

    @limit.setter
    def limit(self, value: int) -> None:
        """It has no limit of its own."""

    def started(self, now: float) -> Started:
        self.in_flight += 1
        started = Started(now, 0.0, self._simulation.record.sent)
        if self._way.told in (Told.FIRST_TOKENS, Told.ANSWERS):
            self._at_sending[started] = _people_there(self._simulation)
        return started

    def first_token(
        self, started: Started, seconds: float, now: float, heard_after: float = 0.0
    ) -> None:
        self._heard = self._at_sending[started]

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        there = self._at_sending.pop(started, None)
        if self._way.told is Told.ANSWERS:
            self._heard = there

    def _people(self) -> int | None:
        """For how many seats are to be left; None as long as nothing is known."""
        now, there = self._simulation.agenda.now, _people_there(self._simulation)
        if self._way.told is Told.AHEAD:
            to_come = _people_to_come(self._simulation.world, self._way.seconds)
            return max(there, to_come[int(now * _TENTHS)])
        if self._way.told is Told.NOW:
            return self._most_of_late(there, now)
        return None if self._heard is None else self._most_of_late(self._heard, now)

    def _most_of_late(self, people: int, now: float) -> int:
        past = self._past
        while past and past[-1][1] <= people:
            past.pop()
        past.append((now, people))
        while past[0][0] < now - self._way.seconds:
            past.popleft()
        return past[0][1]


def _people_there(simulation: Simulation) -> int:
    pool = simulation.pool
    return pool.running + pool.waiting - len(simulation.record.running)


class _Watcher(Fixed):
    """Sends nothing, and remembers the most people by tenths of a second."""

    def __init__(self, seconds: float) -> None:
        super().__init__(0)
        self.most = [0] * (int(seconds * _TENTHS) + 1)

    def enters(self, simulation: Simulation) -> None:
        self._simulation = simulation

    @property
    def limit(self) -> int:  # type: ignore[override]
        """Asked whenever anything has happened."""
        tenth = int(self._simulation.agenda.now * _TENTHS)
        self.most[tenth] = max(self.most[tenth], _people_there(self._simulation))
        return 0

    @limit.setter
    def limit(self, value: int) -> None:
        """It has no other."""


@cache
def _people_to_come(world: World, seconds: float) -> list[int]:
    """By tenths of a second: the most people within so many seconds, if we were not there."""
    watcher = _Watcher(world.duration)
    simulate(world, watcher)
    span = int(seconds * _TENTHS) + 1
    return [max(watcher.most[tenth : tenth + span]) for tenth in range(len(watcher.most))]
