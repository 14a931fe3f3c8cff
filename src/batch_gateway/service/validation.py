"""The first look at the input of a batch: its problems, or its division into shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection

from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.problems import LineProblem
from batch_gateway.engine.shard import Shard
from batch_gateway.engine.source import Source
from batch_gateway.engine.stored_plan import dump_plan
from batch_gateway.errors import EmptyInputError, InputError
from batch_gateway.service.batch_records import BatchProblem, BatchRecord, find_batch, record_event
from batch_gateway.service.database import announce_work
from batch_gateway.service.job_records import Job, JobKind, add_jobs, finish
from batch_gateway.service.model_lines import note_models
from batch_gateway.service.statuses import BatchEvent

__all__ = ["MOST_PROBLEMS", "Valid", "look_at", "plan_again", "record_found"]

MOST_PROBLEMS: Final = 20
_SHARD: Final = ("number", "start", "end", "first_line", "first_index", "lines")


class Valid(msgspec.Struct, frozen=True):
    """An input without problems.

    Attributes:
        total: requests.
        models: how many of them each model has.
        shards: the jobs to run.
        plans: of each shard, to be stored.
    """

    total: int
    models: Mapping[str, int]
    shards: Sequence[Job]
    plans: Sequence[bytes]


def look_at(source: Source, batch_id: str, endpoint: str) -> Valid | Sequence[BatchProblem]:
    """Check every line; the first problems when there are any. Takes the time of reading it all.

    That batches may ask for `endpoint` was looked at when this one was made.

    Raises InputError when the source itself cannot be read.
    """
    try:
        plan = make_plan(source, max_problems=MOST_PROBLEMS, endpoint=endpoint, paths=(endpoint,))
    except InputError as error:
        return _problems(error)
    plan.fingerprint = _fingerprint_of(plan.fingerprint, batch_id)
    shards = list(plan.shards(batch_id))
    return Valid(
        plan.total,
        plan.models,
        [_job(shard) for shard in shards],
        [dump_plan(plan.part(shard)) for shard in shards],
    )


def _fingerprint_of(content: str, batch_id: str) -> str:
    """Batches of the same lines send them under ids that are theirs alone, as vLLM, for one, takes
    no id twice at a time."""
    return hashlib.sha256(f"{batch_id} {content}".encode()).hexdigest()[: len(content)]


def plan_again(source: Source, job: Job, endpoint: str) -> bytes:
    """The stored plan of a shard, from the whole input. Raises InputError when that has changed."""
    found = look_at(source, job.batch_id, endpoint)
    if isinstance(found, Valid):
        for shard, plan in zip(found.shards, found.plans, strict=True):
            if all(getattr(shard, name) == getattr(job, name) for name in _SHARD):
                return plan
    raise InputError(f"{source.name} is not what it was when the batch began")


def record_found(
    connection: Connection, job: Job, found: Valid | Sequence[BatchProblem], now: float
) -> BatchRecord:
    """End the look with what it found. Raises RefusedEventError, FencedError."""
    find_batch(connection, job.batch_id, lock=True)
    finish(connection, job)
    happened = partial(record_event, connection, job.batch_id, now=now)
    if isinstance(found, Valid):
        add_jobs(connection, found.shards)
        # The first is for whoever looked, who goes on at once.
        if len(found.shards) > 1:
            announce_work(connection)
        several = len(found.models) > 1
        if several:
            note_models(connection, job.batch_id, found.models)
        model = None if several else next(iter(found.models))
        return happened(BatchEvent.VALID, total=found.total, model=model)
    return happened(BatchEvent.INVALID, errors=msgspec.json.encode(found).decode())


def _job(shard: Shard) -> Job:
    return Job(
        batch_id=shard.batch,
        kind=JobKind.RUN,
        number=shard.number,
        start=shard.start,
        end=shard.end,
        first_line=shard.first_line,
        first_index=shard.first_index,
        lines=shard.requests,
    )


def _problems(error: InputError) -> Sequence[BatchProblem]:
    lines = [problem for problem in error.problems if isinstance(problem, LineProblem)]
    if not lines:
        code = "empty_file" if isinstance(error, EmptyInputError) else "invalid_file"
        return [BatchProblem(code, str(error))]
    return [
        BatchProblem(one.fault.code, str(one), one.fault.param, one.line)
        for one in lines[:MOST_PROBLEMS]
    ]
