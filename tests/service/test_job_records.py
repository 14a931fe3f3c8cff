"""Jobs: one owner at a time, fenced by the epoch, and parts that count once registered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, update

from batch_gateway.errors import FencedError
from batch_gateway.service import job_records
from batch_gateway.service.batch_records import add_batch, poll_batch, record_event
from batch_gateway.service.database import Database, database_now
from batch_gateway.service.job_records import Job, JobState
from batch_gateway.service.parts import Part, Tally
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.service.tables import jobs
from batch_gateway.wire.usage import Usage
from tests.service.records import NOW, a_batch, a_shard

pytestmark = pytest.mark.anyio

BATCH = "batch_1"
Write = Callable[..., Awaitable[Any]]


def a_part(name: str, completed: int = 2, failed: int = 0) -> Part:
    return Part(name, 10, Tally(completed, failed, Usage(output_tokens=completed)))


@pytest.fixture
async def write(database: Database) -> Write:
    """Runs one function of `job_records` in a transaction of its own."""

    def prepare(connection: Connection) -> None:
        add_batch(connection, a_batch(id=BATCH))
        job_records.add_jobs(connection, [a_shard(BATCH, 0), a_shard(BATCH, 1)])

    await database.write(prepare)

    def run(action: Callable[..., object], *values: object) -> Awaitable[Any]:
        return database.write(lambda connection: action(connection, *values))

    return run


async def _free(database: Database, stale_seconds: float = 5.0) -> list[tuple[str, int]]:
    found = await database.read(lambda c: job_records.free_jobs(c, stale_seconds))
    return [(one.job.kind.value, one.job.number) for one in found]


async def _parts(database: Database) -> list[str]:
    found = await database.read(lambda c: job_records.list_parts(c, BATCH))
    return [part.name for _, part in found]


async def test_of_several_that_take_a_job_one_gets_it(write: Write) -> None:
    owners = [f"worker-{number}" for number in range(5)]
    seen = a_shard(BATCH)
    taken = await asyncio.gather(*(write(job_records.take, seen, owner) for owner in owners))
    [won] = [job for job in taken if job is not None]
    assert (won.epoch, won.state) == (1, JobState.RUNNING)
    assert won.owner in owners


async def test_a_job_is_free_while_nobody_has_it_and_once_its_beat_is_stale(
    database: Database, write: Write
) -> None:
    assert sorted(await _free(database)) == [("run", 0), ("run", 1), ("validate", 0)]
    job = await write(job_records.take, a_shard(BATCH), "a")
    assert ("run", 0) not in await _free(database)
    age = update(jobs).where(jobs.c.kind == "run").values(beat=database_now() - 10)
    await database.write(lambda connection: connection.execute(age))
    assert ("run", 0) in await _free(database)
    assert await write(job_records.beat, [job]) == set()
    assert ("run", 0) not in await _free(database)


async def test_jobs_come_with_the_tenant_and_the_due_time_the_most_urgent_first(
    database: Database, write: Write
) -> None:
    await write(add_batch, a_batch(id="batch_2", tenant="u", due_at=NOW + 60.0))
    found = await database.read(lambda c: job_records.free_jobs(c, 5.0))
    assert (found[0].job.batch_id, found[0].tenant, found[0].due) == ("batch_2", "u", NOW + 60.0)
    assert found[0].is_short


async def test_jobs_say_whether_their_batch_is_for_several_models(
    database: Database, write: Write
) -> None:
    await write(add_batch, a_batch(id="batch_2", model="m"))
    await write(job_records.add_jobs, [a_shard("batch_2")])
    found = await database.read(lambda c: job_records.free_jobs(c, 5.0))
    assert {(one.job.batch_id, one.has_models) for one in found} == {
        (BATCH, True),
        ("batch_2", False),
    }


async def test_a_tenant_with_many_jobs_hides_neither_its_looks_at_inputs_nor_others_jobs(
    database: Database, write: Write
) -> None:
    await write(job_records.add_jobs, [a_shard(BATCH, number) for number in range(2, 9)])
    await write(add_batch, a_batch(id="batch_2", tenant="u", due_at=NOW + 2e5))
    await write(job_records.add_jobs, [a_shard("batch_2")])
    found = await database.read(lambda c: job_records.free_jobs(c, 5.0, most_of_tenant=2))
    assert [(one.tenant, one.job.kind.value, one.job.number) for one in found] == [
        ("t", "run", 0),
        ("t", "validate", 0),
        ("t", "run", 1),
        ("u", "run", 0),
        ("u", "validate", 0),
    ]


@pytest.mark.parametrize("event", [BatchEvent.CANCEL, BatchEvent.EXPIRE])
async def test_what_is_to_end_is_short_and_before_all_others(
    database: Database, write: Write, event: BatchEvent
) -> None:
    await write(add_batch, a_batch(id="batch_2", due_at=NOW + 60.0))
    await write(record_event, BATCH, BatchEvent.VALID, NOW)
    await write(record_event, BATCH, event, NOW)
    found = await database.read(lambda c: job_records.free_jobs(c, 5.0))
    assert [one.job.batch_id for one in found] == [BATCH, BATCH, BATCH, "batch_2"]
    assert all(one.is_short for one in found)


async def test_the_jobs_of_a_batch_that_has_ended_are_nobodys(
    database: Database, write: Write
) -> None:
    await write(record_event, BATCH, BatchEvent.CANCEL, NOW)
    assert await _free(database) == []


async def test_who_was_taken_over_can_write_nothing_more(database: Database, write: Write) -> None:
    old = await write(job_records.take, a_shard(BATCH), "old")
    await write(job_records.register_parts, old, [a_part("p/1")])
    new = await write(job_records.take, old, "new")
    for action in (
        (job_records.register_parts, old, [a_part("p/2")]),
        (job_records.finish, old),
        (job_records.put_down, old),
    ):
        with pytest.raises(
            FencedError, match="run job of batch_1, taken in epoch 1, is another.s or over"
        ):
            await write(*action)
    assert await write(job_records.beat, [old]) == {old.key}
    assert set(await database.read(lambda c: job_records.registered_parts(c, new))) == {"p/1"}
    assert (await poll_batch(database, "t", BATCH)).completed == 2


async def test_a_part_counts_once_however_often_it_is_registered(
    database: Database, write: Write
) -> None:
    job = await write(job_records.take, a_shard(BATCH), "a")
    await write(job_records.register_parts, job, [a_part("p/1")])
    for _ in range(2):
        both = [a_part("p/1"), a_part("p/2", completed=1, failed=3)]
        await write(job_records.register_parts, job, both)
    batch = await poll_batch(database, "t", BATCH)
    assert (batch.completed, batch.failed, batch.output_tokens) == (3, 3, 3)
    assert await _parts(database) == ["p/1", "p/2"]


async def test_one_part_takes_the_place_of_several_that_are_all_there(
    database: Database, write: Write
) -> None:
    job = await write(job_records.take, a_shard(BATCH), "a")
    small, whole = [a_part("p/1"), a_part("p/2")], a_part("p/3", completed=4)
    await write(job_records.register_parts, job, small)
    await write(job_records.replace_parts, job, small, whole)
    assert await _parts(database) == ["p/3"]
    assert (await poll_batch(database, "t", BATCH)).completed == 4
    with pytest.raises(FencedError, match="not what they were"):
        await write(job_records.replace_parts, job, small, a_part("p/4"))
    assert await _parts(database) == ["p/3"]


async def test_parts_that_are_lost_count_no_more(database: Database, write: Write) -> None:
    job = await write(job_records.take, a_shard(BATCH), "a")
    lost = a_part("p/1.errors", completed=0, failed=4)
    await write(job_records.register_parts, job, [lost, a_part("p/2.output"), a_part("p/3.output")])
    stored = await database.read(lambda c: job_records.registered_parts(c, job))
    assert stored["p/2.output"] == a_part("p/2.output")
    await write(job_records.drop_parts, job, [lost, stored["p/2.output"]])
    batch = await poll_batch(database, "t", BATCH)
    assert (batch.completed, batch.failed, batch.output_tokens) == (2, 0, 2)
    assert await _parts(database) == ["p/3.output"]
    await write(job_records.take, job, "b")
    with pytest.raises(FencedError):
        await write(job_records.drop_parts, job, [a_part("p/3.output")])


async def test_a_job_that_is_put_down_is_another_s_at_once(
    database: Database, write: Write
) -> None:
    job = await write(job_records.take, a_shard(BATCH), "a")
    await write(job_records.put_down, job)
    assert ("run", 0) in await _free(database)
    again: Job = await write(job_records.take, job, "b")
    assert again.epoch == 2


async def test_the_last_shard_to_be_done_knows_that_it_is(database: Database, write: Write) -> None:
    for number, left in ((1, 1), (0, 0)):
        job = await write(job_records.take, a_shard(BATCH, number), "a")
        await write(job_records.finish, job)
        assert await write(job_records.shards_left, BATCH) == left
        assert await write(job_records.take, job, "b") is None


async def test_a_process_that_is_alone_puts_back_what_one_before_it_had(
    database: Database, write: Write
) -> None:
    await write(job_records.take, a_shard(BATCH), "a")
    await write(job_records.put_back_all)
    assert ("run", 0) in await _free(database)


async def test_a_batch_that_has_ended_keeps_no_jobs_and_no_parts(
    database: Database, write: Write
) -> None:
    job = await write(job_records.take, a_shard(BATCH), "a")
    await write(job_records.register_parts, job, [a_part("p/1")])
    await write(job_records.forget_jobs, BATCH)
    assert await _free(database) == []
    assert await _parts(database) == []
