"""The records of jobs and parts, behind the fence that an epoch is.

A batch is three kinds of small jobs: its input is looked at once, its shards are run, and its
result files are put together. Whoever takes a job makes its epoch one more. Every later write names
the epoch that it was taken in, and changes nothing once that is not the job's any more: a worker
that was taken for dead and wakes up can do no harm. Only parts that are registered belong to the
batch, and what is counted of the batch is what is in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import (
    Connection,
    CursorResult,
    Float,
    Select,
    and_,
    case,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql import ColumnElement, bindparam

from batch_gateway.errors import FencedError
from batch_gateway.service.database import announce_work, database_now
from batch_gateway.service.model_lines import count_finished, forget_models
from batch_gateway.service.parts import Part, Tally, role_of_part
from batch_gateway.service.statuses import ENDING, OPEN
from batch_gateway.service.tables import batches, jobs, parts
from batch_gateway.wire.usage import Usage

__all__ = [
    "FreeJob",
    "Job",
    "JobKey",
    "JobKind",
    "JobState",
    "add_jobs",
    "beat",
    "drop_parts",
    "finish",
    "forget_jobs",
    "free_jobs",
    "list_parts",
    "put_back_all",
    "put_down",
    "put_down_all",
    "register_parts",
    "registered_parts",
    "reopen_shards",
    "replace_parts",
    "shards_left",
    "take",
]

JobKey = tuple[str, str, int]
"""The batch, the kind, and among the shards of a batch the number."""


class JobKind(StrEnum):
    """What is to be done."""

    VALIDATE = "validate"
    """Look at the whole input once, and divide it."""
    RUN = "run"
    """Send the requests of a shard."""
    FINALIZE = "finalize"
    """Put the result files together from the parts."""


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    """Nobody has taken it yet."""
    RUNNING = "running"
    """Its owner beats; when the beat is stale, anybody may take it."""
    DONE = "done"
    """What was to be done is done."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, and of a shard the whole lines of the input that it is, from byte `start` to `end`.

    `first_line` counts from 1 and blank lines too; `first_index` counts requests from 0. `beat` is
    a time of the database's clock.
    """

    batch_id: str
    kind: JobKind
    number: int = 0
    start: int = 0
    end: int = 0
    first_line: int = 1
    first_index: int = 0
    lines: int = 0
    state: JobState = JobState.WAITING
    epoch: int = 0
    owner: str | None = None
    beat: float = 0.0

    @property
    def key(self) -> JobKey:
        return self.batch_id, self.kind.value, self.number


class FreeJob(NamedTuple):
    """A job that somebody may take.

    Attributes:
        due: of its batch; 0 of one that is to end now.
        is_short: nothing is sent for it, so that it need not wait for those who send.
        has_models: its batch is for several models, which may be at several gateways.
    """

    job: Job
    tenant: str
    due: float
    is_short: bool
    has_models: bool


# More than anybody can begin before the next look.
_MOST_FREE: Final = 1_000
_decode_models = msgspec.json.Decoder(dict[str, int]).decode
_COLUMNS: Final = tuple(jobs.c[name] for name in Job.__struct_fields__)


# What is asked for each part of results is put together once.
_MINE: Final = and_(
    jobs.c.batch_id == bindparam("its_batch"),
    jobs.c.kind == bindparam("its_kind"),
    jobs.c.number == bindparam("its_number"),
    jobs.c.epoch == bindparam("its_epoch"),
    jobs.c.state == JobState.RUNNING,
)
_BEAT: Final = update(jobs).where(_MINE).values(beat=database_now())
_NAMES: Final = select(parts.c.name).where(
    parts.c.batch_id == bindparam("its_batch"),
    parts.c.shard == bindparam("its_number"),
    parts.c.name.in_(bindparam("names", expanding=True)),
)
_INSERT_PARTS: Final = parts.insert()
_COUNTED: Final = ("completed", "failed", *Usage.__struct_fields__)
_ADD_COUNTS: Final = (
    update(batches)
    .where(batches.c.id == bindparam("its_id"))
    .values({name: batches.c[name] + bindparam(f"more_{name}") for name in _COUNTED})
)


def add_jobs(connection: Connection, records: Sequence[Job]) -> None:
    connection.execute(jobs.insert(), [msgspec.structs.asdict(record) for record in records])


def _free_jobs() -> Select[Any]:
    is_old = jobs.c.beat < database_now() - bindparam("stale_seconds", type_=Float)
    stale = and_(jobs.c.state == JobState.RUNNING, is_old | (jobs.c.owner == bindparam("owner")))
    is_ending = batches.c.status.in_(ENDING)
    is_short = (jobs.c.kind != JobKind.RUN) | is_ending
    due = case((is_ending, 0.0), else_=batches.c.due_at)
    rank = func.row_number().over(
        partition_by=(batches.c.tenant, is_short),
        order_by=(due, jobs.c.batch_id, jobs.c.number),
    )
    free = (
        select(*_COLUMNS, batches.c.tenant, due.label("due"), is_short.label("is_short"))
        .add_columns(batches.c.model.is_(None).label("has_models"), rank.label("rank"))
        .join(batches, batches.c.id == jobs.c.batch_id)
        .where((jobs.c.state == JobState.WAITING) | stale, batches.c.status.in_(OPEN))
        .subquery()
    )
    chosen = select(free).where(free.c.rank <= bindparam("most_of_tenant"))
    first = chosen.order_by(free.c.rank, free.c.due).limit(_MOST_FREE).subquery()
    return select(first).order_by(first.c.due, first.c.batch_id, first.c.number)


# Every worker asks it once a second, and to put it together takes as long as to ask it.
_FREE: Final = _free_jobs()


def free_jobs(
    connection: Connection, stale_seconds: float, most_of_tenant: int = 256, owner: str = ""
) -> Sequence[FreeJob]:
    """Jobs that nobody works on, those whose owner's beat is older than that among them.

    The most urgent first; of a tenant's short ones and of the others only so many, whatever the
    tenant has waiting, so that nobody hides another's. Those of `owner`, who asks, are among them
    whatever their beat: what could not be put down need not wait to be stale.
    """
    asked = {"stale_seconds": stale_seconds, "most_of_tenant": most_of_tenant, "owner": owner}
    return [
        FreeJob(
            _job(row), row["tenant"], row["due"], bool(row["is_short"]), bool(row["has_models"])
        )
        for row in connection.execute(_FREE, asked).mappings()
    ]


def take(connection: Connection, job: Job, owner: str) -> Job | None:
    """Make the job `owner`'s if it is still as it was seen; None when somebody was faster."""
    seen = and_(_is(job), jobs.c.epoch == job.epoch, jobs.c.state != JobState.DONE)
    mine = {"epoch": job.epoch + 1, "owner": owner, "state": JobState.RUNNING}
    taken = connection.execute(update(jobs).where(seen).values(**mine, beat=database_now()))
    return msgspec.structs.replace(job, **mine) if taken.rowcount == 1 else None


