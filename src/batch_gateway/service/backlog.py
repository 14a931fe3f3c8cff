"""How much is left to do, by model: what model servers are scaled by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, Float, and_, case, cast, func, select

from batch_gateway.service.statuses import BatchStatus
from batch_gateway.service.tables import batches, model_lines

__all__ = ["Backlog", "backlog"]

# The means of models are those of so many batches; older ones say less about the next.
_RECENT: Final = 1_000


class Backlog(msgspec.Struct, frozen=True):
    """Of one model; `model` is empty for batches that were not looked at yet.

    Attributes:
        batches: those that wait or run.
        lines: requests of theirs that have no result.
        due_at: when the first of their windows is over, in seconds since the epoch.
        read, written: tokens that `lines` are expected to take: as many a line as the batch took
            so far, or before that the model in its latest batches. None where nothing is known.
    """

    model: str
    batches: int
    lines: int
    due_at: float
    read: float | None = None
    written: float | None = None

    def __add__(self, other: Backlog) -> Backlog:
        """Of both, under the name of the first."""
        return Backlog(
            self.model,
            self.batches + other.batches,
            self.lines + other.lines,
            min(self.due_at, other.due_at),
            _sum(self.read, other.read),
            _sum(self.written, other.written),
        )


def backlog(connection: Connection) -> Sequence[Backlog]:
    """One entry for each model that has batches waiting or running."""
    finished = batches.c.completed + batches.c.failed
    left = func.coalesce(model_lines.c.total - model_lines.c.finished, batches.c.total - finished)
    model = func.coalesce(model_lines.c.model, batches.c.model, "")

    def expected(tokens: ColumnElement[int]) -> ColumnElement[float]:
        return _number(func.sum(case((finished > 0, left * (tokens * 1.0) / finished))))

    rows = connection.execute(
        select(model, func.count(), _count(func.sum(left)), func.min(batches.c.due_at))
        .add_columns(expected(batches.c.input_tokens), expected(batches.c.output_tokens))
        .add_columns(_count(func.sum(case((finished > 0, 0), else_=left))))
        .select_from(batches.outerjoin(model_lines, model_lines.c.batch_id == batches.c.id))
        .where(batches.c.status.in_([BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS]))
        .group_by(model)
        .order_by(model)
    )
    found = [(Backlog(*row[:6]), row[6]) for row in rows]
    means = _means(connection) if any(untold for _, untold in found) else {}
    return [_with_means(one, untold, means.get(one.model)) for one, untold in found]


def _with_means(one: Backlog, untold: int, means: tuple[float, float] | None) -> Backlog:
    """With what `untold` lines, of batches of which none is finished, are expected to take."""
    if not untold or means is None:
        return one
    read, written = (untold * mean for mean in means)
    return msgspec.structs.replace(
        one, read=_sum(one.read, read), written=_sum(one.written, written)
    )


def _means(connection: Connection) -> dict[str, tuple[float, float]]:
    """Tokens a line, read and written, by model, of the latest batches of one model."""
    finished = batches.c.completed + batches.c.failed
    recent = (
        select(batches.c.model, batches.c.input_tokens, batches.c.output_tokens)
        .add_columns(finished.label("finished"))
        .where(and_(batches.c.model.is_not(None), finished > 0))
        .order_by(batches.c.id.desc())
        .limit(_RECENT)
        .subquery()
    )
    lines = func.sum(recent.c.finished) * 1.0
    rows = connection.execute(
        select(
            recent.c.model,
            _number(func.sum(recent.c.input_tokens) / lines),
            _number(func.sum(recent.c.output_tokens) / lines),
        ).group_by(recent.c.model)
    )
    return {model: (read, written) for model, read, written in rows}


# Sums of whole numbers are decimals in PostgreSQL.
def _count(sum_: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(sum_, BigInteger)


def _number(sum_: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(sum_, Float)


def _sum(one: float | None, other: float | None) -> float | None:
    """What is known of both; None where nothing is."""
    known = [number for number in (one, other) if number is not None]
    return sum(known) if known else None
