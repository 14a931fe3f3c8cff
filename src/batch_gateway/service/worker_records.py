"""Which workers there are, and how much of the work is each one's share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Float, delete, func, select, text
from sqlalchemy.sql import bindparam

from batch_gateway.service.database import database_now
from batch_gateway.service.job_records import (
    FreeJob,
    Job,
    JobKey,
    JobKind,
    JobState,
    beat,
    free_jobs,
    put_down_all,
)
from batch_gateway.service.tables import jobs, workers

__all__ = ["free_jobs_and_share", "show_life", "sign_off"]

_GONE_SECONDS: Final = 3600.0
# SQLite and PostgreSQL say it alike, and SQLAlchemy has no word for both.
_SIGN_ON: Final = text(
    "INSERT INTO workers (owner, beat) VALUES (:owner, 0) ON CONFLICT (owner) DO NOTHING"
)

_SHARE: Final = select(
    select(func.count())
    .where(workers.c.beat > database_now() - bindparam("lease", type_=Float))
    .scalar_subquery(),
    select(func.count())
    .where(jobs.c.kind == JobKind.RUN, jobs.c.state.in_([JobState.WAITING, JobState.RUNNING]))
    .scalar_subquery(),
)


def show_life(connection: Connection, owner: str, mine: Sequence[Job]) -> set[JobKey]:
    """The worker `owner` is there and works on these jobs; returns those that are another's."""
    connection.execute(_SIGN_ON, {"owner": owner})
    connection.execute(workers.update().where(workers.c.owner == owner).values(beat=database_now()))
    return beat(connection, mine) if mine else set()


def sign_off(connection: Connection, owner: str) -> None:
    """The worker takes nothing any more, and whatever it still has is anybody's at once."""
    # Those that were killed did not sign off themselves.
    is_gone = workers.c.beat < database_now() - _GONE_SECONDS
    connection.execute(delete(workers).where((workers.c.owner == owner) | is_gone))
    put_down_all(connection, owner)


def free_jobs_and_share(
    connection: Connection, owner: str, lease: float
) -> tuple[Sequence[FreeJob], int]:
    """The jobs that `owner` may take, and how many shards of batches it is to have at most: as many
    as each worker has when they are dealt out evenly, so that one that comes finds some."""
    there, left = connection.execute(_SHARE, {"lease": lease}).one()
    return free_jobs(connection, lease, owner=owner), -(-left // max(there, 1))
