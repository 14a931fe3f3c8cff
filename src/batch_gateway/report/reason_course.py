"""Why no more was sent at a time: over the course of a run, and for which share of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from batch_gateway.concurrency.reasons import Reason
from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.report.strips import State
from batch_gateway.report.timeline import HeldBy, Slice

__all__ = ["ReasonRow", "reason_rows", "reason_strips"]

# More would push the next chart off the screen.
_MOST_STRIPS = 6
_LEAST_SHARE = 0.005

_NAMES = {
    Reason.CLIMBING: "trying more",
    Reason.KNEE: "more brought nothing",
    Reason.QUEUE: "more only waited",
    Reason.CEILING: "more are refused",
    Reason.PACE: "a pace is kept",
    Reason.SHUT: "every request refused",
    Reason.FAILING: "more failed",
    Reason.OTHERS: "room for others",
    Reason.METRICS: "the gateway's metrics",
    Reason.BOUND: "all that is allowed",
}


def reason_strips(slices: Sequence[Slice]) -> list[tuple[str, list[State | None]]]:
    """For each gateway a name and what held requests to it back in each slice.

    Of many gateways those at which most was held back.
    """
    waited = Counter[str]()
    for one in slices:
        for (gateway, _), held in one.held_by.items():
            waited[gateway] += held.samples
    shown = [gateway for gateway, _ in waited.most_common(_MOST_STRIPS)]
    return [
        (
            "why no more" if len(waited) == 1 else f"why no more, {gateway}",
            [_state(one.held_at(gateway)) for one in slices],
        )
        for gateway in shown
    ]


def _state(held: HeldBy | None) -> State | None:
    if held is None:
        return None
    reason = held.why.reason
    return State(_NAMES[reason], f"why {reason.value}", held.why.sentence(held.limit))


class ReasonRow(NamedTuple):
    """For which share of a run one reason held requests to a gateway back."""

    gateway: str
    share: float
    seconds: float
    style: str
    text: str


def reason_rows(
    paces: Sequence[tuple[str, ConcurrencyStatistics]], seconds: float
) -> list[ReasonRow]:
    """Those that are worth a row, of a run that took so many seconds."""
    return [
        ReasonRow(
            gateway,
            one.share_of(seconds),
            one.seconds,
            f"why {one.why.reason.value}",
            one.why.sentence(one.limit),
        )
        for gateway, figures in paces
        for one in figures.held
        if one.share_of(seconds) >= _LEAST_SHARE
    ]
