"""A client of ours in a simulated world: it sends lines as its policy allows, and again what
failed."""

from __future__ import annotations

import random

from batch_gateway.client.layers.concurrency.limit import ended_by
from batch_gateway.client.layers.retry import retry_delay
from batch_gateway.concurrency.events import Ended, Outcome
from batch_gateway.errors import InferenceError
from benchmarks.worlds.agenda import Agenda
from benchmarks.worlds.gateway import Gateway
from benchmarks.worlds.policy import Policy
from benchmarks.worlds.record import Line, Record
from benchmarks.worlds.world import Busy, World

__all__ = ["Client"]

_LOOKS_EVERY = 0.05


class Cpu:
    """One core that answers queue for, in order; now and then others have it."""

    def __init__(self, busy: Busy, seed: str) -> None:
        self._busy = busy
        self._draws = random.Random(f"{seed}:cpu")
        self._free_at = 0.0
        self._pause_at = self._next_pause(0.0)
        self._due = self._late = 0.0

    def look(self, now: float) -> float:
        """A timer is due, which runs when what came before it has been read: when it runs."""
        self._due = now
        return self._busy_until(now)

    def looked(self, now: float) -> None:
        """The timer ran."""
        self._late, self._due = now - self._due, float("inf")

    def heard_after(self, now: float) -> float:
        """How many seconds ago what is heard now came, as far as the timer shows it."""
        return max(self._late, now - self._due)

    def heard(self, now: float) -> float:
        """When an answer that arrives now has been read."""
        self._free_at = self._busy_until(now) + self._busy.per_answer
        return self._free_at

    def _busy_until(self, now: float) -> float:
        self._free_at = max(self._free_at, now)
        while self._pause_at <= self._free_at:
            ends = self._pause_at + self._draws.random() * self._busy.pause
            self._free_at = max(self._free_at, ends)
            self._pause_at = self._next_pause(ends)
        return self._free_at

    def _next_pause(self, now: float) -> float:
        every = self._busy.pauses_every
        return now + self._draws.expovariate(1 / every) if every else float("inf")


class Client:
    """Number `number` of the world's clients, which sends from its start on."""

    def __init__(
        self,
        world: World,
        policy: Policy,
        number: int,
        agenda: Agenda,
        gateway: Gateway,
        record: Record,
    ) -> None:
        self.policy = policy
        self.number = number
        self._world = world
        self._agenda = agenda
        self._gateway = gateway
        self._record = record
        self._ready: list[Line] = []
        self._backing_off = 0
        self._wake_at = 0.0
        self._starts = world.clients[number]
        seed = f"{world.seed}" if number == 0 else f"{world.seed}:{number}"
        self._lengths = random.Random(f"{seed}:lengths")
        self._jitter = random.Random(f"{seed}:retries")
        self._cpu = None if world.busy is None else Cpu(world.busy, seed)

    def plan(self) -> None:
        if self._starts:
            self._agenda.at(self._starts, lambda _: None)
        if self._cpu is not None and self.policy.sees_first_token:
            self._agenda.at(self._starts, self._look)

    # -- sending ---------------------------------------------------------------------------

    def send_what_may_go(self) -> None:
        policy, now = self.policy, self._agenda.now
        if now < self._starts:
            return
        while True:
            held = self._backing_off if policy.holds_in_backoff else 0
            if policy.in_flight + held >= policy.limit and not (held and self._ready):
                return
            if policy.in_flight >= policy.limit or self._has_enough_lines():
                return
            if policy.paused_until > now:
                self._wake_later(policy.paused_until)
                return
            self._send(self._ready.pop(0) if self._ready else self._next_line())

    def _has_enough_lines(self) -> bool:
        window = self._world.window
        if window is None or self._ready:
            return False
        return self.policy.in_flight + self._backing_off >= window

    def _wake_later(self, when: float) -> None:
        if self._wake_at <= self._agenda.now or when < self._wake_at:
            self._wake_at = when
            self._agenda.at(when, lambda _: None)

    def _next_line(self) -> Line:
        lengths = self._world.lengths
        return Line(self, lengths.prompt(self._lengths), lengths.output(self._lengths))

    def _send(self, line: Line) -> None:
        now = self._agenda.now
        line.attempt += 1
        line.sent = now
        line.started = self.policy.started(now)
        self._record.sent += 1
        met = self._gateway.send(line, now)
        if met is None:
            self._record.running[line] = None
        else:
            self.answer(line, met[0], met[1])

    # -- hearing ---------------------------------------------------------------------------

    def answer(self, line: Line, error: InferenceError | None, after: float = 0.0) -> None:
        """An answer goes off in so many seconds; None is a good one."""
        arrives = self._agenda.now + after + self._world.round_trip
        if self._cpu is None:
            self._agenda.at(arrives, self._ended, (line, error))
        else:
            self._agenda.at(arrives, self._arrived, (line, error))

    def _arrived(self, line_and_error: tuple[Line, InferenceError | None]) -> None:
        assert self._cpu is not None
        self._agenda.at(self._cpu.heard(self._agenda.now), self._ended, line_and_error)

    def first_token(self, line: Line) -> None:
        if self.policy.sees_first_token:
            arrived = self._first_token if self._cpu is None else self._first_token_arrived
            self._agenda.after(self._world.round_trip, arrived, line)

    def _first_token_arrived(self, line: Line) -> None:
        assert self._cpu is not None
        self._agenda.at(self._cpu.heard(self._agenda.now), self._first_token, line)

    def _first_token(self, line: Line) -> None:
        assert line.started is not None
        now = self._agenda.now
        late = self._cpu.heard_after(now) if self._cpu is not None else 0.0
        self.policy.first_token(line.started, now - line.sent, now, late)

    def _look(self, _: None) -> None:
        assert self._cpu is not None
        self._agenda.at(self._cpu.look(self._agenda.now), self._looked)

    def _looked(self, _: None) -> None:
        assert self._cpu is not None
        self._cpu.looked(self._agenda.now)
        self._agenda.after(_LOOKS_EVERY, self._look)

    def _ended(self, line_and_error: tuple[Line, InferenceError | None]) -> None:
        line, error = line_and_error
        now = self._agenda.now
        assert line.started is not None
        ended = Ended(Outcome.OK, tokens=line.output) if error is None else ended_by(error)
        self.policy.finished(line.started, ended, now)
        if error is None:
            self._record.finished(now, line)
            return
        self._record.failed(now, error)
        delay = retry_delay(self._world.retry, error, line.attempt, self._jitter.uniform)
        if delay is None:
            self._record.lost += 1
            return
        self._backing_off += 1
        self._agenda.after(delay, self._backed_off, line)

    def _backed_off(self, line: Line) -> None:
        self._backing_off -= 1
        self._ready.append(line)
