"""Bands under a chart that say what was so when, such as why no more was sent at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batch_gateway.report.scales import clock_text

__all__ = ["Piece", "State", "Strip", "strip"]


@dataclass(frozen=True, slots=True)
class State:
    """What was so in a slice of time.

    Attributes:
        name: in few words, for the legend.
        style: the class that gives it its colour; states of one style are one.
        text: the whole of it.
    """

    name: str
    style: str
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch in percent of the width; `text` is what pointing at it shows."""

    left: float
    width: float
    state: State
    text: str


@dataclass(frozen=True, slots=True)
class Strip:
    """Everything that a template needs to draw one. `description` is all of it in words."""

    name: str
    description: str
    pieces: Sequence[Piece]


def strip(name: str, states: Sequence[State | None], edges: Sequence[float], width: float) -> Strip:
    """States of slices `width` seconds wide, which end at `edges` in percent.

    Neighbours of one style are one piece, which says what the last of them does.
    """
    runs: list[tuple[int, int, State]] = []
    for index, state in enumerate(states):
        if state is None:
            continue
        if runs and runs[-1][1] == index and runs[-1][2].style == state.style:
            runs[-1] = runs[-1][0], index + 1, state
        else:
            runs.append((index, index + 1, state))
    pieces = [
        Piece(
            edges[first],
            edges[end] - edges[first],
            state,
            f"{clock_text(first * width)} to {clock_text(end * width)}: {state.text}",
        )
        for first, end, state in runs
    ]
    return Strip(name, f"{name}: " + "; ".join(piece.text for piece in pieces), pieces)
