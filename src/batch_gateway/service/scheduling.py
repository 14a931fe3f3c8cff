"""Which jobs a processor works on: the most urgent first, and fairly between tenants. Pure.

All requests of one gateway wait in one queue there, which orders them again, by the same law. What
is decided here is only which jobs are in memory, where there are more than have room: one that is
more urgent takes the place of the least urgent, and a tenant's first that of another's last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

__all__ = ["ENOUGH_LINES", "Candidate", "Choice", "choose", "wanted"]

ENOUGH_LINES: Final = 8_000
"""With so many lines of a batch at hand nobody waits for more: even gateways that answer at once
take longer for them than it takes to begin the next part. The more they are, the more lines of two
parts queue up for the same places."""


class Candidate(msgspec.Struct, frozen=True):
    """A job that runs or could run.

    Attributes:
        key: what tells it apart.
        tenant: whose it is.
        due: by when its batch should have ended, in seconds on the clock of `choose`'s `now`.
        lines: that it has at hand for the one gateway of its batch; 0 where there may be several.
    """

    key: tuple[str, str, int]
    tenant: str
    due: float
    lines: int = 0


class Choice(NamedTuple):
    """The jobs to begin, in this order, and those to put down for them."""

    begin: Sequence[Candidate]
    put_down: Sequence[Candidate]


def wanted(running: Sequence[Candidate], waiting: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those of `waiting` that are of use now: not the next part of a batch of which there are
    `ENOUGH_LINES` at hand. More parts at once send nothing sooner, as they share the places of
    one gateway, and each queues lines and stores results of its own."""
    at_hand = Counter[str]()
    for one in running:
        at_hand[one.key[0]] += one.lines
    found: list[Candidate] = []
    for one in waiting:
        if at_hand[one.key[0]] < ENOUGH_LINES:
            at_hand[one.key[0]] += one.lines
            found.append(one)
    return found


def choose(
    running: Sequence[Candidate], waiting: Sequence[Candidate], places: int, now: float
) -> Choice:
    """What to do so that the `places` jobs that matter most are the ones that run.

    Urgency is the time left to within a factor of two. Of equally urgent jobs each tenant's first
    comes before anybody's second, those that run before those that wait, and then the earlier due.
    """
    runs = {one.key for one in running}
    chosen = _in_order([*running, *waiting], runs, now)[:places]
    keys = {one.key for one in chosen}
    return Choice(
        [one for one in chosen if one.key not in runs],
        [one for one in running if one.key not in keys],
    )


def _in_order(
    candidates: Sequence[Candidate], runs: Collection[tuple[str, str, int]], now: float
) -> list[Candidate]:
    taken = Counter[tuple[int, str]]()
    ranked: list[tuple[int, int, bool, float, Candidate]] = []
    for one in sorted(candidates, key=lambda one: (one.key not in runs, one.due, one.key)):
        level = int(max(0.0, one.due - now)).bit_length()
        rank = taken[level, one.tenant]
        taken[level, one.tenant] += 1
        ranked.append((level, rank, one.key not in runs, one.due, one))
    ranked.sort(key=lambda entry: (*entry[:4], entry[4].key))
    return [entry[4] for entry in ranked]
