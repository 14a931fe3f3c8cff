"""What is seen of a batch: stored with its parts, by each process for itself, and gone with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.interfaces.request import InferenceRequest, InferenceResponse
from batch_gateway.engine.figures import Figures
from batch_gateway.errors import RecordsUnavailableError, ServerError
from batch_gateway.service.batch_courses import LONGEST_NAME, BatchCourses, find_course
from batch_gateway.service.batch_records import add_batch, remove_ended_before
from batch_gateway.service.database import Database
from batch_gateway.service.open_database import open_database
from batch_gateway.service.tables import courses
from tests.report.test_collecting import BODY, Clock
from tests.service.records import NOW, a_batch

pytestmark = pytest.mark.anyio

BATCH = "batch_1"


class Running:
    """A shard of which as much was recorded as a test says."""

    def __init__(self, *gateways: GatewayEvents) -> None:
        self.figures = Figures()
        self.in_flight = 0
        self.gateways: Sequence[GatewayEvents] = gateways


def asked(model: str = "m") -> InferenceRequest:
    return InferenceRequest(params=b"", request_id="r", model=model)


def answer(attempts: int = 1) -> InferenceResponse:
    return InferenceResponse(request_id="r", status_code=200, body=BODY, attempts=attempts)


@pytest.fixture
async def records(database: Database) -> Database:
    await database.write(lambda connection: add_batch(connection, a_batch(id=BATCH)))
    return database


async def test_shards_side_by_side_and_processes_one_after_the_other_add_up(
    records: Database,
) -> None:
    for process in ("one", "two", "one"):
        kept = BatchCourses(records, process, Clock())
        first, second = Running(), Running()
        async with kept.of(BATCH, first) as course, kept.of(BATCH, second) as same:
            assert course is same
            for shard in (first, second):
                shard.figures += Figures(succeeded=2)
                course.answered("g", asked(), answer(), 0.5, line_of=lambda _: None)
                course.answered("g", asked(), ServerError(""), 0.5, line_of=lambda _: None)
    found = await records.read(lambda c: find_course(c, BATCH))
    assert found.figures.succeeded == 12
    assert (found.totals["g", "m"].succeeded, found.totals["g", "m"].failed) == (6, 6)
    rows = select(func.count()).select_from(courses)
    assert await records.read(lambda c: c.execute(rows).scalar_one()) == 2


async def test_what_a_killed_process_had_stored_stays_to_the_last_part(records: Database) -> None:
    clock = Clock()
    kept, shard = BatchCourses(records, "one", clock), Running()
    entered = kept.of(BATCH, shard)
    course = await entered.__aenter__()
    for _ in range(3):
        shard.figures += Figures(succeeded=1)
        snapshot = course.next_snapshot()
        assert snapshot is not None
        shard.figures += Figures(succeeded=1)
        # Nobody stores the same for each of many shards.
        assert course.next_snapshot() is None
        clock.now += 1
        await records.write(snapshot)
    # What was recorded after the last snapshot is in no part that counts.
    assert (await records.read(lambda c: find_course(c, BATCH))).figures.succeeded == 5
    await entered.__aexit__(None, None, None)


async def test_what_is_in_flight_is_no_more_than_is_there_or_than_is_its_own(
    records: Database,
) -> None:
    clock, gateway = Clock(), GatewayEvents("g")
    kept = BatchCourses(records, "one", clock)
    first, second = Running(gateway), Running(gateway)
    async with kept.of(BATCH, first) as course, kept.of(BATCH, second):
        for at_gateway, own, seen in ((10, 3, 6), (4, 3, 4)):
            gateway.attempts_in_flight = at_gateway
            first.in_flight = second.in_flight = own
            clock.now += 10
            kept.sample()
            kept.sample()
            present = course.collected.timeline.at(clock.now)
            assert (present.samples, present.peak) == (1, seen)


async def test_retries_are_seen_and_long_names_are_cut(records: Database) -> None:
    kept = BatchCourses(records, "one", Clock())
    async with kept.of(BATCH, Running()) as course:
        course.answered("g", asked("m" * 10_000), answer(attempts=4), 0.5, line_of=lambda _: None)
    found = await records.read(lambda c: find_course(c, BATCH))
    assert found.time.slices[0].retries == 3
    assert list(found.totals) == [("g", "m" * LONGEST_NAME)]


async def test_a_course_goes_with_its_batch(records: Database) -> None:
    kept = BatchCourses(records, "one", Clock())
    ended = a_batch(status="completed", completed_at=NOW)
    await records.write(lambda connection: add_batch(connection, ended))
    for batch_id in (BATCH, ended.id):
        async with kept.of(batch_id, Running()):
            pass
    await records.write(lambda connection: remove_ended_before(connection, NOW + 1))
    left = await records.read(lambda c: c.execute(select(courses.c.batch_id)).scalars().all())
    assert left == [BATCH]


async def test_a_course_that_cannot_be_stored_costs_no_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = await open_database(tmp_path / "other.sqlite3")
    kept = BatchCourses(database, "one", Clock())
    # There is no such batch.
    async with kept.of("batch_none", Running()):
        pass
    await database.aclose()
    assert "batch_none: what its report shows could not be stored" in caplog.text


async def test_of_an_outage_no_batch_tells(
    records: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = BatchCourses(records, "one", Clock())

    async def write(action: object) -> None:
        raise RecordsUnavailableError("away")

    async with kept.of(BATCH, Running()):
        monkeypatch.setattr(records, "write", write)
    assert not [one for one in caplog.records if one.name.startswith("batch_gateway")]
