"""The records of batches: made by the API, moved by what happens to them, shown to their tenant."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, select, update
from sqlalchemy.sql import bindparam

from batch_gateway.errors import BatchGatewayError
from batch_gateway.service.database import Database, announce_work, database_now
from batch_gateway.service.job_records import Job, JobKind, add_jobs, forget_jobs
from batch_gateway.service.paging import Page, Paging, page_of
from batch_gateway.service.statuses import ENDED, OPEN, UNSEEN, BatchEvent, BatchStatus, following
from batch_gateway.service.tables import batches

__all__ = [
    "BatchProblem",
    "BatchRecord",
    "NoSuchBatchError",
    "RefusedEventError",
    "add_batch",
    "batches_under_way",
    "expired_batches",
    "find_batch",
    "list_batches",
    "note",
    "poll_batch",
    "read_batches",
    "record_event",
    "remove_ended_before",
    "sealed_headers",
    "statuses_of",
]


class BatchProblem(msgspec.Struct, frozen=True):
    """One entry of a batch's `errors.data`; `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One batch, column by column; see `tables`.

    `metadata` and `errors` (a list of `BatchProblem`) are JSON, which mostly passes through.
    `headers` are encrypted and for the processor alone.
    """

    id: str
    tenant: str
    status: str
    endpoint: str
    input_file_id: str
    completion_window: str
    due_at: float
    created_at: int
    expires_at: int
    metadata: str | None = None
    errors: str | None = None
    model: str | None = None
    notice: str | None = None
    headers: bytes | None = None
    output_seconds: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    expired_at: int | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class NoSuchBatchError(BatchGatewayError):
    """There is no such batch, or not for this tenant."""


class RefusedEventError(BatchGatewayError):
    """What is asked for cannot happen to a batch in `status`."""

    def __init__(self, status: BatchStatus, event: BatchEvent) -> None:
        super().__init__(f"a batch that is {status} cannot take the event {event}")
        self.status, self.event = status, event


_COLUMNS: Final = tuple(batches.c[name] for name in BatchRecord.__struct_fields__)
_POLL: Final = select(*_COLUMNS).where(
    batches.c.id == bindparam("id"), batches.c.tenant == bindparam("tenant")
)
# The column that says when a status began.
_SINCE: Final[Mapping[BatchStatus, str]] = {
    status: f"{status}_at"
    for status in BatchStatus
    if status not in UNSEEN | {BatchStatus.VALIDATING}
}

# What workers ask twice a second is put together once.
_STATUSES: Final = select(batches.c.id, batches.c.status).where(
    batches.c.id.in_(bindparam("ids", expanding=True))
)
_CAN_EXPIRE: Final = select(batches.c.id).where(
    batches.c.status.in_(
        [one for one in BatchStatus if following(one, BatchEvent.EXPIRE) not in {None, one}]
    )
)
_EXPIRED: Final = _CAN_EXPIRE.where(batches.c.due_at <= database_now())
_EXPIRED_AT: Final = _CAN_EXPIRE.where(batches.c.due_at <= bindparam("now"))


def add_batch(connection: Connection, record: BatchRecord) -> None:
    """A new batch, and its first job: the look at its input."""
    connection.execute(batches.insert().values(**msgspec.structs.asdict(record)))
    add_jobs(connection, [Job(batch_id=record.id, kind=JobKind.VALIDATE)])
    announce_work(connection)


def find_batch(
    connection: Connection, batch_id: str, tenant: str | None = None, *, lock: bool = False
) -> BatchRecord:
    """The batch, of this tenant if one is named. Raises NoSuchBatchError.

    With `lock` nobody else changes it, and none of its jobs ends, before the transaction is over.
    """
    found = select(*_COLUMNS).where(batches.c.id == batch_id)
    if tenant is not None:
        found = found.where(batches.c.tenant == tenant)
    if lock:
        found = found.with_for_update()
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        raise NoSuchBatchError(f"Batch with ID {batch_id} not found")
    return BatchRecord(**row)


async def poll_batch(database: Database, tenant: str, batch_id: str) -> BatchRecord:
    """As `find_batch`, for those who ask all the time."""
    row = await database.poll(_POLL, batch_id, tenant)
    if row is None:
        raise NoSuchBatchError(f"Batch with ID {batch_id} not found")
    found = BatchRecord(**dict(zip(BatchRecord.__struct_fields__, row, strict=True)))
    return _with_trouble(found, database.trouble)


def _with_trouble(batch: BatchRecord, trouble: str | None) -> BatchRecord:
    """With the notice that could not be recorded, since what is in trouble is the database."""
    if trouble is None or batch.status in ENDED or batch.notice is not None:
        return batch
    return msgspec.structs.replace(batch, notice=trouble)


def list_batches(connection: Connection, tenant: str, paging: Paging) -> Page[BatchRecord]:
    rows = page_of(connection, batches, _COLUMNS, batches.c.tenant == tenant, paging)
    return Page([BatchRecord(**row) for row in rows.items], rows.has_more)


async def read_batches(database: Database, tenant: str, paging: Paging) -> Page[BatchRecord]:
    """As `list_batches`, with notices that could not be recorded."""
    page = await database.read(partial(list_batches, tenant=tenant, paging=paging))
    return Page([_with_trouble(batch, database.trouble) for batch in page.items], page.has_more)


def batches_under_way(connection: Connection, tenant: str) -> int:
    """How many batches of the tenant have not ended."""
    counted = select(func.count()).where(batches.c.tenant == tenant, batches.c.status.in_(OPEN))
    return connection.execute(counted).scalar_one()


def record_event(
    connection: Connection,
    batch_id: str,
    event: BatchEvent,
    now: float,
    *,
    tenant: str | None = None,
    **changes: object,
) -> BatchRecord:
    """Move a batch on, note the time of its new status, and set the columns `changes` with it.

    Returns the batch as it is now. Its end is that of its jobs; an event that leaves the status as
    it is changes nothing else. Raises RefusedEventError and NoSuchBatchError.
    """
    batch = find_batch(connection, batch_id, tenant, lock=True)
    before = BatchStatus(batch.status)
    after = following(before, event)
    if after is None:
        raise RefusedEventError(before, event)
    if after is before:
        return batch
    values: dict[str, Any] = {"status": after.value}
    if after in _SINCE:
        values[_SINCE[after]] = int(now)
    values |= changes
    connection.execute(update(batches).where(batches.c.id == batch_id).values(values))
    if after in ENDED:
        forget_jobs(connection, batch_id)
    return msgspec.structs.replace(batch, **values)


def note(connection: Connection, batch_id: str, words: str | None) -> None:
    """Say why the batch does not go on just now; None when it does."""
    here = and_(batches.c.id == batch_id, batches.c.status.in_(OPEN))
    connection.execute(update(batches).where(here).values(notice=words))


def sealed_headers(connection: Connection) -> bytes | None:
    """Those of the newest batch that has some and has not ended."""
    open_ = and_(batches.c.headers.is_not(None), batches.c.status.in_(OPEN))
    chosen = select(batches.c.headers).where(open_).order_by(batches.c.id.desc()).limit(1)
    return connection.execute(chosen).scalar()


def expired_batches(connection: Connection, now: float | None = None) -> Sequence[str]:
    """Batches whose window is over, and that can still be ended for it; `now` is the time of the
    database's clock unless it is given."""
    if now is None:
        return connection.execute(_EXPIRED).scalars().all()
    return connection.execute(_EXPIRED_AT, {"now": now}).scalars().all()


def remove_ended_before(connection: Connection, moment: float, limit: int = 500) -> int:
    """Forget the first batches that ended before `moment`; how many those were."""
    ended = batches.c.status.in_(ENDED)
    ended_at = func.coalesce(*(batches.c[_SINCE[status]] for status in ENDED))
    # What ended before was made before, and that an index knows, for whole seconds.
    is_old = and_(batches.c.created_at < math.ceil(moment), ended, ended_at < moment)
    old = select(batches.c.id).where(is_old).order_by(batches.c.created_at).limit(limit)
    return connection.execute(delete(batches).where(batches.c.id.in_(old))).rowcount


def statuses_of(connection: Connection, ids: Collection[str]) -> Mapping[str, BatchStatus]:
    """The status of each of these batches, as far as they are there."""
    if not ids:
        return {}
    found = connection.execute(_STATUSES, {"ids": list(ids)})
    return {row.id: BatchStatus(row.status) for row in found}
