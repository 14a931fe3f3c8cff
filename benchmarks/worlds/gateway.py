"""What a request of ours meets in front of the servers: refusals by chance and by quota, random
errors, nobody there. It ends as errors of this package do."""

from __future__ import annotations

import math
import random

from batch_gateway.errors import (
    GatewayConnectionError,
    InferenceError,
    RateLimitError,
    ServerError,
)
from batch_gateway.simulator.batching import Admission
from benchmarks.worlds.pool import Pod, Pool
from benchmarks.worlds.quotas import grants_of
from benchmarks.worlds.record import Line
from benchmarks.worlds.world import World

__all__ = ["Gateway", "saturated"]

_REFUSAL_SECONDS = 0.002

Met = tuple[InferenceError, float]
"""How a request ended, and seconds until that is answered."""


class Gateway:
    """Admits a line to a server, or tells what it meets instead."""

    def __init__(self, world: World, pool: Pool) -> None:
        self._world = world
        self._pool = pool
        self._grants = None if world.quota is None else grants_of(world.quota)
        self._faults = random.Random(f"{world.seed}:faults")
        self._chances = random.Random(f"{world.seed}:chance")
        self.reachable = True

    def send(self, line: Line, now: float) -> Met | None:
        """None where the line has its seat, or a place in a queue; `line.pod` then runs it."""
        if not self.reachable:
            return GatewayConnectionError("refused"), 0.0
        if not self._pool.serves:
            nobody = ServerError("nobody", status_code=503, dropped_reason="rejected-no-endpoints")
            return nobody, _REFUSAL_SECONDS
        refused = self._by_chance(now) or self._by_quota(now)
        if refused is not None:
            return refused, _REFUSAL_SECONDS
        if self._world.errors and self._faults.random() < self._world.errors:
            return self._fault()
        pod = self._pool.choose(now)
        if not pod.serves:
            return ServerError("died", status_code=502), _REFUSAL_SECONDS
        return self._submit(line, pod, now)

    def answered(self, line: Line) -> None:
        """Its answer is complete."""
        if self._grants is not None:
            self._grants.answered(line.output)

    def _submit(self, line: Line, pod: Pod, now: float) -> Met | None:
        admission = self._pool.submit(pod, line, line.prompt, line.output, now)
        if admission is Admission.REFUSED:
            return saturated(self._world), _REFUSAL_SECONDS
        line.pod = pod
        return None

    def _by_chance(self, now: float) -> InferenceError | None:
        chance = self._world.chance
        if chance is None or not chance.since <= now < chance.until:
            return None
        return _too_many(chance.retry_after) if self._chances.random() < chance.share else None

    def _by_quota(self, now: float) -> InferenceError | None:
        if self._grants is None or (seconds := self._grants.take(now)) == 0:
            return None
        assert self._world.quota is not None
        unit = self._world.quota.told
        return _too_many(unit * math.ceil(seconds / unit) if unit else None)

    def _fault(self) -> Met:
        if self._faults.random() < 0.5:
            return ServerError("500", status_code=500), _REFUSAL_SECONDS
        return GatewayConnectionError("reset"), self._faults.random()


def _too_many(retry_after: float | None) -> InferenceError:
    return RateLimitError("slow down", status_code=429, retry_after=retry_after)


def saturated(world: World) -> InferenceError:
    """What a full server answers."""
    return RateLimitError(
        "full",
        status_code=429,
        retry_after=world.retry_after,
        dropped_reason="rejected-saturated",
    )
