"""What a gateway says of its own load, turned into the most that should be under way."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

__all__ = ["Advice", "Load", "ServerLoad", "Standing"]

_FEW = 0.02  # of those running may wait: even an idle server lets a request wait for the next step
_FEW_OF_OURS = 0.1  # the same where nobody else is there
_SHORT_WAIT = 0.05  # seconds that nobody minds, as where requests last milliseconds
_ROOM = 1.1  # times the most that others needed of late
_MOST_ROOM = 0.9  # of the capacity is kept for others: two batches must not starve each other
_MEMORY = 600.0  # seconds that the needs of others are remembered
_BUCKET = 30.0  # seconds whose highest value is remembered as one
_FULL, _NOT_FULL = 0.95, 0.90  # of the KV cache, or of what a pool calls saturated
_LAG = 3  # looks: what a page shows may be older than what we know of ourselves
_SEEN = 0.9  # of ours in flight must be on the page, or it does not show the whole gateway
_FIRM = 60.0  # seconds before a capacity that nothing confirms gives way, 0.1 % a second
_RELAX = 0.001
_SURE = 0.9  # of the room beside others may be used without a doubt
_DROP = 0.1  # the most that the capacity falls by at one look


class Load(NamedTuple):
    """One look at a gateway or its model servers; None for what is not said.

    Attributes:
        running: requests that generate.
        waiting: requests that wait for a place.
        kv_usage: share of the KV cache in use, 0 to 1, on average over the servers.
        saturation: as llm-d's picker sees its pool; 1 and more is full.
        servers: how many the numbers are of.
    """

    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    saturation: float | None = None
    servers: int = 0


class Standing(NamedTuple):
    """Ours at the moment of a look.

    Attributes:
        in_flight: requests at the gateway.
        limit: how many there may be.
        answered: how many were answered so far.
    """

    in_flight: int
    limit: int
    answered: int


class Advice(NamedTuple):
    """How many should be under way.

    Attributes:
        most: no more than these; infinity where nothing speaks against more.
        whole: everything at the gateway was seen, so that there is nothing to guess about others.
        least: so many fit beside others, whatever is guessed; 0 where that is not known.
    """

    most: float = math.inf
    whole: bool = False
    least: float = 0.0

    def within(self, guess: float) -> float:
        """The advice, and a guess from outside where it is needed."""
        return self.most if self.whole else min(self.most, guess)


class ServerLoad:
    """The advice that follows from a gateway's own metrics. No I/O, no clock.

    - While requests wait, ours come down by their share of those that wait.
    - Others are what runs and waits there and is not ours. Where there are any, room for the most
      that they needed in the last ten minutes, and a little more, is left of the capacity, which
      is what was running while something waited.
    - With a KV cache or a pool that is nearly full, nothing is raised.
    - Otherwise there is no advice: the controller's own judgement counts.
    """

    def __init__(self) -> None:
        self._ours: deque[int] = deque(maxlen=_LAG)
        self._needs = _Highest()
        self._runs = _Highest()
        self._capacity = math.inf
        self._waited_at = 0.0
        self._firm = _FIRM / 2
        self._servers = 0
        self._held = math.inf
        self._answered: tuple[int, float] | None = None

    @property
    def capacity(self) -> float:
        """What runs at most, as far as it was seen; infinity while nothing ever waited."""
        return self._capacity

    def advice(self, load: Load, ours: Standing, now: float) -> Advice:
        """What one look says. `now` is in monotonic seconds and never goes back."""
        self._ours.append(ours.in_flight)
        whole = False
        if load.running is not None and load.waiting is not None:
            whole = load.running + load.waiting >= _SEEN * ours.in_flight
        waiting = self._while_waiting(load, ours, now, whole=whole)
        beside = self._beside_others(now)
        full = self._while_full(load, ours.limit)
        most = min(waiting, beside, full, _while_saturated(load, ours.in_flight))
        known = whole and most == beside < math.inf
        return Advice(most, whole, _SURE * beside if known else 0.0)

    # -- requests that wait ----------------------------------------------------------------

    def _while_waiting(self, load: Load, ours: Standing, now: float, *, whole: bool) -> float:
        if load.running is None or load.waiting is None:
            return math.inf
        running, waiting = load.running, load.waiting
        present = running + waiting
        lasts = self._lasts(present, waiting, ours, now)
        waits = lasts and waiting > max(1.0, _FEW * running)
        if whole:
            self._learn(load.servers, running, max(0.0, present - max(self._ours)), now)
            if waits:
                self._learn_capacity(running, now)
        allowed = (_FEW if self._need(now) else _FEW_OF_OURS) * running
        if not waits or waiting <= allowed:
            return math.inf
        # In proportion, so that it holds for a page that shows only some of the servers, too.
        return ours.in_flight * (running + allowed) / present

    def _lasts(self, present: float, waiting: float, ours: Standing, now: float) -> bool:
        """Whether those that wait do so for long, by Little's law and the rate of our answers."""
        before, self._answered = self._answered, (ours.answered, now)
        if before is None:
            return False  # the next look will tell
        answered, since = before
        if now <= since or ours.answered <= answered or not ours.in_flight:
            return True
        rate = (ours.answered - answered) / (now - since)
        return waiting > _SHORT_WAIT * rate * max(1.0, present / ours.in_flight)

    def _learn(self, servers: int, running: float, others: float, now: float) -> None:
        if servers != self._servers:
            self._servers = servers
            self._capacity = math.inf
            self._runs = _Highest()
            self._firm = _FIRM / 2
        self._needs.add(others, now)
        self._runs.add(running, now)
        self._capacity = max(self._capacity, running)

    def _learn_capacity(self, running: float, now: float) -> None:
        # A wait for the turn of one's prompt is no sign of a lower capacity than was seen before.
        before = self._runs.value(now) if self._capacity == math.inf else self._capacity
        self._capacity = max(running, (1 - _DROP) * before)
        if now - self._waited_at > _FIRM / 3:
            self._firm = min(_MEMORY, 2 * self._firm)
        self._waited_at = now

    # -- others ----------------------------------------------------------------------------

    def _need(self, now: float) -> float:
        """The most that others needed of late; 0 for next to nothing."""
        need = self._needs.value(now)
        return need if need > max(2.0, _FEW * self._runs.value(now)) else 0.0

    def _beside_others(self, now: float) -> float:
        need = self._need(now)
        if self._capacity == math.inf or not need:
            return math.inf
        unconfirmed = max(0.0, now - self._waited_at - self._firm)
        capacity = self._capacity * math.exp(_RELAX * unconfirmed)
        return capacity - min(_ROOM * need, _MOST_ROOM * capacity)

    # -- a full cache or pool --------------------------------------------------------------

    def _while_full(self, load: Load, limit: int) -> float:
        fullest = max(load.kv_usage or 0.0, load.saturation or 0.0)
        if fullest < _NOT_FULL:
            self._held = math.inf
        elif fullest >= _FULL:
            self._held = min(self._held, limit)
        return self._held


def _while_saturated(load: Load, in_flight: int) -> float:
    if load.saturation is None or load.saturation < 1:
        return math.inf
    return in_flight / max(1.05, load.saturation)


class _Highest:
    """The highest value of the last ten minutes, in buckets of half a minute."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[float, float]] = deque()

    def add(self, value: float, now: float) -> None:
        buckets = self._buckets
        if buckets and now - buckets[-1][0] < _BUCKET:
            began, highest = buckets[-1]
            buckets[-1] = (began, max(highest, value))
        else:
            buckets.append((now, value))
        self.value(now)

    def value(self, now: float) -> float:
        while self._buckets and self._buckets[0][0] < now - _MEMORY:
            self._buckets.popleft()
        return max((value for _, value in self._buckets), default=0.0)
