"""What held a run's pace: the last limit, the share of each reason, and what would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from batch_gateway.cli.paces import GatewayPace
from batch_gateway.concurrency.reasons import Reason
from batch_gateway.concurrency.telling import ConcurrencyStatistics, HeldReason

__all__ = ["pace_hints", "pace_json", "pace_rows"]

_MOST_GATEWAYS = 5
_WORTH_A_WORD = 0.05
# The shares of less than a second are those of the start and the end.
_SHORTEST_RUN = 1.0
# From this share of a run on, what helps is worth a sentence.
_WORTH_A_HINT = 0.25

# Of what is no sign of a server that is used well.
_HELP = {
    Reason.PACE: (
        "Kept to {figure} a minute for {share} of the run: the gateway refuses what comes faster,"
        " however few are under way, as a quota does. A higher quota there would make it shorter."
    ),
    Reason.CEILING: (
        "Kept to {limit} at a time for {share} of the run: by its refusals the gateway takes no"
        " more than {figure}. More servers there, or a longer queue, would take more."
    ),
    Reason.SHUT: (
        "Every request was refused for {share} of the run: the gateway had no room at all, or a"
        " quota was used up."
    ),
    Reason.FAILING: (
        "Kept to {limit} at a time for {share} of the run: with more, one request after another"
        " failed. --report shows with what."
    ),
    Reason.BOUND: "Kept to {limit} at a time for {share} of the run: {bound} allows no more.",
}


def pace_rows(paces: Sequence[GatewayPace], seconds: float) -> Iterator[tuple[str, str]]:
    """For the summary of a run of so many seconds."""
    if len(paces) == 1:
        figures = paces[0].figures
        shares = _shares(figures, seconds)
        yield "pace", _at_the_end(figures, with_reason=not shares)
        if shares:
            yield "why", shares
        return
    for gateway, figures in paces[:_MOST_GATEWAYS]:
        shares = _shares(figures, seconds)
        number = _at_the_end(figures, with_reason=not shares)
        yield "pace", f"{gateway}: " + "; ".join(filter(None, (number, shares)))
    if len(paces) > _MOST_GATEWAYS:
        yield "pace", f"and {len(paces) - _MOST_GATEWAYS:,} gateways more"


def _at_the_end(figures: ConcurrencyStatistics, *, with_reason: bool) -> str:
    """The last lines leave room, so that the last reason says little where others held long."""
    why = figures.why
    limit = figures.limit if why is None else why.kept_to(figures.limit)
    number = f"{limit:,} at a time at the end"
    return f"{number}: {why.words}" if why is not None and with_reason else number


def _shares(figures: ConcurrencyStatistics, seconds: float) -> str:
    if seconds < _SHORTEST_RUN:
        return ""
    told = [one for one in figures.held if one.share_of(seconds) >= _WORTH_A_WORD]
    texts = [f"{_percent(one.share_of(seconds))} {one.why.words}" for one in told]
    return ", ".join(texts).replace(" %", " % of the run", 1)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def pace_json(paces: Sequence[GatewayPace], seconds: float) -> list[dict[str, Any]]:
    """The same for a program, an object for each gateway."""
    return [
        {
            "gateway": gateway,
            "limit": figures.limit,
            "reason": figures.why and figures.why.reason.value,
            "figure": (figures.why and figures.why.figure) or None,
            "why": figures.why and figures.why.sentence(figures.limit),
            "reasons": [_held_json(one, seconds) for one in figures.held],
        }
        for gateway, figures in paces
    ]


def _held_json(one: HeldReason, seconds: float) -> dict[str, Any]:
    return {
        "reason": one.why.reason.value,
        "limit": one.limit,
        "figure": one.why.figure or None,
        "seconds": round(one.seconds, 3),
        "share": round(one.share_of(seconds), 4),
    }


def pace_hints(paces: Sequence[GatewayPace], seconds: float, bound: str) -> tuple[str, ...]:
    """What kept a run long and what would help, a sentence for each gateway where that is known.

    `bound` says what on this side allows no more.
    """
    if seconds < _SHORTEST_RUN:
        return ()
    return tuple(
        ("" if len(paces) == 1 else f"{gateway}: ")
        + _HELP[one.why.reason].format(
            share=_percent(one.share_of(seconds)),
            limit=f"{one.why.kept_to(one.limit):,}",
            figure=one.why.figure_text,
            bound=bound,
        )
        for gateway, figures in paces
        for one in figures.held[:1]
        if one.share_of(seconds) >= _WORTH_A_HINT and one.why.reason in _HELP
    )
