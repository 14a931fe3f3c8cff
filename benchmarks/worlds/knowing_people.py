"""Policies that know the people on a server: what could be left to them, and used of the rest, by
when they are known."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from enum import Enum
from functools import cache
from statistics import fmean
from typing import NamedTuple

from batch_gateway.concurrency.events import Ended, Started
from benchmarks.worlds.lengths import Draw
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
    LAW = "knows the server's law"

    @property
    def streamed(self) -> bool:
        """Whether it needs first tokens, or more than a client can have."""
        return self not in (Told.ANSWERS, Told.LAW)


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
    Told.LAW: ((0.1, 0.0), (0.2, 0.0), (0.3, 0.0), (0.0, _LONG)),
}


def ways_of(told: Told) -> Iterator[str]:
    """The contenders of which the best is shown."""
    return (str(Way(told, room, seconds)) for room, seconds in _WAYS[told])


class KnowsPeople(Policy):
    """Fills the seats that people leave, but for some room.

    Told by first tokens or answers, it knows without an error how many people there were when the
    request was sent that was heard of last; that is more than anybody could infer from it. By the
    server's law it infers them: it knows how long a token takes by how many run, how quickly
    prompts are read, how long ours and those of people are, and hears nothing but whole answers.
    With nothing in flight nothing would be heard, so that one always is.
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
        return max(1, self.in_flight + max(0, int(room)))

    @limit.setter
    def limit(self, value: int) -> None:
        """It has no limit of its own."""

    def started(self, now: float) -> Started:
        self.in_flight += 1
        started = Started(now, 0.0, self._simulation.record.sent)
        if self._way.told is Told.LAW:
            self._at_sending[started] = len(self._simulation.record.running)
        elif self._way.told in (Told.FIRST_TOKENS, Told.ANSWERS):
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
        elif self._way.told is Told.LAW and ended.tokens:
            assert there is not None
            latency = now - started.at - self._simulation.world.round_trip
            ours = (there + len(self._simulation.record.running)) / 2
            self._heard = _people_by_pace(self._simulation.world, latency / ended.tokens, ours)

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


def _people_by_pace(world: World, per_token: float, ours: float) -> int:
    """How many people there were, where a token took so long beside so many of ours.

    With `x` people who come a second, `x * output * per_token` of them run, and the share
    `x * prompt / speed` of the time goes to their prompts; the rest of it is a step of so many.
    """
    capacity, people = world.capacity, world.interactive
    assert capacity is not None
    assert people is not None
    prompt, output = (_mean(draw) for draw in (people.lengths.prompt, people.lengths.output))
    own_prompt, own_output = (_mean(draw) for draw in (world.lengths.prompt, world.lengths.output))
    speed = capacity.prefill_tokens_per_second
    a, b = capacity.time_per_token, capacity.load_growth
    reading = ours / (own_output * per_token) * own_prompt / speed
    left = per_token * (1 - reading) - a * (1 + b * (ours - 1))
    come = left / (per_token * (output * a * b + prompt / speed))
    return max(0, round(come * output * per_token))


@cache
def _mean(draw: Draw) -> float:
    draws = random.Random(1)
    return fmean(draw(draws) for _ in range(10_000))


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
