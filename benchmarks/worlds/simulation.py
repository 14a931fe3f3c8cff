"""A client with a concurrency policy against the model of batching, event by event.

Nothing waits and nothing reads a clock: time jumps from one event to the next, and random numbers
come from the world's seed, so that every run repeats exactly.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from batch_gateway.client.concurrency.layer import ended_by
from batch_gateway.client.retry import retry_delay
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.server_load import Load
from batch_gateway.errors import (
    GatewayConnectionError,
    InferenceError,
    RateLimitError,
    ServerError,
)
from batch_gateway.simulator.batching import Admission, ContinuousBatch, EventKind
from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.policies import Policy
from benchmarks.worlds.record import Record
from benchmarks.worlds.world import Change, World

__all__ = ["Simulation", "simulate"]

_REFUSAL_SECONDS = 0.002
_NOBODY = Capacity(seats=1)


class Line:
    """A line of the batch on its way."""

    __slots__ = ("attempt", "number", "output", "prompt", "sent", "started")

    def __init__(self, number: int, prompt: int, output: int) -> None:
        self.number = number
        self.prompt = prompt
        self.output = output
        self.attempt = 0
        self.sent = 0.0
        self.started: Started | None = None


class Simulation:
    """One run of one policy in one world; `run` brings back what was seen."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.now = 0.0
        self.record = Record(world)
        self._serving = world.capacity is not None
        self._reachable = True
        self._server = ContinuousBatch(world.capacity or _NOBODY)
        self._heap: list[tuple[float, int, Callable[..., None], Any]] = []
        self._order = 0
        self._ready: list[Line] = []
        self._backing_off = 0
        self._lines = 0
        self._wake_at = 0.0
        self._lengths = random.Random(f"{world.seed}:lengths")
        self._faults = random.Random(f"{world.seed}:faults")
        self._jitter = random.Random(f"{world.seed}:retries")
        self._people = random.Random(f"{world.seed}:people")

    # -- time ------------------------------------------------------------------------------

    def run(self) -> Record:
        self._plan_events()
        end = self.world.duration
        self._send_what_may_go()
        while True:
            event = self._server.next_event_time()
            due = self._heap[0][0] if self._heap else end
            at = due if event is None or due <= event else event
            if at >= end:
                break
            self._pass_time(at)
            if at == due:
                _, _, action, argument = heapq.heappop(self._heap)
                action(argument)
            self._hear_server()
            self._send_what_may_go()
        self._pass_time(end)
        self._hear_server()
        self.record.close(self._server)
        return self.record

    def _pass_time(self, now: float) -> None:
        self.record.pass_time(now, self.policy, self._server)
        self.now = now

    def _at(self, when: float, action: Callable[..., None], argument: Any = None) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, action, argument))

    def _plan_events(self) -> None:
        for change in self.world.changes:
            self._at(change.at, self._change, change)
        if self.policy.looks_every:
            self._at(self.policy.looks_every, self._look)
        people = self.world.interactive
        if people is None:
            return
        if people.rate:
            self._at(self._people.expovariate(people.rate), self._person_comes, True)
        if people.burst is not None:
            self._at(people.burst.first, self._burst)

    def _change(self, change: Change) -> None:
        self._serving = change.capacity is not None
        self._reachable = not change.resets
        if change.resets:
            for number, line in list(self.record.running.items()):
                self._server.cancel(number, self.now)
                del self.record.running[number]
                self._answer(line, GatewayConnectionError("reset"))
        if change.capacity is not None:
            self._server.reconfigure(change.capacity, self.now)

    # -- looking at the server's metrics ---------------------------------------------------

    def _look(self, _: None) -> None:
        server = self._server
        usage = server.kv_usage if server.capacity.kv_cache_tokens is not None else None
        load = Load(server.running, server.waiting, usage, servers=1)
        self._at(self.now + self.world.round_trip / 2, self._looked, load)
        self._at(self.now + self.policy.looks_every, self._look)

    def _looked(self, load: Load) -> None:
        self.policy.looked(load, self.now)

    # -- people ----------------------------------------------------------------------------

    def _burst(self, _: None) -> None:
        assert self.world.interactive is not None
        burst = self.world.interactive.burst
        assert burst is not None
        for _number in range(burst.size):
            self._at(self.now + self._people.random() * burst.width, self._person_comes, False)
        self._at(self.now + burst.every, self._burst)

    def _person_comes(self, again: bool) -> None:
        people = self.world.interactive
        assert people is not None
        number = self.record.person_came(self.now)
        self._server.submit(
            -number,
            people.lengths.prompt(self._people),
            people.lengths.output(self._people),
            self.now,
            priority=people.priority,
        )
        if again:
            self._at(self.now + self._people.expovariate(people.rate), self._person_comes, True)

    # -- sending ---------------------------------------------------------------------------

    def _send_what_may_go(self) -> None:
        policy = self.policy
        while True:
            held = self._backing_off if policy.holds_in_backoff else 0
            if policy.in_flight + held >= policy.limit and not (held and self._ready):
                return
            if policy.in_flight >= policy.limit or self._has_enough_lines():
                return
            if policy.paused_until > self.now:
                self._wake_later(policy.paused_until)
                return
            self._send(self._ready.pop(0) if self._ready else self._next_line())

    def _has_enough_lines(self) -> bool:
        window = self.world.window
        if window is None or self._ready:
            return False
        return self.policy.in_flight + self._backing_off >= window

    def _wake_later(self, when: float) -> None:
        if self._wake_at <= self.now or when < self._wake_at:
            self._wake_at = when
            self._at(when, lambda _: None)

    def _next_line(self) -> Line:
        self._lines += 1
        lengths = self.world.lengths
        return Line(self._lines, lengths.prompt(self._lengths), lengths.output(self._lengths))

    def _send(self, line: Line) -> None:
        line.attempt += 1
        line.sent = self.now
        line.started = self.policy.started(self.now)
        self.record.sent += 1
        if not self._reachable:
            self._answer(line, GatewayConnectionError("refused"))
            return
        if not self._serving:
            self._answer(line, _no_endpoints(self.world), _REFUSAL_SECONDS)
            return
        if self.world.errors and self._faults.random() < self.world.errors:
            self._meet_fault(line)
            return
        admission = self._server.submit(line.number, line.prompt, line.output, self.now)
        if admission is Admission.REFUSED:
            self._answer(line, _saturated(self.world), _REFUSAL_SECONDS)
        else:
            self.record.running[line.number] = line

    def _meet_fault(self, line: Line) -> None:
        if self._faults.random() < 0.5:
            self._answer(line, ServerError("500", status_code=500), _REFUSAL_SECONDS)
        else:
            reset = GatewayConnectionError("reset")
            self._answer(line, reset, self._faults.random())

    def _answer(self, line: Line, error: InferenceError | None, after: float = 0.0) -> None:
        self._at(self.now + after + self.world.round_trip, self._ended, (line, error))

    # -- answers ---------------------------------------------------------------------------

    def _hear_server(self) -> None:
        for event in self._server.advance(self.now):
            number = event.sequence_id
            assert isinstance(number, int)
            if number < 0:
                if event.kind is EventKind.FIRST_TOKEN:
                    self.record.person_served(-number, event.time)
                continue
            line = self.record.running[number]
            if event.kind is EventKind.FIRST_TOKEN:
                if self.policy.sees_first_token:
                    self._at(self.now + self.world.round_trip, self._first_token, line)
            elif event.kind is EventKind.FINISHED:
                del self.record.running[number]
                self._answer(line, None)
            else:
                del self.record.running[number]
                self._answer(line, _saturated(self.world))

    def _first_token(self, line: Line) -> None:
        assert line.started is not None
        self.policy.first_token(line.started, self.now - line.sent, self.now)

    def _ended(self, line_and_error: tuple[Line, InferenceError | None]) -> None:
        line, error = line_and_error
        assert line.started is not None
        self.policy.finished(line.started, self._as_event(line, error), self.now)
        if error is None:
            self.record.finished(self.now, line.output, self.now - line.sent)
            return
        self.record.failed(self.now, error)
        delay = retry_delay(self.world.retry, error, line.attempt, self._jitter.uniform)
        if delay is None:
            self.record.lost += 1
            return
        self._backing_off += 1
        self._at(self.now + delay, self._backed_off, line)

    def _backed_off(self, line: Line) -> None:
        self._backing_off -= 1
        self._ready.append(line)

    def _as_event(self, line: Line, error: InferenceError | None) -> Ended:
        if error is None:
            return Ended(Outcome.OK, tokens=line.output)
        return ended_by(error)


def _saturated(world: World) -> InferenceError:
    return RateLimitError(
        "full",
        status_code=429,
        retry_after=world.retry_after,
        dropped_reason="rejected-saturated",
    )


def _no_endpoints(world: World) -> InferenceError:
    return ServerError("nobody", status_code=503, dropped_reason="rejected-no-endpoints")


def simulate(world: World, policy: Policy) -> Record:
    return Simulation(world, policy).run()
