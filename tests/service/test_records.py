"""The records of files and batches: who sees them, in which order, and what may happen to them."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from batch_gateway.service.batch_records import (
    BatchRecord,
    NoSuchBatchError,
    RefusedEventError,
    add_batch,
    batches_under_way,
    find_batch,
    list_batches,
    poll_batch,
    record_event,
)
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import (
    FileRecord,
    FileState,
    TenantUse,
    add_file,
    find_file,
    give_up_abandoned,
    leftovers,
    list_files,
    mark_deleted,
    mark_stored,
    remove_file,
    tenant_use,
)
from batch_gateway.service.ids import new_id
from batch_gateway.service.paging import Page, Paging
from batch_gateway.service.statuses import ENDED, BatchEvent, BatchStatus
from batch_gateway.service.tables import metadata
from tests.service.records import NOW, a_batch, a_file

pytestmark = pytest.mark.anyio


async def store(database: Database, *records: FileRecord, state: str = "stored") -> None:
    for record in records:
        await database.write(partial(add_file, record=record, state=FileState(state)))


async def submit(database: Database, *records: BatchRecord) -> None:
    for record in records:
        await database.write(partial(add_batch, record=record))


async def test_a_file_is_seen_once_it_is_stored_and_until_it_is_deleted(database: Database) -> None:
    file = a_file()
    find = partial(find_file, tenant="t", file_id=file.id, now=NOW)
    await store(database, file, state="pending")
    assert await database.read(find) is None
    await database.write(partial(mark_stored, file_id=file.id))
    assert await database.read(find) == file
    delete = partial(mark_deleted, tenant="t", file_id=file.id, now=NOW)
    assert await database.write(delete)
    assert await database.read(find) is None
    assert not await database.write(delete)


async def test_a_file_is_not_seen_by_others_nor_after_its_time(database: Database) -> None:
    file = a_file(expires_at=NOW + 10)
    await store(database, file)
    find = partial(find_file, file_id=file.id)
    assert await database.read(partial(find, tenant="t", now=NOW + 9)) == file
    assert await database.read(partial(find, tenant="t", now=NOW + 10)) is None
    assert await database.read(partial(find, tenant="other", now=NOW)) is None
    assert not await database.write(partial(mark_deleted, tenant="other", file_id=file.id, now=NOW))


async def test_what_a_tenant_has_counts_what_is_being_stored_and_not_what_is_deleted(
    database: Database,
) -> None:
    files = [a_file(bytes=size) for size in (1, 20, 300)]
    await store(database, *files, a_file(tenant="other"))
    await store(database, a_file(bytes=4000), state="pending")
    await database.write(partial(mark_deleted, tenant="t", file_id=files[1].id, now=NOW))
    assert await database.read(partial(tenant_use, tenant="t")) == TenantUse(3, 4301)
    assert await database.read(partial(tenant_use, tenant="nobody")) == TenantUse(0, 0)


async def test_what_nobody_needs_any_more_is_left_over(database: Database) -> None:
    kept, deleted, read, expired = a_file(), a_file(), a_file(), a_file(expires_at=NOW - 1)
    await store(database, kept, deleted, read, expired)
    abandoned, fresh = a_file(created_at=NOW - 1000), a_file(created_at=NOW - 10)
    await store(database, abandoned, fresh, state="pending")
    batch = a_batch(input_file_id=read.id)
    await submit(database, batch)
    for file in (deleted, read):
        await database.write(partial(mark_deleted, tenant="t", file_id=file.id, now=NOW))
    await database.write(partial(give_up_abandoned, before=NOW - 500))
    find = partial(leftovers, now=NOW)
    assert await database.read(find) == [deleted.id, expired.id, abandoned.id]
    for file_id in (deleted.id, expired.id, abandoned.id):
        await database.write(partial(remove_file, file_id=file_id))
    # Its batch still reads it.
    assert await database.read(find) == []
    await database.write(partial(record_event, batch_id=batch.id, event=BatchEvent.CANCEL, now=NOW))
    assert await database.read(find) == [read.id]


async def test_pages_follow_each_other_in_both_orders_without_gap_or_repetition(
    database: Database,
) -> None:
    files = [a_file(purpose=("batch", "vision")[number % 2]) for number in range(9)]
    await store(database, *files, a_file(tenant="other"))
    ids = [file.id for file in files]

    async def walk(purpose: str | None = None, **paging: Any) -> list[str]:
        seen: list[str] = []
        more = True
        while more:
            page = await database.read(
                partial(
                    list_files,
                    tenant="t",
                    paging=Paging(after=seen[-1] if seen else None, limit=2, **paging),
                    now=NOW,
                    purpose=purpose,
                )
            )
            more = page.has_more
            seen += [file.id for file in page.items]
        return seen

    assert await walk() == ids[::-1]
    assert await walk(order="asc") == ids
    assert await walk(purpose="vision", order="asc") == ids[1::2]


async def test_who_deletes_what_a_page_shows_still_gets_the_next_page(database: Database) -> None:
    files = [a_file() for _ in range(5)]
    await store(database, *files)
    seen: list[str] = []
    after = None
    while True:
        page = await database.read(
            partial(list_files, tenant="t", paging=Paging(limit=2, after=after), now=NOW)
        )
        for file in page.items:
            seen.append(file.id)
            await database.write(partial(mark_deleted, tenant="t", file_id=file.id, now=NOW))
            await database.write(partial(remove_file, file_id=file.id))
        if not page.has_more:
            break
        after = page.items[-1].id
    assert seen == [file.id for file in reversed(files)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 8), st.integers(1, 4), st.integers(0, 9), st.sampled_from(["asc", "desc"]))
def test_an_offset_leaves_out_so_many(total: int, limit: int, offset: int, order: Any) -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    ids = [new_id("batch") for _ in range(total)]
    with engine.begin() as connection:
        for batch_id in ids:
            add_batch(connection, a_batch(id=batch_id))
        paging = Paging(limit=limit, offset=offset, order=order)
        page = list_batches(connection, "t", paging)
    engine.dispose()
    expected = (ids if order == "asc" else ids[::-1])[offset:]
    assert [batch.id for batch in page.items] == expected[:limit]
    assert page.has_more is (len(expected) > limit)


async def test_what_no_database_takes_as_text_is_kept_without_it(database: Database) -> None:
    file, batch = a_file(filename="a\0b"), a_batch(model="m\0")
    await store(database, file)
    await submit(database, batch)
    found = await database.read(partial(find_file, tenant="t", file_id=file.id, now=NOW))
    assert found is not None
    assert found.filename[0] == "a"
    assert (await poll_batch(database, "t", batch.id)).status == batch.status


async def test_a_batch_is_polled_as_it_is_found(database: Database) -> None:
    batch = a_batch(metadata='{"a":"b"}', headers=b"\0x", output_seconds=3600)
    await submit(database, batch)
    assert await database.read(partial(find_batch, batch_id=batch.id, tenant="t")) == batch
    assert await poll_batch(database, "t", batch.id) == batch
    for look in (
        lambda: poll_batch(database, "other", batch.id),
        lambda: poll_batch(database, "t", "batch_1"),
    ):
        with pytest.raises(NoSuchBatchError, match="^Batch with ID batch_.* not found$"):
            await look()
    with pytest.raises(NoSuchBatchError):
        await database.read(partial(find_batch, batch_id=batch.id, tenant="other"))


async def test_an_event_notes_its_time_and_what_comes_with_it(database: Database) -> None:
    batch = a_batch()
    await submit(database, batch)

    async def happen(event: BatchEvent, later: int, **changes: Any) -> BatchRecord:
        def action(connection: Connection) -> BatchRecord:
            return record_event(connection, batch.id, event, NOW + later, **changes)

        moved = await database.write(action)
        assert await poll_batch(database, "t", batch.id) == moved
        return moved

    running = await happen(BatchEvent.VALID, 1, total=7, model="m")
    assert (running.status, running.in_progress_at) == ("in_progress", NOW + 1)
    assert (running.total, running.model) == (7, "m")
    await happen(BatchEvent.CANCEL, 2)
    again = await happen(BatchEvent.CANCEL, 3)
    assert (again.status, again.cancelling_at) == ("cancelling", NOW + 2)
    ended = await happen(BatchEvent.WRITTEN, 4, output_file_id="file_o")
    assert (ended.status, ended.cancelling_at, ended.cancelled_at) == (
        "cancelled",
        NOW + 2,
        NOW + 4,
    )
    assert ended.output_file_id == "file_o"
    with pytest.raises(RefusedEventError) as refused:
        await happen(BatchEvent.WRITTEN, 5)
    assert refused.value.status is BatchStatus.CANCELLED


async def test_batches_under_way_are_those_of_the_tenant_that_have_not_ended(
    database: Database,
) -> None:
    ended = [a_batch(status=status.value) for status in ENDED]
    await submit(database, a_batch(), a_batch(), a_batch(tenant="other"), *ended)
    assert await database.read(partial(batches_under_way, tenant="t")) == 2


async def test_batches_are_listed_for_their_tenant_alone(database: Database) -> None:
    mine, other = a_batch(), a_batch(tenant="other")
    await submit(database, mine, other)
    listed = partial(list_batches, paging=Paging())
    assert await database.read(partial(listed, tenant="t")) == Page([mine], False)
    # An id of another's is a place in time and nothing else.
    after = Paging(after=other.id)
    assert await database.read(partial(list_batches, tenant="t", paging=after)) == Page(
        [mine], False
    )


@given(st.lists(st.floats(0, 4e9), max_size=40))
def test_ids_sort_in_the_order_of_their_making_whatever_the_clock_does(times: list[float]) -> None:
    ids = [new_id("file", now) for now in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_every_column_of_a_table_has_its_field() -> None:
    for record, table, own in (
        (FileRecord, metadata.tables["files"], {"state"}),
        (BatchRecord, metadata.tables["batches"], set[str]()),
    ):
        names = {field.name for field in msgspec.structs.fields(record)}
        assert names | own == set(table.columns.keys())
