"""The servers of a world: the simulator's model of batching, with a clock that can be slowed
down, and the balancer before several of them."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from batch_gateway.simulator.batching import Admission, ContinuousBatch, Event, EventKind
from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.world import Balancing, World

__all__ = ["Pod", "Pool"]

NOTICED_AFTER = 1.0
"""Seconds after which a balancer sends nothing more to a server that died: a health check."""

_NOBODY = Capacity(seats=1)
_ROUNDING = 1e-9


class Pod:
    """One server. Its own clock runs at `pace`: half as fast doubles every latency, and at 0 it
    stands still.

    Attributes:
        serves: whether it is there.
        died_at: when it was last found dead.
    """

    def __init__(self, capacity: Capacity | None) -> None:
        self.batch = ContinuousBatch(capacity or _NOBODY)
        self.serves = capacity is not None
        self.died_at = float("-inf")
        self._due: float | None = None
        self._touched = True
        self._pace = 1.0
        self._since = self._then = self._last = 0.0

    def set_pace(self, pace: float, now: float) -> None:
        self._then, self._since, self._pace = self.touch(now), now, pace

    def touch(self, now: float) -> float:
        """Something is about to be done to it: what its clock says."""
        self._touched = True
        return self._time(now)

    def clock(self, now: float) -> float:
        """What its clock says, for whoever only looks."""
        return self._then + (now - self._since) * self._pace

    def _time(self, now: float) -> float:
        """What its clock says; exactly an event's time where there is only rounding between."""
        time = self.clock(now)
        event = self.batch.next_event_time()
        if event is not None and 0 < event - time < _ROUNDING:
            time = event
        self._last = max(self._last, time)
        return self._last

    def next_event_time(self) -> float | None:
        if self._touched:
            self._due = self._next()
        return self._due

    def _next(self) -> float | None:
        event = self.batch.next_event_time()
        if event is None or self._pace == 0:
            return None
        return self._since + (event - self._then) / self._pace

    def advance(self, now: float) -> Sequence[Event]:
        """What happened up to `now`; costs nothing where nothing can have."""
        if not self._touched and (self._due is None or now < self._due):
            return ()
        events = self.batch.advance(self._time(now))
        self._touched = False
        self._due = self._next()
        return events

    def load(self) -> int:
        return self.batch.running + self.batch.waiting


class Pool:
    """All servers behind one balancer. What is submitted is known by the object itself."""

    def __init__(self, world: World) -> None:
        self._seed = world.seed
        self.pods = [
            Pod(self._seeded(capacity, number))
            for number, capacity in enumerate((world.capacity, *world.others))
        ]
        self._balancing = world.balancing
        self._draws = random.Random(f"{world.seed}:balancer")
        self._turn = 0

    def _seeded(self, capacity: Capacity | None, number: int) -> Capacity | None:
        """With a jitter of its own for each seed and server."""
        return capacity and replace(capacity, seed=self._seed - 1 + 1000 * number)

    @property
    def running(self) -> int:
        return sum(pod.batch.running for pod in self.pods)

    @property
    def waiting(self) -> int:
        return sum(pod.batch.waiting for pod in self.pods)

    @property
    def serves(self) -> bool:
        """Whether there is any server."""
        return any(pod.serves for pod in self.pods)

    def next_event_time(self) -> float | None:
        if len(self.pods) == 1:
            return self.pods[0].next_event_time()
        times = (pod.next_event_time() for pod in self.pods)
        return min((time for time in times if time is not None), default=None)

    def choose(self, now: float) -> Pod:
        """The server for the next request; one that is dead as long as nobody has noticed."""
        chosen = self.next(now) or self._draws.choice(self._known(now))
        self._turn += 1
        return chosen

    def next(self, now: float) -> Pod | None:
        """Whom the next request will go to; None where chance decides."""
        known = self.pods if len(self.pods) == 1 else self._known(now)
        if len(known) < 2:
            return (known or self.pods)[0]
        if self._balancing is Balancing.AT_RANDOM:
            return None
        first = (self._turn + 1) % len(known)
        if self._balancing is Balancing.IN_TURN:
            return known[first]
        return min(known[first:] + known[:first], key=Pod.load)

    def _known(self, now: float) -> list[Pod]:
        return [pod for pod in self.pods if pod.serves or now - pod.died_at < NOTICED_AFTER]

    def submit(
        self, pod: Pod, who: Hashable, prompt: int, output: int, now: float, priority: int = 0
    ) -> Admission:
        return pod.batch.submit(who, prompt, output, pod.touch(now), priority=priority)

    def advance(self, now: float) -> Iterator[tuple[EventKind, Hashable]]:
        """What happened at any of them up to `now`."""
        for pod in self.pods:
            for event in pod.advance(now):
                yield event.kind, event.sequence_id

    def cancel(self, pod: Pod, who: Hashable, now: float) -> None:
        pod.batch.cancel(who, pod.touch(now))

    def change(self, pod: Pod, capacity: Capacity | None, now: float) -> None:
        pod.serves = capacity is not None
        seeded = self._seeded(capacity, self.pods.index(pod))
        if seeded is None:
            pod.died_at = now
        else:
            pod.batch.reconfigure(seeded, pod.touch(now))

    def touch(self, now: float) -> None:
        """Have every server look at the time, before a last look at what each has done."""
        for pod in self.pods:
            pod.touch(now)

    def set_pace(self, pace: float, now: float) -> None:
        for pod in self.pods:
            pod.set_pace(pace, now)
