"""Sessions whose process is gone in the middle of a transaction hold up nobody for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from batch_gateway.errors import RecordsError
from batch_gateway.service.tables import api_keys
from tests.peers.postgres import PostgresServer

asyncpg = pytest.importorskip("asyncpg")
postgres_connections = pytest.importorskip("batch_gateway.service.postgres_connections")
postgres_database = pytest.importorskip("batch_gateway.service.postgres_database")

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """One with a key in it, in a hurry."""
    hurried = {**postgres_connections._LIMITS, "lock_timeout": "200ms"}
    monkeypatch.setattr(postgres_connections, "_LIMITS", hurried)
    monkeypatch.setattr(postgres_database, "STATEMENT_SECONDS", 0.1)
    opened = await postgres_database.open_postgres(postgres.new_database_with_tables())
    key = {"id": "k", "tenant": "t", "label": "", "digest": b"k", "created_at": 1}
    await opened.write(lambda connection: connection.execute(api_keys.insert().values(**key)))
    yield opened
    await opened.aclose()


async def stand(connection: Any) -> None:
    """As a process that was cut off: with a lock, and between two messages of a statement."""
    await connection.execute("BEGIN")
    await connection.execute("UPDATE api_keys SET label = 'theirs'")
    await connection.prepare("SELECT label FROM api_keys")


def name_it_ours(connection: Connection) -> None:
    connection.execute(api_keys.update().values(label="ours"))


async def test_a_process_that_stands_still_with_a_lock_loses_it(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off = await asyncpg.connect(
        database._connections._url, server_settings={"application_name": "batch-gateway"}
    )
    try:
        await stand(cut_off)
        await database.write(name_it_ours)
        assert "stood still with locks" in caplog.text
        labels = await database.read(lambda c: c.execute(select(api_keys.c.label)).scalars().all())
        assert labels == ["ours"]
    finally:
        cut_off.terminate()


async def test_another_program_keeps_its_locks(database: Any) -> None:
    other = await asyncpg.connect(
        database._connections._url, server_settings={"application_name": "psql"}
    )
    try:
        await stand(other)
        with pytest.raises(RecordsError, match="lock timeout"):
            await database.write(name_it_ours)
        await other.execute("COMMIT")
        await database.write(name_it_ours)
    finally:
        other.terminate()
