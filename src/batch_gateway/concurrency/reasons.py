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


_WORDS = {
    Reason.CLIMBING: "trying whether more bring more",
    Reason.KNEE: "more brought nothing",
    Reason.QUEUE: "more only had to wait at the gateway",
    Reason.CEILING: "the gateway refuses more than {figure}",
    Reason.PACE: "keeping to {figure} a minute",
    Reason.SHUT: "every request is refused",
    Reason.FAILING: "with more, one request after another failed",
    Reason.OTHERS: "with more, others on the same server have to wait",
    Reason.METRICS: "by the gateway's own metrics no more fit",
    Reason.BOUND: "the most that this side allows",
}
_PACE = "refusals do not depend on how many are under way: "
_SHUT = " just now: trying again one by one"
_SHUT_FOR_LONG = " just now: the next is tried after {figure} s"
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

    @property
    def figure_text(self) -> str:
        """As people say an estimate: "600", "1,230", "4.5"; three digits of it mean something."""
        number = self.figure
        if number >= 100:
            step = 10 ** (len(str(int(number))) - 3)
            return f"{round(number / step) * step:,}"
        return f"{number:.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")

    @property
    def words(self) -> str:
        """In few words, without how many at a time, such as "more brought nothing"."""
        return _WORDS[self.reason].format(figure=self.figure_text)

    def kept_to(self, limit: int) -> int:
        """How many at a time: `limit`, or less while one more is tried where more were refused."""
        return min(limit, round(self.figure)) if self.reason is Reason.CEILING else limit

    def sentence(self, limit: int) -> str:
        """In plain words, such as "64 at a time: more brought nothing"."""
        if self.reason is Reason.PACE:
            return _PACE + self.words
        if self.reason is Reason.SHUT:
            rest = _SHUT_FOR_LONG if self.figure >= _LONG_WAIT else _SHUT
            return self.words + rest.format(figure=self.figure_text)
        return f"{self.kept_to(limit):,} at a time: {self.words}"