def beat(connection: Connection, mine: Sequence[Job]) -> set[JobKey]:
    """Say that these jobs are still worked on; returns those that are another's by now."""
    key = tuple_(jobs.c.batch_id, jobs.c.kind, jobs.c.number)
    epochs = tuple_(*key.clauses, jobs.c.epoch).in_([(*job.key, job.epoch) for job in mine])
    still = select(*key.clauses).where(epochs, jobs.c.state == JobState.RUNNING)
    held = {tuple(row) for row in connection.execute(still)}
    # Whose row another transaction of ours has just now beats in that; to wait for it, with others
    # in hand, could be for ever.
    unlocked = still.with_for_update(skip_locked=True)
    connection.execute(update(jobs).where(key.in_(unlocked)).values(beat=database_now()))
    return {job.key for job in mine} - held


def put_down(connection: Connection, job: Job) -> None:
    """Let somebody else go on with it, at once. Raises FencedError."""
    _change(connection, job, state=JobState.WAITING, owner=None)
    announce_work(connection)


def put_down_all(connection: Connection, owner: str) -> None:
    """Let others go on with whatever `owner` has, at once."""
    mine = and_(jobs.c.state == JobState.RUNNING, jobs.c.owner == owner)
    connection.execute(update(jobs).where(mine).values(state=JobState.WAITING, owner=None))
    announce_work(connection)


def put_back_all(connection: Connection) -> None:
    """Nobody else is there, so that whoever worked on a job before is gone."""
    running = jobs.c.state == JobState.RUNNING
    connection.execute(update(jobs).where(running).values(state=JobState.WAITING, owner=None))


def finish(connection: Connection, job: Job) -> None:
    """What was to be done is done. Raises FencedError."""
    _change(connection, job, state=JobState.DONE)


def shards_left(connection: Connection, batch_id: str) -> int:
    """How many shards of a batch are not done."""
    left = and_(
        jobs.c.batch_id == batch_id, jobs.c.kind == JobKind.RUN, jobs.c.state != JobState.DONE
    )
    return connection.execute(select(func.count()).where(left)).scalar_one()


def forget_jobs(connection: Connection, batch_id: str) -> None:
    """The batch has ended: its jobs and parts are of no more use."""
    connection.execute(delete(jobs).where(jobs.c.batch_id == batch_id))
    connection.execute(delete(parts).where(parts.c.batch_id == batch_id))
    forget_models(connection, batch_id)


def register_parts(connection: Connection, job: Job, found: Sequence[Part]) -> None:
    """Make stored parts the shard's and count what is in them, be they written in an earlier epoch.

    Raises FencedError.
    """
    _beat_while_mine(connection, job)
    # Whoever tries again may have been told of a failure that was none.
    names = {**_its_shard(job), "names": [part.name for part in found]}
    known = set(connection.execute(_NAMES, names).scalars())
    new = [part for part in found if part.name not in known]
    if not new:
        return
    connection.execute(_INSERT_PARTS, [_row(job, part) for part in new])
    _count(connection, job, new, 1)


