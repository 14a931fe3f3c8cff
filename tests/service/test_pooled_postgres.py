"""Records behind a real PgBouncer, which gives each transaction another session of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, select, text

from batch_gateway.service.open_database import open_database
from batch_gateway.service.tables import api_keys
from tests.peers.pgbouncer import running_pgbouncer
from tests.peers.postgres import PostgresServer
from tests.service.test_database import add_key, count_keys

pytestmark = [pytest.mark.anyio, pytest.mark.peer("pgbouncer")]

TENANT_OF = select(api_keys.c.tenant).where(api_keys.c.id == bindparam("id"))
NOT_HEEDED = "statement_timeout, lock_timeout, idle_in_transaction_session_timeout, jit,"
NOT_HEEDED += " tcp_user_timeout, tcp_keepalives_idle"
WAYS = {
    "each transaction": {"pool_mode": "transaction"},
    "each transaction, settings not heeded": {
        "pool_mode": "transaction",
        "ignore_startup_parameters": NOT_HEEDED,
    },
    "each session": {"pool_mode": "session", "default_pool_size": 60},
    "each session, settings not heeded": {
        "pool_mode": "session",
        "default_pool_size": 60,
        "ignore_startup_parameters": NOT_HEEDED,
    },
}


@pytest.fixture(params=WAYS)
async def databases(
    request: pytest.FixtureRequest, postgres: PostgresServer
) -> AsyncIterator[list[Any]]:
    """Those of four processes."""
    url = postgres.new_database()
    async with AsyncExitStack() as stack:
        port = stack.enter_context(running_pgbouncer(postgres, **WAYS[request.param]))
        pooled = url.replace(str(postgres.port), str(port))
        opened = await asyncio.gather(*(open_database(pooled) for _ in range(4)))
        for one in opened:
            stack.push_async_callback(one.aclose)
        yield list(opened)


async def test_many_at_once_read_and_write_what_is_theirs(databases: list[Any]) -> None:
    async def act(number: int) -> None:
        database, name = databases[number % len(databases)], f"key-{number}"
        await database.write(lambda connection: add_key(connection, name))
        assert await database.poll(TENANT_OF, name) == ("t",)
        assert await database.poll(TENANT_OF, "nobody's") is None
        found = select(api_keys.c.id).where(api_keys.c.id == name)
        assert await database.read(lambda c: c.execute(found).scalar_one()) == name

    await asyncio.gather(*(act(number) for number in range(60)))
    assert await databases[0].read(count_keys) == 60


async def test_a_transaction_has_its_limits(databases: list[Any]) -> None:
    def limits(connection: Connection) -> list[str]:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    for database in databases:
        assert await database.write(limits) == ["10s", "5s", "10s"]
        assert await database.read(limits) == ["10s", "5s", "10s"]
