"""What is left to do, by model: in lines, in tokens they are expected to take, and until when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from batch_gateway.service import job_records
from batch_gateway.service.backlog import Backlog, backlog
from batch_gateway.service.batch_records import BatchRecord, add_batch, record_event
from batch_gateway.service.database import Database
from batch_gateway.service.model_lines import note_models
from batch_gateway.service.parts import Part, Tally
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.wire.usage import Usage
from tests.engine.batch_files import request
from tests.service.records import NOW, a_batch, a_shard
from tests.service.test_processor import PATIENCE, a_service

pytestmark = pytest.mark.anyio

Write = Callable[..., Awaitable[Any]]


@pytest.fixture
def write(database: Database) -> Write:
    def run(action: Callable[..., object], *values: object) -> Awaitable[Any]:
        return database.write(lambda connection: action(connection, *values))

    return run


def running(**different: Any) -> BatchRecord:
    return a_batch(**({"status": "in_progress"} | different))


async def test_lines_are_those_without_a_result_and_the_deadline_is_the_nearest(
    database: Database, write: Write
) -> None:
    await write(add_batch, running(model="m", total=100, completed=60, failed=10))
    await write(add_batch, running(model="m", total=5, due_at=NOW + 60.0))
    await write(add_batch, running(model="n", total=7, completed=7))
    await write(add_batch, running(model="m", total=9, status="completed", due_at=NOW - 1.0))
    await write(add_batch, a_batch())
    found = await database.read(backlog)
    assert [(one.model, one.batches, one.lines) for one in found] == [
        ("", 1, 0),
        ("m", 2, 35),
        ("n", 1, 0),
    ]
    assert found[1].due_at == NOW + 60


async def test_tokens_are_those_of_the_batch_so_far_or_else_of_the_latest_of_its_model(
    database: Database, write: Write
) -> None:
    took = {"input_tokens": 300, "output_tokens": 1000}
    # 20 left at 3 and 10 tokens a line; a failed one took its share too.
    await write(add_batch, running(model="m", total=120, completed=90, failed=10, **took))
    assert await database.read(backlog) == [Backlog("m", 1, 20, NOW + 86400.0, 60.0, 200.0)]
    # Of the next nothing is known yet but what the other took, and of its model more than that.
    await write(add_batch, running(model="m", total=10))
    assert await database.read(backlog) == [Backlog("m", 2, 30, NOW + 86400.0, 90.0, 300.0)]
    long = {"status": "completed", "total": 100, "completed": 100, "output_tokens": 9000}
    await write(add_batch, a_batch(model="m", input_tokens=100, **long))
    assert await database.read(backlog) == [Backlog("m", 2, 30, NOW + 86400.0, 80.0, 700.0)]


async def test_of_a_model_that_never_answered_nobody_knows_what_it_takes(
    database: Database, write: Write
) -> None:
    await write(add_batch, running(model="new", total=10))
    assert await database.read(backlog) == [Backlog("new", 1, 10, NOW + 86400.0)]


async def test_a_batch_of_several_models_counts_for_each_with_what_is_left_of_it(
    database: Database, write: Write
) -> None:
    batch = running(total=30)
    await write(add_batch, batch)
    await write(note_models, batch.id, {"a": 20, "b": 10})
    await write(add_batch, running(model="b", total=5))
    await write(job_records.add_jobs, [a_shard(batch.id)])
    job = await write(job_records.take, a_shard(batch.id), "me")
    tally = Tally(9, 1, Usage(input_tokens=20), {"a": 8, "b": 2})
    for _ in range(2):  # A part that is registered again is counted once.
        await write(job_records.register_parts, job, [Part("p", 10, tally)])
    found = await database.read(backlog)
    assert [(one.model, one.batches, one.lines) for one in found] == [("a", 1, 12), ("b", 2, 13)]
    assert [one.read for one in found] == [24.0, 16.0]
    await write(record_event, batch.id, BatchEvent.CANCEL, NOW)
    await write(record_event, batch.id, BatchEvent.ALL_DONE, NOW)
    await write(record_event, batch.id, BatchEvent.WRITTEN, NOW)
    assert [one.model for one in await database.read(backlog)] == ["b"]


async def test_of_a_strangers_ten_thousand_models_all_lines_are_there_under_a_hundred_names(
    database: Database, write: Write
) -> None:
    models = {"big": 500} | {f"made-up-{number}": 1 for number in range(10_000)}
    batch = running(total=10_500)
    await write(add_batch, batch)
    await write(note_models, batch.id, models)
    await write(job_records.add_jobs, [a_shard(batch.id)])
    job = await write(job_records.take, a_shard(batch.id), "me")
    done = {"big": 100} | {f"made-up-{number}": 1 for number in range(5000, 10_000)}
    await write(job_records.register_parts, job, [Part("p", 9, Tally(5100, by_model=done))])
    left = Counter({one.model: one.lines for one in await database.read(backlog)})
    assert len(left) == 101
    assert left.total() == 5_400
    assert (left["big"], left["made-up-0"]) == (400, 1)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_batches_that_have_ended_are_not_looked_at(database: Database) -> None:
    asked: list[tuple[str, Any]] = []

    def plans(connection: Connection) -> list[str]:
        def note(
            _: Connection, cursor: object, statement: str, values: object, *rest: object
        ) -> None:
            asked.append((statement, values))

        event.listen(connection, "before_cursor_execute", note)
        backlog(connection)
        event.remove(connection, "before_cursor_execute", note)
        [(statement, values)] = [one for one in asked if "SELECT" in one[0]]
        explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        return [row[3] for row in explained]

    steps = await database.read(plans)
    assert any("batches USING INDEX batches_by_status" in step for step in steps)
    assert not any(step.startswith("SCAN batches") for step in steps)


async def test_a_processor_counts_down_each_model_of_a_batch(tmp_path: Path) -> None:
    counts = {"a": 30, "b": 20, "fault-stall": 2}
    names = [model for model, number in counts.items() for _ in range(number)]
    lines = [
        request(f"c{number}", body={"model": model, "messages": [{"role": "user", "content": "x"}]})
        for number, model in enumerate(names)
    ]
    async with a_service(tmp_path) as service:
        batch_id = await service.submit(lines)
        async with service.processor():
            left = {"a": 1}
            async with asyncio.timeout(PATIENCE):
                while left != {"a": 0, "b": 0, "fault-stall": 2}:
                    await asyncio.sleep(0.02)
                    found = await service.database.read(backlog)
                    left = {one.model: one.lines for one in found}
                    assert sum(left.values()) <= 52
            await service.database.write(
                partial(record_event, batch_id=batch_id, event=BatchEvent.CANCEL, now=1.0)
            )
            await service.until(batch_id)
        assert await service.database.read(backlog) == []
