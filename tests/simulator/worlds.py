"""Simulated traffic against the pure model: no clock, no sockets, only arithmetic."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from batch_gateway.simulator.batching import ContinuousBatch, Event, EventKind
from batch_gateway.simulator.capacity import Capacity

SEED = 7


class Run(NamedTuple):
    """What a run measured. Times in seconds."""

    mean_wait: float
    mean_stay: float
    mean_waiting: float
    mean_present: float
    arrival_rate: float
    tokens_per_second: float


def open_loop(
    capacity: Capacity,
    rate: float,
    tokens: Callable[[random.Random], int],
    arrivals: int,
    seed: int = SEED,
) -> Run:
    """Poisson arrivals of requests without a prompt; waits are times in the queue.

    The first fifth is left out of every figure, so that the empty start does not count.
    """
    draws = random.Random(seed)
    batch = ContinuousBatch(capacity)
    meter = _Meter(batch, skip=arrivals // 5)
    now = 0.0
    for number in range(arrivals):
        now += draws.expovariate(rate)
        meter.run_until(now)
        size = tokens(draws)
        batch.submit(number, 0, size, now)
        meter.arrived(number, now, size)
    return meter.result(now)


class _Meter:
    """Integrates how many wait and how many are present, event by event."""

    def __init__(self, batch: ContinuousBatch, skip: int) -> None:
        self._batch = batch
        self._skip = skip
        self._began = 0.0
        self._last = 0.0
        self._waiting_area = 0.0
        self._present_area = 0.0
        self._arrived: dict[int, float] = {}
        self._stays: list[float] = []
        self._sizes: dict[int, int] = {}
        self._tokens = 0
        self._count = 0

    def run_until(self, now: float) -> None:
        while (at := self._batch.next_event_time()) is not None and at <= now:
            self._integrate(at)
            for event in self._batch.advance(at):
                self._see(event)
        self._integrate(now)

    def _integrate(self, now: float) -> None:
        if self._count > self._skip:
            span = now - self._last
            self._waiting_area += span * self._batch.waiting
            self._present_area += span * (self._batch.waiting + self._batch.running)
        self._last = now

    def arrived(self, number: int, now: float, size: int) -> None:
        self._count += 1
        if self._count == self._skip + 1:
            self._began = now
        if self._count > self._skip:
            self._arrived[number] = now
        self._sizes[number] = size

    def _see(self, event: Event) -> None:
        assert isinstance(event.sequence_id, int)
        if event.kind is not EventKind.FINISHED or self._count <= self._skip:
            return
        self._tokens += self._sizes[event.sequence_id]
        began = self._arrived.get(event.sequence_id)
        if began is not None:
            self._stays.append(event.time - began)

    def result(self, now: float) -> Run:
        span = now - self._began
        rate = (self._count - self._skip) / span
        return Run(
            # The queue's own Little's law gives the mean wait from its mean length.
            mean_wait=self._waiting_area / span / rate,
            mean_stay=sum(self._stays) / len(self._stays),
            mean_waiting=self._waiting_area / span,
            mean_present=self._present_area / span,
            arrival_rate=rate,
            tokens_per_second=self._tokens / span,
        )


class ClosedRun(NamedTuple):
    tokens_per_second: float
    mean_first_token: float


def closed_loop(
    capacity: Capacity, in_flight: int, requests: int, prompt: int, output: int
) -> ClosedRun:
    """Always `in_flight` requests under way, as a load generator with a concurrency limit."""
    batch = ContinuousBatch(capacity)
    left = iter(range(requests))
    starts: dict[int, float] = {}
    first: list[float] = []

    def submit(now: float) -> None:
        number = next(left, None)
        if number is not None:
            starts[number] = now
            batch.submit(number, prompt, output, now)

    for _ in range(in_flight):
        submit(0.0)
    now = 0.0
    for event in _events(batch):
        assert isinstance(event.sequence_id, int)
        now = event.time
        if event.kind is EventKind.FIRST_TOKEN:
            first.append(now - starts[event.sequence_id])
        else:
            submit(now)
    return ClosedRun(requests * output / now, sum(first) / len(first))


def _events(batch: ContinuousBatch) -> Iterator[Event]:
    while (at := batch.next_event_time()) is not None:
        yield from batch.advance(at)


def erlang_c_wait(rate: float, service: float, servers: int) -> float:
    """Mean time in the queue of M/M/c (Erlang 1917): C(c, a) / (c / service - rate)."""
    load = rate * service
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = load * blocked / (server + load * blocked)
    must_wait = blocked / (1 - load / servers * (1 - blocked))
    return must_wait / (servers / service - rate)


def multi_server_wait(
    rate: float, tokens: Callable[[random.Random], int], token: float, servers: int, arrivals: int
) -> float:
    """Mean wait of the same arrivals at plain servers that each are free at some time (M/G/c)."""
    draws = random.Random(SEED)
    free = [0.0] * servers
    now = total = 0.0
    for number in range(arrivals):
        now += draws.expovariate(rate)
        start = max(now, heapq.heappop(free))
        if number >= arrivals // 5:
            total += start - now
        heapq.heappush(free, start + tokens(draws) * token)
    return total / (arrivals - arrivals // 5)
