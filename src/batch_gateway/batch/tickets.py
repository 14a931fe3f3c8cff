"""A line on its way through a lane: when it is sent, how it ended, what is done with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from batch_gateway.batch.results import Outcome
from batch_gateway.batch.signs import Evidence

__all__ = ["Ended", "Ticket", "Verdict"]


class Ticket(msgspec.Struct, frozen=True):
    """One sending of a line. `number` counts the sendings of a gateway, `sendings` the line's."""

    number: int
    index: int
    model: str
    sendings: int = 1


class Ended(msgspec.Struct, frozen=True):
    """A request that has ended, and what that says."""

    ticket: Ticket
    outcome: Outcome
    evidence: Evidence


class Verdict(msgspec.Struct, frozen=True):
    """What to do with the request that just ended, and with those that were held."""

    record: Sequence[Ended] = ()
    send_again: Sequence[Ended] = ()
