"""What a world is: servers, the work for them, and what happens to both over time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.simulator.capacity import Capacity
from benchmarks.worlds.lengths import Lengths

__all__ = [
    "Aims",
    "Balancing",
    "Burst",
    "Busy",
    "Chance",
    "Change",
    "Interactive",
    "Quota",
    "Stalls",
    "Wobble",
    "World",
]


class Balancing(Enum):
    """Whom a balancer sends the next request to."""

    IN_TURN = "one after the other, whatever becomes of the requests"
    AT_RANDOM = "any, whatever becomes of the requests"
    LEAST_LOADED = "whoever has the fewest requests, as an endpoint picker does"


@dataclass(frozen=True)
class Change:
    """From `at` seconds on the server number `server` is this; None has nobody who answers.

    Where there is one server, None is a gateway without an endpoint; one of several is dead, and
    fails what is sent to it until the balancer has noticed. With `resets` what it runs is cut off,
    and where there is one server, nobody can connect.
    """

    at: float
    capacity: Capacity | None
    resets: bool = False
    server: int = 0


@dataclass(frozen=True)
class Wobble:
    """All latencies become k times the base, k uniform in 1 to `most`, again and again, after
    `shortest` to `longest` seconds."""

    most: float
    shortest: float = 0.2
    longest: float = 1.0


@dataclass(frozen=True)
class Stalls:
    """Every `every` seconds the server stands still for so long."""

    every: float
    seconds: float


@dataclass(frozen=True)
class Chance:
    """A share of requests is refused with a 429, however many are under way, while it lasts."""

    share: float
    retry_after: float | None = None
    since: float = 0.0
    until: float = float("inf")


@dataclass(frozen=True)
class Quota:
    """What the gateway grants our key; beyond it a 429.

    Attributes:
        burst: what a token bucket grants at once after a rest.
        told: the refusal says when more is granted, in units of so many seconds; 0 says nothing.
        window: seconds for which all is granted at once, on the clock, and no bucket; 0 is one.
        of_tokens: what is granted are output tokens, and those of an answer count from its end,
            as nobody knows them before.
        later: (from, per second) where others take of it, or give it back.
    """

    per_second: float
    burst: int = 0
    told: float = 0.0
    window: float = 0.0
    of_tokens: bool = False
    later: tuple[tuple[float, float], ...] = ()

    def granted(self, duration: float) -> float:
        """In so many seconds from the beginning."""
        rates = ((0.0, self.per_second), *self.later)
        ends = (*(since for since, _ in self.later), duration)
        pairs = zip(rates, ends, strict=True)
        return self.burst + sum(
            rate * max(0.0, min(end, duration) - since) for (since, rate), end in pairs
        )


@dataclass(frozen=True)
class Busy:
    """The client's process is short of CPU: answers queue for it and are heard late.

    Attributes:
        per_answer: seconds of CPU that an answer takes, and a first token where it is told.
        pauses_every: mean seconds between times when others have the CPU; 0 for never.
        pause: longest such time; each is uniform up to it.
    """

    per_answer: float
    pauses_every: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True)
class Burst:
    """`size` users within `width` seconds, every `every` seconds, from `first` on."""

    size: int
    every: float
    width: float
    first: float


@dataclass(frozen=True)
class Interactive:
    """People on the same server: Poisson arrivals and bursts, which nobody limits.

    Attributes:
        rate: arrivals a second, the mean where it drifts.
        drift: (period in seconds, depth): the rate is (1 - depth * cos(2 pi t / period)) times
            the mean, so that it begins at its lowest.
        lulls: (from, to) in seconds, when nobody comes.
    """

    rate: float
    lengths: Lengths
    burst: Burst | None = None
    priority: int = 0
    drift: tuple[float, float] | None = None
    lulls: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Aims:
    """What is wanted of ours in a world, in the worst of its seeds; None where nothing is.

    Attributes:
        goodput: share of the oracle's output tokens.
        refused: most refusals, as a share of what was sent.
        wait: longest mean wait in the server's queue, as a share of the mean service time.
        quota: share of what the quota grants.
        least: what the client that got least got, as a multiple of an equal share.
        settle: longest time in seconds from a change to the new level.
        ttft: interactive p99 time to first token, as a multiple of that without a batch, where
            answers are streamed or the server's metrics are looked at.
        ttft_unseen: the same otherwise.
        leftover: share used of the capacity that interactive users leave.
        lost: lines that ran out of retries.
    """

    goodput: float | None = None
    refused: float | None = None
    wait: float | None = None
    quota: float | None = None
    least: float | None = None
    settle: float | None = None
    ttft: float | None = None
    ttft_unseen: float | None = None
    leftover: float | None = None
    lost: int | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """One world. Times in seconds.

    Attributes:
        group: of its kind; one word for the command line.
        capacity: the server at the beginning; None has no endpoint and answers 503.
        others: further servers behind the same balancer.
        balancing: whom the balancer chooses.
        duration: how much gateway time is simulated; every figure is over all of it.
        changes: later servers, in order of time.
        errors: share of requests that meet a random 500 or a reset.
        round_trip: of the network.
        retry_after: what refusals of a full server carry.
        clients: when each client of ours begins.
        oracle: the fixed limits of one client that the sweep tries, rising.
        window: lines of one client that may be in flight or wait for their retry; None for any
            number.
    """

    name: str
    title: str
    group: str
    capacity: Capacity | None
    lengths: Lengths
    duration: float
    aims: Aims
    oracle: tuple[int, ...]
    others: tuple[Capacity | None, ...] = ()
    balancing: Balancing = Balancing.LEAST_LOADED
    changes: tuple[Change, ...] = ()
    wobble: Wobble | None = None
    stalls: Stalls | None = None
    chance: Chance | None = None
    quota: Quota | None = None
    interactive: Interactive | None = None
    errors: float = 0.0
    round_trip: float = 0.004
    retry_after: float | None = None
    clients: tuple[float, ...] = (0.0,)
    busy: Busy | None = None
    window: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    seed: int = 1

    @property
    def happens(self) -> str:
        """All that decides what happens in it, in words: not what it is called or aims at."""
        return repr(replace(self, name="", title="", group="", aims=Aims(), oracle=()))
