"""Failures that are held because of what they may say about a gateway or one of its models."""

from __future__ import annotations

from dataclasses import dataclass, field

from batch_gateway.engine.signs import Sign
from batch_gateway.engine.tickets import Ended

__all__ = ["Row", "Scope"]


@dataclass(slots=True)
class Row:
    """Failures of one sign without a later answer.

    Attributes:
        began: how many requests had been sent when it began.
        limit: of failures, which make it full.
        later: requests under way that were sent after that.
        probed: lines from elsewhere were asked for.
    """

    began: int
    limit: int
    later: int = 0
    held: list[Ended] = field(default_factory=list[Ended])
    probed: bool = False

    @property
    def is_full(self) -> bool:
        return len(self.held) >= self.limit

    @property
    def is_due(self) -> bool:
        return self.is_full and not self.later


@dataclass(slots=True)
class Scope:
    """A gateway, or one of its models.

    Attributes:
        lives: it has answered.
        under_way: the requests of a model; those of a gateway are its models'.
        answered: the number of the last request that has an answer.
        rows: what is held.
        full: a row is, so that nothing but lines from elsewhere is sent.
        told_apart: lines failed in different words, so that they are to blame.
        problem, sign: why it was shut.
    """

    lives: bool = False
    under_way: int = 0
    answered: int = 0
    rows: dict[Sign, Row] = field(default_factory=dict[Sign, Row])
    full: bool = False
    told_apart: bool = False
    problem: str | None = None
    sign: Sign = Sign.NOTHING
