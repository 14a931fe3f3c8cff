"""The records of files: what they are, where they are in their life, and whose they are.

A file is invisible until its bytes are in the store, and again from the moment it is deleted; what
a crash leaves between the two, `leftovers` finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Literal

import msgspec
from sqlalchemy import BigInteger, Connection, and_, cast, exists, func, or_, select, update
from sqlalchemy.sql import ColumnElement

from batch_gateway.errors import RecordsError
from batch_gateway.service.paging import Page, Paging, page_of
from batch_gateway.service.statuses import OPEN
from batch_gateway.service.tables import batches, files

__all__ = [
    "FileRecord",
    "FileState",
    "TenantUse",
    "add_file",
    "find_file",
    "give_up_abandoned",
    "latest_stored",
    "leftovers",
    "list_files",
    "mark_deleted",
    "mark_stored",
    "object_name",
    "remove_file",
    "tenant_use",
]


class FileState(StrEnum):
    """Whether the bytes of a file are in the store."""

    PENDING = "pending"
    """They are being put there."""
    STORED = "stored"
    """They are; only then is the file seen."""
    DELETED = "deleted"
    """They may be until nothing that is running needs them."""


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Times are seconds since the epoch; `status` is what users are told."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None
    status: Literal["uploaded", "processed"]


class TenantUse(msgspec.Struct, frozen=True):
    """What a tenant has in the store, pending files too."""

    files: int
    bytes: int


_COLUMNS: Final = tuple(files.c[name] for name in FileRecord.__struct_fields__)


def object_name(file_id: str) -> str:
    """Where the bytes of a file are in the store."""
    return f"files/{file_id}"


def add_file(connection: Connection, record: FileRecord, state: FileState) -> None:
    connection.execute(files.insert().values(state=state, **msgspec.structs.asdict(record)))


def mark_stored(connection: Connection, file_id: str) -> None:
    """From now on the file is seen. Raises RecordsError when it was given up meanwhile, as that of
    a process that stood still for an hour: its bytes may be gone."""
    change = update(files).where(files.c.id == file_id, files.c.state == FileState.PENDING)
    if connection.execute(change.values(state=FileState.STORED)).rowcount != 1:
        raise RecordsError(f"{file_id} was not stored in time, and is given up")


def find_file(
    connection: Connection, tenant: str, file_id: str, now: float, *, lock: bool = False
) -> FileRecord | None:
    """The file, when it is this tenant's and neither deleted nor expired.

    With `lock` nobody deletes it before the transaction is over.
    """
    found = select(*_COLUMNS).where(files.c.id == file_id, _visible(tenant, now))
    if lock:
        found = found.with_for_update(read=True)
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else FileRecord(**row)


def list_files(
    connection: Connection, tenant: str, paging: Paging, now: float, purpose: str | None = None
) -> Page[FileRecord]:
    kept = _visible(tenant, now)
    if purpose is not None:
        kept = and_(kept, files.c.purpose == purpose)
    rows = page_of(connection, files, _COLUMNS, kept, paging)
    return Page([FileRecord(**row) for row in rows.items], rows.has_more)


def latest_stored(connection: Connection, most: int) -> Sequence[str]:
    """Ids of the latest files whose bytes are in the store."""
    stored = select(files.c.id).where(files.c.state == FileState.STORED)
    return connection.execute(stored.order_by(files.c.id.desc()).limit(most)).scalars().all()


def tenant_use(connection: Connection, tenant: str) -> TenantUse:
    # A sum of whole numbers is a decimal in PostgreSQL.
    total = cast(func.coalesce(func.sum(files.c.bytes), 0), BigInteger)
    used = select(func.count(), total).where(
        files.c.tenant == tenant, files.c.state != FileState.DELETED
    )
    return TenantUse(*connection.execute(used).one())


def mark_deleted(connection: Connection, tenant: str, file_id: str, now: float) -> bool:
    """From now on nobody sees the file; False when nobody did before."""
    change = update(files).where(files.c.id == file_id, _visible(tenant, now))
    return connection.execute(change.values(state=FileState.DELETED)).rowcount == 1


def give_up_abandoned(connection: Connection, before: float) -> None:
    """Mark as deleted what has been pending since then: who stored it is gone, or hears of it."""
    # Whole seconds, as PostgreSQL looks up no fraction in an index of whole numbers.
    abandoned = and_(files.c.state == FileState.PENDING, files.c.created_at < int(before))
    connection.execute(update(files).where(abandoned).values(state=FileState.DELETED))


def leftovers(
    connection: Connection,
    now: float,
    *,
    only: str | None = None,
    after: str = "",
    limit: int = 1000,
) -> Sequence[str]:
    """Ids of files whose bytes are to go, and then their record by `remove_file`.

    Those that are deleted or expired, unless a batch that has not ended reads them. `only` looks at
    one file, `after` at those whose ids come later.
    """
    unwanted = or_(files.c.state == FileState.DELETED, files.c.expires_at <= int(now))
    read = exists().where(batches.c.input_file_id == files.c.id, batches.c.status.in_(OPEN))
    chosen = select(files.c.id).where(files.c.id > after, unwanted, ~read)
    if only is not None:
        chosen = chosen.where(files.c.id == only)
    return connection.execute(chosen.order_by(files.c.id).limit(limit)).scalars().all()


def remove_file(connection: Connection, file_id: str) -> None:
    connection.execute(files.delete().where(files.c.id == file_id))


def _visible(tenant: str, now: float) -> ColumnElement[bool]:
    lasting = or_(files.c.expires_at.is_(None), files.c.expires_at > now)
    return and_(files.c.tenant == tenant, files.c.state == FileState.STORED, lasting)
