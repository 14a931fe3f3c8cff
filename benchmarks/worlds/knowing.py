"""Policies that know more than any client can: what could be done at best in a world without
people, and what not knowing costs."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from batch_gateway.concurrency.events import Ended, Outcome, Started
from benchmarks.worlds.ours import Ours
from benchmarks.worlds.policy import Policy
from benchmarks.worlds.pool import Pod
from benchmarks.worlds.quotas import Grants, grants_of
from benchmarks.worlds.simulation import Simulation
from benchmarks.worlds.world import Balancing, World

__all__ = ["KNOWING", "KnowsPace", "KnowsQuotas", "KnowsServer", "KnowsSize", "knowing_in"]

_START = 16
"""In flight until anything is known, as ours."""

_ROUNDING = 1e-6

_UNKNOWN = float("inf")

_BOLDER = 0.99
"""Of the time between two sends, where half as many as ever were granted without a refusal."""


class KnowsServer(Policy):
    """Sends whatever has a seat at once, and a token where there is a quota; of several clients,
    each has its share of the seats. It knows that at every moment, but nothing of what will come.
    """

    name = "knows the server"
    holds_in_backoff = False

    def __init__(self) -> None:
        super().__init__(0)
        self._grants: Grants | None = None

    def enters(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._number = simulation.policies.index(self)
        if (quota := simulation.world.quota) is not None:
            self._grants = grants_of(quota)

    @property
    def limit(self) -> int:  # type: ignore[override]
        return self.in_flight + max(0, min(self._free_seats(), self._left_of_share()))

    @limit.setter
    def limit(self, value: int) -> None:
        """It has no limit of its own."""

    def started(self, now: float) -> Started:
        if self._grants is not None:
            self._grants.take(now)
        return super().started(now)

    @property
    def paused_until(self) -> float:  # type: ignore[override]
        """When there is a token."""
        if self._grants is None:
            return 0.0
        now = self._simulation.agenda.now
        left = deepcopy(self._grants).take(now)
        return now + max(left, _ROUNDING) if left else 0.0

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        if self._grants is not None and ended.outcome is Outcome.OK:
            self._grants.answered(ended.tokens)

    def _free_seats(self) -> int:
        """Of whom the next request goes to; of all where that is chance, or costs a refusal."""
        pool, world = self._simulation.pool, self._simulation.world
        following = pool.next(self._simulation.agenda.now)
        if following is not None and not following.serves:
            return 0
        refuses = world.capacity is not None and world.capacity.queue_limit == 0
        if following is None or (refuses and world.balancing is Balancing.IN_TURN):
            return sum(_free(pod) for pod in pool.pods if pod.serves)
        return _free(following)

    def _left_of_share(self) -> int:
        """Of all seats, shared by the clients that have begun."""
        world, now = self._simulation.world, self._simulation.agenda.now
        seats = _seats(self._simulation)
        begun = sum(start <= now for start in world.clients)
        if begun == 1:
            return seats
        return seats // begun + (self._number < seats % begun) - self.in_flight


def _seats(simulation: Simulation) -> int:
    return sum(pod.batch.capacity.seats for pod in simulation.pool.pods if pod.serves)


def _free(pod: Pod) -> int:
    return max(0, pod.batch.capacity.seats - pod.load())


class KnowsSize(Policy):
    """Keeps as many in flight as there were seats when the request was sent that was answered
    last: what answers could tell of the size of the servers, if they told it without an error."""

    name = "knows the size from answers"
    holds_in_backoff = False

    def __init__(self) -> None:
        super().__init__(_START)
        self._sizes: dict[Started, int] = {}

    def enters(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def started(self, now: float) -> Started:
        self.in_flight += 1
        started = Started(now, 0.0, self._simulation.record.sent)
        self._sizes[started] = _seats(self._simulation)
        return started

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        seats = self._sizes.pop(started)
        if ended.outcome is Outcome.OK:
            self.limit = seats


class KnowsPace(Ours):
    """Our own controller by the server's clock: it never sees that the server is slower or
    quicker than it was, and only has everything else to find."""

    name = "knows the pace"

    def enters(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def _clock(self) -> float:
        return self._simulation.pool.pods[0].clock(self._simulation.agenda.now)

    def started(self, now: float) -> Started:
        return super().started(self._clock())

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, self._clock())

    @property
    def paused_until(self) -> float:  # type: ignore[override]
        left = super().paused_until - self._clock()
        return self._simulation.agenda.now + left if left > 0 else 0.0


class KnowsQuotas(Policy):
    """Knows that refusals are those of a token bucket, but neither its rate nor its size.

    It begins as ours does, and raises its limit by one with each answer, until the first refusal
    shows that the bucket is empty. From then on only the rate counts: whenever the bucket is empty
    again after T seconds, it has granted what came in, but for one token, so that the rate is
    known to within 1/T, and the next refusal needs half as long again.
    """

    name = "knows quotas"
    holds_in_backoff = False

    def __init__(self) -> None:
        super().__init__(_START)
        self._last = self._empty_at = 0.0
        self._apart = 0.0
        self._learnt_at: float | None = None
        self._granted = self._in_a_row = 0

    @property
    def paused_until(self) -> float:  # type: ignore[override]
        return self._last + self._apart

    def started(self, now: float) -> Started:
        self._last = now
        self._granted += 1
        self._in_a_row += 1
        if self._in_a_row > self._granted / 2:
            self._apart *= _BOLDER
        return super().started(now)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        if ended.outcome is not Outcome.REFUSED:
            self.limit += 1
            if self._apart == _UNKNOWN:
                self._first_guess(now)
        elif self._learnt_at is None:
            self._granted -= 1
            self._apart = _UNKNOWN
            if self.limit > _START:
                self._first_guess(now)
        elif started.at >= self._learnt_at:
            self._granted -= 1
            self._learn(now)

    def _first_guess(self, now: float) -> None:
        """The burst and what came in since, over the time of an answer at least."""
        self._learnt_at = self._empty_at = now
        self._apart = now / max(1, self._granted)
        self._granted = self._in_a_row = 0

    def _learn(self, now: float) -> None:
        self._learnt_at, self._in_a_row = now, 0
        known = (now - self._empty_at) / self._granted if self._granted else 0.0
        self._apart = known or 2 * self._apart


KNOWING = {policy.name: policy for policy in (KnowsServer, KnowsSize, KnowsPace, KnowsQuotas)}


def knowing_in(world: World) -> Iterator[str]:
    """Who knows what matters in that world."""
    yield KnowsServer.name
    if any(change.capacity is not None for change in world.changes):
        yield KnowsSize.name
    if world.wobble is not None:
        yield KnowsPace.name
    if world.quota is not None:
        yield KnowsQuotas.name
