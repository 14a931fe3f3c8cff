"""A pure server in simulated time for an adaptive controller, small enough for hypothesis."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batch_gateway import AdaptiveConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started

REFUSAL_SECONDS = 0.002
MEAN_TOKENS = 100


@dataclass(frozen=True)
class Weather:
    """What a server is like for a while.

    Attributes:
        seats: how many it answers at once.
        latency: mean seconds of an answer, alone.
        growth: of the latency with each seat taken, as a share of `latency`.
        refuses: whether it refuses what finds no seat; else it waits.
        alike: whether all answers are of one length.
        wobble: every half second everything takes 1 to so many times as long.
        stall: every ten seconds nothing moves for so many seconds.
        refused, failed: shares of requests that meet a refusal, or a failure, by chance.
        jitter: standard deviation of the ln of each latency.
        offered: share of the limit that the client has work for; 0 in a lull.
        others: the greatest share of the seats that others take, another every half second.
    """

    seconds: float
    seats: int = 32
    latency: float = 0.5
    growth: float = 0.01
    refuses: bool = False
    alike: bool = False
    wobble: float = 1.0
    stall: float = 0.0
    refused: float = 0.0
    retry_after: float | None = None
    failed: float = 0.0
    jitter: float = 0.05
    offered: float = 1.0
    others: float = 0.0


@dataclass
class SmallServer:
    """Seats and a queue. `live` lets some time pass in a weather, with as many requests under way
    as the controller allows."""

    policy: AdaptiveConcurrency
    seed: int = 0
    now: float = 0.0
    answers: int = 0
    waited: float = 0.0
    controller: AdaptiveController = field(init=False)

    def __post_init__(self) -> None:
        self.controller = AdaptiveController(self.policy)
        self._chance = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._queue: deque[tuple[Started, int]] = deque()
        self._running = 0
        self._seats = 0
        self._slower = 1.0
        self._stalled_until = 0.0

    def live(self, weather: Weather) -> None:
        until = self.now + weather.seconds
        self._wobble(weather, until)
        self._send(weather)
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self._admit(weather)
            self._send(weather)
        self.now = until

    def _at(self, when: float, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, event))

    def _wobble(self, weather: Weather, until: float) -> None:
        if self.now >= until:
            return
        taken = weather.others * self._chance.random()
        self._seats = max(1, round((1.0 - taken) * weather.seats))
        self._slower = 1.0 + (weather.wobble - 1.0) * self._chance.random()
        if weather.stall and self.now % 10.0 < 0.5:
            self._stalled_until = self.now + weather.stall
        self._at(self.now + 0.5, lambda: self._wobble(weather, until))

    def _send(self, weather: Weather) -> None:
        controller = self.controller
        while controller.in_flight < weather.offered * controller.limit:
            if self.now < controller.paused_until:
                self._at(controller.paused_until, lambda: None)
                return
            self._meet(controller.started(self.now), weather)

    def _meet(self, started: Started, weather: Weather) -> None:
        chance = self._chance.random()
        if chance < weather.refused or (weather.refuses and self._running >= self._seats):
            refused = Ended(Outcome.REFUSED, retry_after=weather.retry_after)
            self._at(self.now + REFUSAL_SECONDS, lambda: self._end(started, refused))
        elif chance < weather.refused + weather.failed:
            failed = Ended(Outcome.FAILED)
            self._at(self.now + REFUSAL_SECONDS, lambda: self._end(started, failed))
        else:
            share = 1.0 if weather.alike else 0.5 + self._chance.random()
            self._queue.append((started, max(1, round(MEAN_TOKENS * share))))
            self._admit(weather)

    def _admit(self, weather: Weather) -> None:
        while self._queue and self._running < self._seats:
            started, tokens = self._queue.popleft()
            self._running += 1
            load = 1.0 + weather.growth * self._running
            lasts = weather.latency * tokens / MEAN_TOKENS * load * self._slower
            lasts *= self._chance.lognormvariate(0.0, weather.jitter)
            begins = max(self.now, self._stalled_until)
            self.waited += begins - started.at
            self._at(begins + lasts, lambda s=started, t=tokens: self._answer(s, t))

    def _answer(self, started: Started, tokens: int) -> None:
        self._running -= 1
        self.answers += 1
        self._end(started, Ended(Outcome.OK, tokens))

    def _end(self, started: Started, ended: Ended) -> None:
        self.controller.finished(started, ended, self.now)
