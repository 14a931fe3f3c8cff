"""Work that one process adds is heard of by the others at once, whatever becomes of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from batch_gateway.service import postgres_listening
from batch_gateway.service.batch_observer import BatchObserver
from batch_gateway.service.batch_records import add_batch
from batch_gateway.service.database import Database, announce_work
from batch_gateway.service.open_database import open_database
from batch_gateway.service.processor import Processor
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.storage.folder import LocalFolder
from tests.peers.postgres import PostgresServer
from tests.service.records import a_batch

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database_with_tables()


@pytest.fixture
async def databases(url: str) -> AsyncIterator[list[Database]]:
    """Those of two processes."""
    async with AsyncExitStack() as stack:
        opened = [await open_database(url) for _ in range(2)]
        for one in opened:
            stack.push_async_callback(one.aclose)
        yield opened


async def test_a_batch_is_heard_of_by_who_listens_also_after_a_lost_connection(
    databases: list[Database],
    postgres: PostgresServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_listening, "_AGAIN_SECONDS", 0.01)
    listening, other = databases
    heard = asyncio.Event()
    listener = asyncio.create_task(listening.listen(heard.set))
    ids = iter(f"batch_{number}" for number in range(10_000))
    listeners = "FROM pg_stat_activity WHERE query ILIKE 'listen%' AND datname = current_database()"
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                heard.clear()
                # What is announced while there is no connection is not heard.
                while not heard.is_set():
                    batch = a_batch(id=next(ids))
                    await other.write(lambda c, batch=batch: add_batch(c, batch))
                    await asyncio.sleep(0.01)
                name = url.rpartition("/")[2]
                ended = f"SELECT count(pg_terminate_backend(pid)) {listeners}"
                assert postgres.execute(ended, name) == "1"
    finally:
        listener.cancel()


async def test_what_is_rolled_back_is_not_announced_and_many_are_heard_as_few(
    databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_listening, "_BETWEEN_SECONDS", 3600.0)
    listening, other = databases
    times: list[None] = []
    listener = asyncio.create_task(listening.listen(lambda: times.append(None)))

    def fail(connection: object) -> None:
        announce_work(connection)  # type: ignore[arg-type]
        raise KeyError

    try:
        async with asyncio.timeout(PATIENCE):
            for _ in range(20):
                with pytest.raises(KeyError):
                    await other.write(fail)
            assert times == []
            while not times:
                await other.write(announce_work)
                await asyncio.sleep(0)
            for _ in range(20):
                await other.write(announce_work)
    finally:
        listener.cancel()
    assert len(times) == 1


class Taken(BatchObserver):
    """Counts batches that were begun."""

    def __init__(self) -> None:
        self.batches = 0

    def taken(self, waited: float) -> None:
        self.batches += 1


async def test_a_worker_begins_a_batch_of_another_process_before_its_next_look(
    databases: list[Database], tmp_path: Path
) -> None:
    listening, other = databases
    seen, ids = Taken(), iter(f"batch_{number}" for number in range(10_000))
    storage = LocalFolder(tmp_path)
    processor = Processor(
        listening,
        storage,
        lambda _: None,
        config=ProcessorConfig(poll_interval=3600),
        observer=seen,
    )
    async with processor, asyncio.timeout(PATIENCE):
        # The first look of all may find the first of them.
        for number in (0, 1):
            while seen.batches <= number:
                batch = a_batch(id=next(ids))
                await other.write(lambda c, batch=batch: add_batch(c, batch))
                await asyncio.sleep(0.01)
    await storage.aclose()
