"""What a controller is told: a request was started, and how it ended."""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["Ended", "Outcome", "Started"]


class Outcome(Enum):
    OK = "answered"
    REFUSED = "refused for want of room, in whichever of the gateway's ways"
    FAILED = "failed otherwise; says nothing about room by itself"
    UNREACHABLE = "no connection, or one that broke"
    ABANDONED = "the caller gave up; says nothing about the gateway"


class Started(msgspec.Struct, eq=False):
    """What is remembered of a request from its start to its end; no two are the same.

    Attributes:
        at: monotonic seconds.
        area: the integral of requests in flight over time, up to `at`.
        rank: requests in flight with this one.
        outcome: how it ended; None while it is under way.
    """

    at: float
    area: float
    rank: int
    outcome: Outcome | None = None


class Ended(msgspec.Struct, frozen=True):
    """How a request ended.

    Attributes:
        tokens: output tokens of an answer, 0 when it has none or does not say.
        retry_after: seconds that a refusal asked to wait.
    """

    outcome: Outcome
    tokens: int = 0
    retry_after: float | None = None
