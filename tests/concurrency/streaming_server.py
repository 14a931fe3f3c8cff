"""A server with seats, some of which others take, that streams: what a guard is tried against."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

from batch_gateway.concurrency.events import Started
from batch_gateway.concurrency.guard import Guard

__all__ = ["StreamingServer"]


class StreamingServer:
    """Climbs to `wanted` requests in flight, as far as a guard allows.

    Attributes:
        seats: at a time in seconds, those that others leave.
        first: seconds from a seat to the first token.
        heard_after: seconds for which a first token may have been there before it is told.
        reads: seconds that this process takes to read an answer or a first token.
        streams: the share of the answers that are streamed.
        most_waiting: the most of ours that had no seat at once, since it was last set to 0.
    """

    def __init__(self, seats: Callable[[float], int], *, wanted: int = 300, seed: int = 1) -> None:
        self.guard = Guard()
        self.now = 0.0
        self.in_flight = self.most_waiting = 0
        self.wanted = wanted
        self.seats = seats
        self.first = 0.05
        self.heard_after = self.reads = 0.0
        self.streams = 1.0
        self._seated = 0
        self._under_way: dict[int, Started] = {}
        self._queue: deque[Started] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = self._answers = 0
        self._began = self._late = 0.0
        self._draws = random.Random(seed)

    def run(self, seconds: float) -> StreamingServer:
        until = self.now + seconds
        self._tick()
        while self._events and self._events[0][0] <= until:
            due, _, happens = heapq.heappop(self._events)
            self.now = max(self.now + self.reads, due)
            self._late = self.now - due
            happens()
            self._seat()
            self._send()
        self.now = max(self.now, until)
        return self

    def pause(self, seconds: float) -> None:
        """This process does nothing for so long; what comes meanwhile is read afterwards."""
        self.now += seconds

    def fail_all(self) -> None:
        """Everything in flight is cut off at one instant."""
        cut, self._under_way = [*self._under_way.values(), *self._queue], {}
        self._queue.clear()
        self._seated = 0
        for started in cut:
            self.in_flight -= 1
            if self.guard.listens:
                self.guard.ended(started, False, self.in_flight, self.now)

    @property
    def allowed(self) -> float:
        guard = self.guard
        climbed = 16 * 2 ** min(10.0, self.now / 5)
        allowed = min(self.wanted, climbed, guard.room)
        return min(allowed, guard.allowed_now(self.in_flight)) if guard.watches else allowed

    def _at(self, when: float, happens: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, happens))

    def _tick(self) -> None:
        """Every five seconds a round is over."""
        if self.now - self._began >= 5:
            self.guard.learn(self._answers / (self.now - self._began))
            self._answers, self._began = 0, self.now
        self._at(self.now + 1.0, self._tick)

    def _send(self) -> None:
        while self.in_flight < self.allowed:
            self.in_flight += 1
            started = Started(self.now, 0.0, self.in_flight)
            if self.guard.listens:
                self.guard.sent(started, self.in_flight, self.now)
            self._queue.append(started)
            self._seat()

    def _seat(self) -> None:
        while self._queue and self._seated < self.seats(self.now):
            self._seated += 1
            self._serve(self._queue.popleft())
        self.most_waiting = max(self.most_waiting, len(self._queue))

    def _serve(self, started: Started) -> None:
        self._under_way[id(started)] = started
        length = 2.0 + 2.0 * self._draws.random()
        streams = self._draws.random() < self.streams
        self._at(self.now + self.first, lambda: self._first_token(started, streams))
        self._at(self.now + self.first + length, lambda: self._end(started))

    def _first_token(self, started: Started, streams: bool) -> None:
        if streams and id(started) in self._under_way:
            seconds = self.now - started.at
            late = self.heard_after + self._late
            self.guard.first_token(started, seconds, self.in_flight, self.now, late)

    def _end(self, started: Started) -> None:
        if self._under_way.pop(id(started), None) is None:
            return
        self._seated -= 1
        self._answers += 1
        self.in_flight -= 1
        if self.guard.listens:
            self.guard.ended(started, True, self.in_flight, self.now)
