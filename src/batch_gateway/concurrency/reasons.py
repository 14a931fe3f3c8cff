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
    Reason.QUEUE: "{limit} at a time: more only had to wait at the gateway",
    Reason.CEILING: "{limit} at a time: the gateway refuses more than {figure}",
    Reason.PACE: "refusals do not depend on how many are under way: keeping to {figure} a minute",
    Reason.SHUT: "every request is refused just now: trying again one by one",
    Reason.FAILING: "{limit} at a time: with more, one request after another failed",
    Reason.OTHERS: "{limit} at a time: with more, others on the same server have to wait",
    Reason.METRICS: "{limit} at a time: by the gateway's own metrics no more fit",
    Reason.BOUND: "{limit} at a time: the most that this side allows",
}
_WAITING = "every request is refused just now: the next is tried after {figure} s"
# Shorter waits follow each other, and each would be over before it was read.
_LONG_WAIT = 5.0


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
        words = _SENTENCES[self.reason]
        if self.reason is Reason.SHUT and self.figure >= _LONG_WAIT:
            words = _WAITING
        return words.format(limit=f"{limit:,}", figure=_spoken(self.figure))


def _spoken(number: float) -> str:
    """An estimate as people say it: "600", "1,230", "4.5"; three digits of it mean something."""
    if number >= 100:
        step = 10 ** (len(str(int(number))) - 3)
        return f"{round(number / step) * step:,}"
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")
