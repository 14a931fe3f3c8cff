"""Flow control as a pure model: what is dispatched, refused or evicted, and when.

Sources: llm-d-router, pkg/epp/flowcontrol, and the utilization detector, priority-then-time
eviction order and sheddable filter of its plugins.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from batch_gateway.simulator.picker.choice import PodLoad
from batch_gateway.simulator.picker.flow_queue import FlowQueue, Item

__all__ = ["FlowControl", "FlowLimits", "Step", "Verdict", "pool_saturation"]


class Verdict(Enum):
    DISPATCH = "it may be placed"
    EXPIRE = "its time in the queue is up"
    EVICT = "it is under way, and has to make room for one of higher priority"


class Step(NamedTuple):
    verdict: Verdict
    key: int


class FlowLimits(NamedTuple):
    """When a pool is full.

    Attributes:
        queue_limit: how many may wait; None is no limit.
        queue_depth: waiting requests at which a pod is full.
        kv_usage: share of the KV cache at which it is.
        evicts: whether sheddable work under way makes room for higher priorities.
    """

    queue_limit: int | None = None
    queue_depth: int = 5
    kv_usage: float = 0.8
    evicts: bool = False


class _Running(NamedTuple):
    priority: int
    since: float


def pool_saturation(loads: Sequence[PodLoad], limits: FlowLimits, *, credit: bool) -> float:
    """How full the pool is: from 1 on it takes no more. An empty pool is full.

    With `credit`, what was sent to a pod and has not reached it counts as queued there.
    """
    if not loads:
        return 1.0
    scores = (
        max(
            (pod.queued if credit else pod.waiting) / limits.queue_depth,
            pod.kv_usage / limits.kv_usage,
        )
        for pod in loads
    )
    return sum(scores) / len(loads)


class FlowControl:
    """Holds who waits and who is under way. Knows no clock: the caller says what time it is."""

    def __init__(self, limits: FlowLimits) -> None:
        self.limits = limits
        self._queue = FlowQueue()
        self._running: dict[int, _Running] = {}
        self._priorities: dict[int, int] = {}
        self._evicted: set[int] = set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    def arrive(self, key: int, priority: int, flow: str, expires: float) -> bool:
        """Join the queue; False when it is full. `key` is one that is not in use."""
        limit = self.limits.queue_limit
        if limit is not None and len(self._queue) >= limit:
            return False
        self._priorities[key] = priority
        self._queue.push(Item(key, priority, flow, expires))
        return True

    def step(self, now: float, saturation: float) -> Step | None:
        """What has to happen next; ask again until nothing has to.

        Whoever is dispatched is under way from now on, and counts until `over`.
        """
        expired = self._queue.pop_expired(now)
        if expired is not None:
            del self._priorities[expired]
            return Step(Verdict.EXPIRE, expired)
        if not self._queue:
            return None
        if saturation < 1.0:
            key = self._queue.pop()
            assert key is not None  # noqa: S101 - somebody waits
            self._running[key] = _Running(self._priorities[key], now)
            return Step(Verdict.DISPATCH, key)
        victim = self._victim()
        if victim is None:
            return None
        self._evicted.add(victim)
        return Step(Verdict.EVICT, victim)

    def _victim(self) -> int | None:
        # One at a time: the room it makes is not seen before it is over.
        if not self.limits.evicts or self._evicted:
            return None
        wanted = self._queue.highest_priority()
        bound = min(0, 0 if wanted is None else wanted)
        sheddable = [
            (r.priority, -r.since, -k) for k, r in self._running.items() if r.priority < bound
        ]
        return -min(sheddable)[2] if sheddable else None

    def over(self, key: int) -> None:
        """It waits no longer, or is no longer under way."""
        self._queue.remove(key)
        self._running.pop(key, None)
        self._priorities.pop(key, None)
        self._evicted.discard(key)

    def next_expiry(self) -> float | None:
        return self._queue.next_expiry()

    def drain(self) -> list[int]:
        """Everybody who waits, none of whom does any longer."""
        keys = self._queue.pop_all()
        for key in keys:
            del self._priorities[key]
        return keys