def drop_parts(connection: Connection, job: Job, lost: Sequence[Part]) -> None:
    """What was in parts of the shard is lost: they count no more. Raises FencedError."""
    _beat_while_mine(connection, job)
    names = [part.name for part in lost]
    connection.execute(delete(parts).where(_of_shard(job), parts.c.name.in_(names)))
    _count(connection, job, lost, -1)


def _count(connection: Connection, job: Job, changed: Sequence[Part], sign: int) -> None:
    tally = sum((part.tally for part in changed), Tally())
    added = {"completed": tally.completed, "failed": tally.failed}
    added |= msgspec.structs.asdict(tally.usage)
    more = {f"more_{name}": sign * number for name, number in added.items()}
    connection.execute(_ADD_COUNTS, {"its_id": job.batch_id, **more})
    by_model = {model: sign * lines for model, lines in tally.by_model.items()}
    if by_model:
        count_finished(connection, job.batch_id, by_model)


def replace_parts(connection: Connection, job: Job, replaced: Sequence[Part], whole: Part) -> None:
    """One part in the place of several with the same lines.

    Raises FencedError, also when they are not all there: then nobody knows what is in `whole`.
    """
    _beat_while_mine(connection, job)
    names = [part.name for part in replaced]
    there = and_(_of_shard(job), parts.c.name.in_(names))
    if connection.execute(delete(parts).where(there)).rowcount != len(names):
        raise FencedError(f"the parts of {job.batch_id} are not what they were")
    connection.execute(parts.insert(), [_row(job, whole)])


def registered_parts(connection: Connection, job: Job) -> Mapping[str, Part]:
    """The parts of a shard that count, by their names."""
    rows = connection.execute(select(parts).where(_of_shard(job))).mappings()
    return {row["name"]: _part(row) for row in rows}


def list_parts(connection: Connection, batch_id: str) -> Sequence[tuple[int, Part]]:
    """All registered parts of a batch with their shards, in order of these and of their writing."""
    chosen = select(parts).where(parts.c.batch_id == batch_id)
    rows = connection.execute(chosen.order_by(parts.c.shard, parts.c.name)).mappings()
    return [(row["shard"], _part(row)) for row in rows]


def reopen_shards(connection: Connection, batch_id: str, numbers: Collection[int]) -> None:
    """Some of the results of these shards are lost: somebody runs them again. What is to be done
    when all are done is forgotten until then."""
    mine = jobs.c.batch_id == batch_id
    connection.execute(delete(jobs).where(mine, jobs.c.kind == JobKind.FINALIZE))
    those = and_(mine, jobs.c.kind == JobKind.RUN, jobs.c.number.in_(numbers))
    connection.execute(update(jobs).where(those).values(state=JobState.WAITING, owner=None))


def _change(connection: Connection, job: Job, **values: Any) -> None:
    changing = update(jobs).where(_MINE).values(**values)
    _require_mine(job, connection.execute(changing, _its_epoch(job)))


def _beat_while_mine(connection: Connection, job: Job) -> None:
    _require_mine(job, connection.execute(_BEAT, _its_epoch(job)))


def _require_mine(job: Job, changed: CursorResult[Any]) -> None:
    if changed.rowcount != 1:
        name = f"the {job.kind} job of {job.batch_id}, taken in epoch {job.epoch},"
        raise FencedError(f"{name} is another's or over")


def _its_epoch(job: Job) -> dict[str, Any]:
    return {"its_kind": job.kind, "its_epoch": job.epoch, **_its_shard(job)}


def _its_shard(job: Job) -> dict[str, Any]:
    return {"its_batch": job.batch_id, "its_number": job.number}


def _of_shard(job: Job) -> ColumnElement[bool]:
    return and_(parts.c.batch_id == job.batch_id, parts.c.shard == job.number)


def _row(job: Job, part: Part) -> dict[str, Any]:
    return {
        "batch_id": job.batch_id,
        "shard": job.number,
        "name": part.name,
        "epoch": job.epoch,
        "bytes": part.bytes,
        "lines": part.tally.lines,
        "checksum": part.checksum,
        "models": msgspec.json.encode(part.tally.by_model).decode(),
    } | msgspec.structs.asdict(part.tally.usage)


def _part(row: Any) -> Part:
    usage = Usage(**{name: row[name] for name in Usage.__struct_fields__})
    by_model = _decode_models(row["models"] or "{}")
    tally = Tally.of(role_of_part(row["name"]), row["lines"], usage, by_model)
    return Part(row["name"], row["bytes"], tally, row["checksum"])


def _is(job: Job) -> ColumnElement[bool]:
    return and_(
        jobs.c.batch_id == job.batch_id, jobs.c.kind == job.kind, jobs.c.number == job.number
    )


def _job(row: Any) -> Job:
    fields = {name: row[name] for name in Job.__struct_fields__}
    return msgspec.convert(fields, Job)
