"""The records of shards and their parts, behind the fence that an epoch is.

Whoever takes a shard makes its epoch one more. Every later write names the epoch that it was taken
in, and changes nothing once that is not the shard's any more: a worker that was taken for dead and
wakes up can do no harm. Only parts that are registered belong to the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, and_, func, select, update
from sqlalchemy.sql import ColumnElement

from batch_gateway.errors import BatchGatewayError
from batch_gateway.service.database import database_now
from batch_gateway.service.tables import batches, parts, shards

__all__ = [
    "LostShardError",
    "PartRecord",
    "ShardFigures",
    "ShardRecord",
    "ShardState",
    "add_shards",
    "adopt_parts",
    "beat",
    "finish_shard",
    "free_shards",
    "list_parts",
    "list_shards",
    "register_part",
    "take_shard",
]


class ShardState(StrEnum):
    """Where a shard is in its life."""

    WAITING = "waiting"
    """Nobody has taken it yet."""
    RUNNING = "running"
    """Its owner beats; when the beat is stale, anybody may take it."""
    DONE = "done"
    """Every line of it has a result in a registered part."""


class ShardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a shard's lines, and the tokens that they took."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Whole lines of a batch's input, from byte `start` to `end`, and who runs them.

    `first_line` counts from 1 and blank lines too; `first_index` counts requests from 0. `beat` is
    a time of the database's clock.
    """

    batch_id: str
    number: int
    start: int
    end: int
    first_line: int
    first_index: int
    lines: int
    state: str = ShardState.WAITING.value
    epoch: int = 0
    owner: str | None = None
    beat: float = 0.0


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An object of the store that holds result lines of a shard."""

    batch_id: str
    shard: int
    name: str
    epoch: int
    bytes: int
    lines: int


class LostShardError(BatchGatewayError):
    """Somebody else has taken the shard: whoever ran it must stop, and write nothing more."""


_COLUMNS: Final = tuple(shards.c[name] for name in ShardRecord.__struct_fields__)
_FIGURES: Final = ShardFigures.__struct_fields__


def add_shards(connection: Connection, records: Sequence[ShardRecord]) -> None:
    connection.execute(shards.insert(), [msgspec.structs.asdict(record) for record in records])


def list_shards(connection: Connection, batch_id: str) -> Sequence[ShardRecord]:
    chosen = select(*_COLUMNS).where(shards.c.batch_id == batch_id).order_by(shards.c.number)
    return _records(connection, chosen)


def free_shards(
    connection: Connection, stale_seconds: float, limit: int = 100
) -> Sequence[ShardRecord]:
    """Shards that nobody runs: those that wait, and those whose beat is older than that."""
    running = shards.c.state == ShardState.RUNNING
    stale = and_(running, shards.c.beat < database_now() - stale_seconds)
    chosen = (
        select(*_COLUMNS)
        .join(batches, batches.c.id == shards.c.batch_id)
        .where((shards.c.state == ShardState.WAITING) | stale)
        .order_by(batches.c.due_at, shards.c.number)
        .limit(limit)
    )
    return _records(connection, chosen)


def take_shard(
    connection: Connection, batch_id: str, number: int, seen_epoch: int, owner: str
) -> int | None:
    """Make the shard `owner`'s if its epoch is still the one that was seen.

    Returns the new epoch, or None when somebody was faster or the shard is done.
    """
    free = and_(_shard_is(batch_id, number), shards.c.epoch == seen_epoch)
    taken = connection.execute(
        update(shards)
        .where(free, shards.c.state != ShardState.DONE)
        .values(epoch=seen_epoch + 1, owner=owner, state=ShardState.RUNNING, beat=database_now())
    )
    return seen_epoch + 1 if taken.rowcount == 1 else None


def beat(
    connection: Connection, batch_id: str, number: int, epoch: int, figures: ShardFigures
) -> None:
    """Say that the shard is still being run, and how far it is; the batch's figures follow.

    Raises LostShardError.
    """
    _change(connection, batch_id, number, epoch, beat=database_now(), **_values(figures))
    _sum_up(connection, batch_id)


def register_part(connection: Connection, part: PartRecord) -> None:
    """Make a stored part one of the batch's. Raises LostShardError."""
    adopt_parts(connection, part.batch_id, part.shard, part.epoch, [part])


def adopt_parts(
    connection: Connection, batch_id: str, number: int, epoch: int, found: Sequence[PartRecord]
) -> None:
    """Make all of `found` parts of the batch, be they written in an earlier epoch.

    Those that are registered already stay as they are. Raises LostShardError.
    """
    _change(connection, batch_id, number, epoch, beat=database_now())
    known = select(parts.c.name).where(parts.c.batch_id == batch_id, parts.c.shard == number)
    names = set(connection.execute(known).scalars())
    new = [msgspec.structs.asdict(part) for part in found if part.name not in names]
    if new:
        connection.execute(parts.insert(), new)


def list_parts(
    connection: Connection, batch_id: str, number: int | None = None
) -> Sequence[PartRecord]:
    """The registered parts of a batch, or of one shard: by shard and name."""
    chosen = select(parts).where(parts.c.batch_id == batch_id)
    if number is not None:
        chosen = chosen.where(parts.c.shard == number)
    rows = connection.execute(chosen.order_by(parts.c.shard, parts.c.name)).mappings()
    return [PartRecord(**row) for row in rows]


def finish_shard(
    connection: Connection, batch_id: str, number: int, epoch: int, figures: ShardFigures
) -> bool:
    """Every line has its result: the shard is done. True when it was the last of its batch, whose
    finalizing then belongs into this very transaction. Raises LostShardError."""
    values = _values(figures)
    _change(connection, batch_id, number, epoch, state=ShardState.DONE.value, **values)
    _sum_up(connection, batch_id)
    left = select(func.count()).where(
        shards.c.batch_id == batch_id, shards.c.state != ShardState.DONE
    )
    return connection.execute(left).scalar_one() == 0


def _change(connection: Connection, batch_id: str, number: int, epoch: int, **values: Any) -> None:
    mine = and_(
        _shard_is(batch_id, number),
        shards.c.epoch == epoch,
        shards.c.state == ShardState.RUNNING,
    )
    if connection.execute(update(shards).where(mine).values(**values)).rowcount != 1:
        raise LostShardError(f"shard {number} of {batch_id} was taken over after epoch {epoch}")


def _sum_up(connection: Connection, batch_id: str) -> None:
    sums = {
        name: select(func.sum(shards.c[name]))
        .where(shards.c.batch_id == batch_id)
        .scalar_subquery()
        for name in _FIGURES
    }
    connection.execute(update(batches).where(batches.c.id == batch_id).values(sums))


def _values(figures: ShardFigures) -> dict[str, Any]:
    return msgspec.structs.asdict(figures)


def _shard_is(batch_id: str, number: int) -> ColumnElement[bool]:
    return and_(shards.c.batch_id == batch_id, shards.c.number == number)


def _records(connection: Connection, chosen: Select[Any]) -> Sequence[ShardRecord]:
    rows = connection.execute(chosen).mappings()
    return [ShardRecord(**row) for row in rows]
