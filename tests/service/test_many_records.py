"""No question that is asked all the time looks at whole tables: by PostgreSQL's own plans."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from sqlalchemy import Connection, event

from batch_gateway.service.open_database import open_database
from benchmarks.many_records import QUESTIONS, Records, fill
from tests.peers.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def full(postgres: PostgresServer) -> str:
    """A database with enough in it that a look at everything is the dearer plan."""
    url = postgres.new_database_with_tables()

    async def fill_it() -> None:
        database = await open_database(url)
        await fill(database, Records(tenants=200, batches=4000, files=20_000, open=40))
        await database.aclose()

    asyncio.run(fill_it())
    return url


@pytest.mark.parametrize("question", QUESTIONS)
async def test_it_is_found_by_an_index(full: str, question: str) -> None:
    def plans(connection: Connection) -> list[str]:
        asked: list[tuple[str, Any]] = []

        @event.listens_for(connection, "before_cursor_execute")
        def note(*of_cursor: Any) -> None:
            asked.append((of_cursor[2], of_cursor[3]))

        QUESTIONS[question](connection)
        event.remove(connection, "before_cursor_execute", note)
        return [
            "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
            for statement, values in asked
        ]

    database = await open_database(full)
    found = await database.write(plans)
    await database.aclose()
    assert found
    for plan in found:
        assert not re.search(r"Seq Scan on (files|batches|jobs|parts)\b", plan), plan
