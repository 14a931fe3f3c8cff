"""Which pod serves a request: pure functions that put the best one first."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["PodLoad", "by_load", "by_prefix_and_load", "by_turn", "shuffled"]

# The weights of the scorers in the inference extension's default configuration.
_PREFIX_WEIGHT = 3.0
_QUEUE_WEIGHT = 2.0
_KV_CACHE_WEIGHT = 2.0


class PodLoad(NamedTuple):
    """What is known of a pod when a request is to be placed.

    Attributes:
        address: "ip:port".
        running, waiting: requests that its engine runs and queues.
        kv_usage: share of its KV cache in use, 0 to 1.
        in_flight: requests that were sent to it and are not over, whether it has them yet or not.
    """

    address: str
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    in_flight: int = 0

    @property
    def requests(self) -> int:
        """All that it has to do, with what is still on its way to it."""
        return max(self.running + self.waiting, self.in_flight)

    @property
    def queued(self) -> int:
        """What it queues, with what is still on its way to it."""
        return self.waiting + max(0, self.in_flight - self.running - self.waiting)


def by_load(pods: Sequence[PodLoad], key: bytes) -> list[PodLoad]:
    """The pod with the fewest requests first; `key` decides among equals."""
    tie = _tie_break(key)
    return sorted(pods, key=lambda pod: (pod.requests, tie(pod)))


def by_prefix_and_load(
    pods: Sequence[PodLoad], known: Mapping[str, float], key: bytes
) -> list[PodLoad]:
    """The highest score first, made up as by the inference extension's default scorers.

    Args:
        pods: to choose from.
        known: by address, the share (0 to 1) of the prompt that the pod has read before.
        key: decides among equals.
    """
    tie = _tie_break(key)
    fewest = min((pod.queued for pod in pods), default=0)
    most = max((pod.queued for pod in pods), default=0)

    def score(pod: PodLoad) -> float:
        queue = (most - pod.queued) / (most - fewest) if most > fewest else 1.0
        prefix = known.get(pod.address, 0.0)
        return (
            _PREFIX_WEIGHT * prefix
            + _QUEUE_WEIGHT * queue
            + _KV_CACHE_WEIGHT * (1.0 - pod.kv_usage)
        )

    return sorted(pods, key=lambda pod: (-score(pod), tie(pod)))


def by_turn(pods: Sequence[PodLoad], turn: int) -> list[PodLoad]:
    """Each pod in its turn, the others behind it."""
    if not pods:
        return []
    start = turn % len(pods)
    return [*pods[start:], *pods[:start]]


def shuffled(pods: Sequence[PodLoad], rng: random.Random) -> list[PodLoad]:
    """Any order."""
    return rng.sample(pods, len(pods))


def _tie_break(key: bytes) -> Callable[[PodLoad], bytes]:
    # The same request meets the same order whenever it comes, and all requests spread evenly.
    def digest(pod: PodLoad) -> bytes:
        return hashlib.blake2b(key + pod.address.encode(), digest_size=8).digest()

    return digest
