"""What a world is: a server, the work for it, and what happens to it over time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from batch_gateway.client.config import RetryPolicy
from batch_gateway.simulator.capacity import Capacity

__all__ = ["Aims", "Burst", "Change", "Interactive", "Lengths", "World", "log_normal", "uniform"]

Draw = Callable[[random.Random], int]


def uniform(mean: int) -> Draw:
    """Half to one and a half times the mean, as the simulator's own default."""

    def draw(draws: random.Random) -> int:
        return max(1, round(mean * (0.5 + draws.random())))

    return draw


def log_normal(median: float, sigma: float, low: int, high: int) -> Draw:
    def draw(draws: random.Random) -> int:
        return min(high, max(low, round(draws.lognormvariate(math.log(median), sigma))))

    return draw


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and of answers."""

    prompt: Draw
    output: Draw


@dataclass(frozen=True)
class Change:
    """From `at` seconds on the server is this; None is a gateway without an endpoint.

    With `resets` it is no gateway at all: what is in flight is cut off, and nobody can connect.
    """

    at: float
    capacity: Capacity | None
    resets: bool = False


@dataclass(frozen=True)
class Burst:
    """`size` users within `width` seconds, every `every` seconds, from `first` on."""

    size: int
    every: float
    width: float
    first: float


@dataclass(frozen=True)
class Interactive:
    """People on the same server: Poisson arrivals and bursts, which nobody limits."""

    rate: float
    lengths: Lengths
    burst: Burst | None = None
    priority: int = 0


@dataclass(frozen=True)
class Aims:
    """What is wanted of ours in a world; None where nothing is.

    Attributes:
        goodput: share of the oracle's output tokens.
        refused: most refusals, as a share of what was sent.
        wait: longest mean wait in the server's queue, as a share of the mean service time.
        settle: longest time in seconds from a change to the new level.
        ttft: interactive p99 time to first token, as a multiple of that without a batch.
        leftover: share used of the capacity that interactive users leave.
        lost: lines that ran out of retries.
    """

    goodput: float | None = None
    refused: float | None = None
    wait: float | None = None
    settle: float | None = None
    ttft: float | None = None
    leftover: float | None = None
    lost: int | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """One world. Times in seconds.

    Attributes:
        capacity: the server at the beginning; None has no endpoint and answers 503.
        duration: how much gateway time is simulated; every figure is over all of it.
        changes: later servers, in order of time.
        errors: share of requests that meet a random 500 or a reset.
        round_trip: of the network.
        retry_after: what refusals carry.
        oracle: the fixed limits that the sweep tries.
        window: lines that may be in flight or wait for their retry; None for any number.
    """

    name: str
    title: str
    capacity: Capacity | None
    lengths: Lengths
    duration: float
    aims: Aims
    oracle: tuple[int, ...]
    changes: tuple[Change, ...] = ()
    interactive: Interactive | None = None
    errors: float = 0.0
    round_trip: float = 0.004
    retry_after: float | None = None
    window: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    seed: int = 1
