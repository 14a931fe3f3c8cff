"""A line on its way through a lane: when it is sent, how it ended, what is done with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from batch_gateway.engine.results import Outcome
from batch_gateway.engine.signs import Evidence, Sign

__all__ = ["RECORDED_AT_ONCE", "Ended", "Ticket", "Verdict", "is_to_be_sent_again"]

RECORDED_AT_ONCE = frozenset({Sign.DOUBT, Sign.OWN, Sign.UNREACHED})

_MOST_SENDINGS = 2
_MOST_SENDINGS_TO_A_PAGE = 4


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One sending of a line. `number` counts the sendings of a gateway, `sendings` the line's."""

    number: int
    index: int
    model: str
    sendings: int = 1


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A request that has ended, and what that says."""

    ticket: Ticket
    outcome: Outcome
    evidence: Evidence


class Verdict(msgspec.Struct, frozen=True):
    """What to do with the request that just ended, and with those that were held."""

    record: Sequence[Ended] = ()
    send_again: Sequence[Ended] = ()


def is_to_be_sent_again(ended: Ended) -> bool:
    """Whether a failure that was held is tried once more before it is recorded."""
    if ended.evidence.sign in RECORDED_AT_ONCE:
        return False
    most = _MOST_SENDINGS_TO_A_PAGE if ended.evidence.is_page else _MOST_SENDINGS
    return ended.ticket.sendings < most
