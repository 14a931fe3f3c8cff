"""How a job ends or is put back, and what that makes of its batch: one transaction each."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import msgspec
from sqlalchemy import Connection

from batch_gateway.service import job_records
from batch_gateway.service.batch_records import (
    BatchProblem,
    BatchRecord,
    find_batch,
    note,
    record_event,
)
from batch_gateway.service.job_records import Job, JobKind
from batch_gateway.service.statuses import ENDING, BatchEvent, BatchStatus

__all__ = ["give_up", "run_again", "shard_done", "try_again"]


def shard_done(connection: Connection, job: Job, now: float) -> None:
    """Nothing more is to be done for a shard; the last of a batch leads to its end."""
    # Of two that end at the same time the second is to see that it is the last.
    find_batch(connection, job.batch_id, lock=True)
    job_records.finish(connection, job)
    if job_records.shards_left(connection, job.batch_id) == 0:
        record_event(connection, job.batch_id, BatchEvent.ALL_DONE, now)
        job_records.add_jobs(connection, [Job(batch_id=job.batch_id, kind=JobKind.FINALIZE)])


def try_again(connection: Connection, job: Job, now: float, words: str) -> None:
    """Somebody goes on with the job later; until then the batch says why it does not."""
    job_records.put_down(connection, job)
    note(connection, job.batch_id, words)


def run_again(connection: Connection, job: Job, now: float, shards: Collection[int]) -> None:
    """Results of these shards are lost, so that the end of the batch, which `job` is, waits."""
    batch = find_batch(connection, job.batch_id, lock=True)
    job_records.put_down(connection, job)
    job_records.reopen_shards(connection, job.batch_id, shards)
    record_event(
        connection,
        job.batch_id,
        BatchEvent.LOST,
        now,
        finalizing_at=None,
        in_progress_at=batch.in_progress_at,
    )


def give_up(
    connection: Connection, job: Job, now: float, problem: BatchProblem
) -> BatchRecord | None:
    """End the batch for what keeps the job from its end, with the results that are there.

    A batch that is ending for another reason ends for that, without what the job was to add.
    Returns the batch as it is then if this has moved it.
    """
    batch = find_batch(connection, job.batch_id, lock=True)
    if job.kind is JobKind.RUN and BatchStatus(batch.status) in ENDING:
        shard_done(connection, job, now)
        return None
    job_records.put_down(connection, job)
    happened = partial(record_event, connection, job.batch_id, BatchEvent.GIVE_UP, now)
    errors = msgspec.json.encode([problem]).decode()
    if job.kind is JobKind.FINALIZE:
        # Without files there is nothing to count.
        happened = partial(happened, completed=0, failed=0)
    return happened(errors=errors, notice=None)
