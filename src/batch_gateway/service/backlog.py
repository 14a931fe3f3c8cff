"""How much is left to do, by model: what model servers are scaled by."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, func, select

from batch_gateway.service.statuses import BatchStatus
from batch_gateway.service.tables import batches

__all__ = ["Backlog", "backlog"]


class Backlog(msgspec.Struct, frozen=True):
    """Of one model; `model` is empty for batches of several, and for those not looked at yet.

    Attributes:
        batches: those that wait or run.
        lines: requests of theirs that have no result.
        due_at: when the first of their windows is over, in seconds since the epoch.
    """

    model: str
    batches: int
    lines: int
    due_at: float


def backlog(connection: Connection) -> Sequence[Backlog]:
    """One entry for each model that has batches waiting or running."""
    model = func.coalesce(batches.c.model, "")
    left = func.sum(batches.c.total - batches.c.completed - batches.c.failed)
    waiting = batches.c.status.in_([BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS])
    rows = connection.execute(
        select(model, func.count(), left, func.min(batches.c.due_at))
        .where(waiting)
        .group_by(model)
        .order_by(model)
    )
    return [Backlog(*row) for row in rows]
