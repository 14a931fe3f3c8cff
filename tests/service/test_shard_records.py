"""Shards: one owner at a time, fenced by the epoch, and parts that count once registered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from batch_gateway.service.batch_records import add_batch, poll_batch
from batch_gateway.service.database import Database, database_now
from batch_gateway.service.shard_records import (
    LostShardError,
    PartRecord,
    ShardFigures,
    ShardState,
    add_shards,
    adopt_parts,
    beat,
    finish_shard,
    free_shards,
    list_parts,
    list_shards,
    register_part,
    take_shard,
)
from batch_gateway.service.tables import shards
from tests.service.records import a_batch, a_shard

pytestmark = pytest.mark.anyio

BATCH = "batch_1"
Write = Callable[..., Awaitable[Any]]


def a_part(name: str, epoch: int = 1, shard: int = 0) -> PartRecord:
    return PartRecord(batch_id=BATCH, shard=shard, name=name, epoch=epoch, bytes=10, lines=2)


@pytest.fixture
async def write(database: Database) -> Write:
    """Runs one function of `shard_records` in a transaction of its own."""

    def prepare(connection: Connection) -> None:
        add_batch(connection, a_batch(id=BATCH))
        add_shards(connection, [a_shard(BATCH, 0), a_shard(BATCH, 1)])

    await database.write(prepare)

    def run(action: Callable[..., object], *values: object) -> Awaitable[Any]:
        return database.write(lambda connection: action(connection, *values))

    return run


async def test_of_several_that_take_a_shard_one_gets_it(database: Database, write: Write) -> None:
    owners = [f"worker-{number}" for number in range(5)]
    epochs = await asyncio.gather(*(write(take_shard, BATCH, 0, 0, owner) for owner in owners))
    assert sorted(epochs, key=str) == [1, None, None, None, None]
    [first, second] = await database.read(partial(list_shards, batch_id=BATCH))
    assert (first.epoch, first.owner, first.state) == (1, owners[epochs.index(1)], "running")
    assert (second.epoch, second.owner, second.state) == (0, None, "waiting")


async def test_a_shard_is_free_while_nobody_has_it_and_once_its_beat_is_stale(
    database: Database, write: Write
) -> None:
    async def free(stale_seconds: float = 5.0) -> list[int]:
        found = await database.read(partial(free_shards, stale_seconds=stale_seconds))
        return [shard.number for shard in found]

    assert await free() == [0, 1]
    await write(take_shard, BATCH, 0, 0, "a")
    assert await free() == [1]
    age = update(shards).where(shards.c.number == 0).values(beat=database_now() - 10)
    await database.write(lambda connection: connection.execute(age))
    assert await free() == [0, 1]
    await write(beat, BATCH, 0, 1, ShardFigures())
    assert await free() == [1]


async def test_who_was_taken_over_can_write_nothing_more(database: Database, write: Write) -> None:
    await write(take_shard, BATCH, 0, 0, "old")
    await write(register_part, a_part("p/1"))
    assert await write(take_shard, BATCH, 0, 1, "new") == 2
    late = a_part("p/2")
    for action in (
        (beat, BATCH, 0, 1, ShardFigures(completed=9)),
        (register_part, late),
        (adopt_parts, BATCH, 0, 1, [late]),
        (finish_shard, BATCH, 0, 1, ShardFigures(completed=9)),
    ):
        with pytest.raises(LostShardError, match=r"shard 0 of batch_1 was taken over after epoch"):
            await write(*action)
    assert await database.read(partial(list_parts, batch_id=BATCH)) == [a_part("p/1")]
    assert poll_batch(database, "t", BATCH).completed == 0


async def test_parts_of_earlier_epochs_are_adopted_once(database: Database, write: Write) -> None:
    await write(take_shard, BATCH, 0, 0, "old")
    await write(register_part, a_part("p/1"))
    await write(take_shard, BATCH, 0, 1, "new")
    found = [a_part("p/1", epoch=2), a_part("p/2", epoch=2)]
    for _ in range(2):
        await write(adopt_parts, BATCH, 0, 2, found)
    assert await database.read(partial(list_parts, batch_id=BATCH, number=0)) == [
        a_part("p/1", epoch=1),
        a_part("p/2", epoch=2),
    ]
    assert await database.read(partial(list_parts, batch_id=BATCH, number=1)) == []


async def test_the_figures_of_a_batch_are_those_of_its_shards(
    database: Database, write: Write
) -> None:
    for number in (0, 1):
        await write(take_shard, BATCH, number, 0, "a")
    await write(beat, BATCH, 0, 1, ShardFigures(completed=3, failed=1, output_tokens=7))
    await write(beat, BATCH, 1, 1, ShardFigures(completed=2, input_tokens=5))
    await write(beat, BATCH, 0, 1, ShardFigures(completed=4, failed=1, output_tokens=9))
    batch = poll_batch(database, "t", BATCH)
    assert (batch.completed, batch.failed) == (6, 1)
    assert (batch.input_tokens, batch.output_tokens) == (5, 9)


async def test_the_last_shard_to_be_done_knows_that_it_is(database: Database, write: Write) -> None:
    for number in (0, 1):
        await write(take_shard, BATCH, number, 0, "a")
    done = ShardFigures(completed=10)
    assert await write(finish_shard, BATCH, 1, 1, done) is False
    assert await write(finish_shard, BATCH, 0, 1, done) is True
    assert await write(take_shard, BATCH, 0, 1, "b") is None
    states = await database.read(
        lambda connection: connection.execute(select(shards.c.state)).scalars().all()
    )
    assert set(states) == {ShardState.DONE}
    assert poll_batch(database, "t", BATCH).completed == 20
