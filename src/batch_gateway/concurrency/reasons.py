"""Why the limit is what it is, for people and for programs."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Reason", "Why"]


class Reason(Enum):
    """What holds the limit where it is; the value is its name in logs, metrics and reports."""

    CLIMBING = "climbing"
    KNEE = "knee"
    QUEUE = "queue"
    CEILING = "ceiling"
    PACE = "pace"
    SHUT = "shut"
    FAILING = "failing"
    OTHERS = "others"
    METRICS = "metrics"
    BOUND = "bound"


_SENTENCES = {
    Reason.CLIMBING: "{limit} at a time: trying whether more bring more",
    Reason.KNEE: "{limit} at a time: more brought nothing",
    Reason.QUEUE: "{limit} at a time: more only waited at the gateway",
    Reason.CEILING: "{limit} at a time: the gateway refuses more than {figure:,.0f}",
    Reason.PACE: (
        "refusals do not depend on how many are under way: keeping to {figure:,.3g} a minute"
    ),
    Reason.SHUT: "nobody is accepted just now: trying again in {figure:,.2g} s",
    Reason.FAILING: "{limit} at a time: one request after another failed with more",
    Reason.OTHERS: "{limit} at a time: with more, others on the same server wait",
    Reason.METRICS: "{limit} at a time: the gateway's metrics say that no more fit",
    Reason.BOUND: "{limit} at a time: the most that the settings allow",
}


class Why(NamedTuple):
    """One reason, and the number that belongs to it.

    Attributes:
        figure: CEILING: how many are accepted; PACE: sends a minute; SHUT: seconds until the
            next try; 0 for the others.
    """

    reason: Reason
    figure: float = 0.0

    def sentence(self, limit: int) -> str:
        """In plain words, such as "64 at a time: more brought nothing"."""
        return _SENTENCES[self.reason].format(limit=f"{limit:,}", figure=self.figure)
