"""Workers: who is there, what is each one's share, and what becomes of what they leave."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Connection, update

from batch_gateway.service import job_records
from batch_gateway.service.batch_records import add_batch, record_event
from batch_gateway.service.database import Database, database_now
from batch_gateway.service.job_records import Job
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.service.tables import workers
from batch_gateway.service.worker_records import free_jobs_and_share, show_life, sign_off
from tests.service.records import NOW, a_batch, a_shard

pytestmark = pytest.mark.anyio

BATCH = "batch_1"


@pytest.fixture
async def running(database: Database) -> Database:
    """With a batch of seven shards."""

    def prepare(connection: Connection) -> None:
        add_batch(connection, a_batch(id=BATCH))
        record_event(connection, BATCH, BatchEvent.VALID, NOW)
        job_records.add_jobs(connection, [a_shard(BATCH, number) for number in range(7)])

    await database.write(prepare)
    return database


async def show(database: Database, owner: str, *mine: Job) -> set[job_records.JobKey]:
    return await database.write(partial(show_life, owner=owner, mine=mine))


async def take(database: Database, number: int, owner: str) -> Job:
    seen = a_shard(BATCH, number)
    taken = await database.write(lambda c: job_records.take(c, seen, owner))
    assert taken is not None
    return taken


async def look(database: Database, owner: str) -> tuple[set[int], int]:
    """The shards that `owner` may take, and how many it is to have."""
    found = partial(free_jobs_and_share, owner=owner, lease=30.0)
    free, share = await database.read(found)
    return {one.job.number for one in free if one.job.kind.value == "run"}, share


async def test_shards_are_dealt_out_evenly_among_those_who_are_there(running: Database) -> None:
    for owners, share in ((["a"], 7), (["a", "b"], 4), (["a", "b", "c"], 3)):
        for owner in owners:
            await show(running, owner)
        assert (await look(running, "a"))[1] == share


async def test_who_gives_no_sign_of_life_or_goes_is_not_counted(running: Database) -> None:
    for owner in "abc":
        await show(running, owner)
    old = update(workers).where(workers.c.owner == "b").values(beat=database_now() - 31.0)
    await running.write(lambda connection: connection.execute(old))
    await running.write(partial(sign_off, owner="c"))
    assert (await look(running, "a"))[1] == 7


async def test_what_somebody_has_who_goes_is_free_at_once_and_nothing_else(
    running: Database,
) -> None:
    await take(running, 0, "a")
    kept = await take(running, 1, "b")
    await running.write(partial(sign_off, owner="a"))
    assert (await look(running, "c"))[0] == {0, 2, 3, 4, 5, 6}
    assert await show(running, "b", kept) == set()


async def test_what_somebody_has_without_knowing_it_is_free_for_that_one_alone(
    running: Database,
) -> None:
    await take(running, 0, "a")
    assert 0 in (await look(running, "a"))[0]
    assert 0 not in (await look(running, "b"))[0]


async def test_a_sign_of_life_tells_which_jobs_are_lost(running: Database) -> None:
    mine = [await take(running, number, "a") for number in range(3)]
    await running.write(partial(job_records.put_down, job=mine[1]))
    await running.write(lambda c: job_records.take(c, mine[2], "b"))
    assert await show(running, "a", *mine) == {mine[1].key, mine[2].key}
