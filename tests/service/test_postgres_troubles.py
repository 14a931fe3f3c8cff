"""What PostgreSQL does to those who use it for long: connections that end, servers that become
others' copies, too few connections, certificates, passwords, and users that may not do all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from sqlalchemy import Connection, bindparam, delete, select, text, update

from batch_gateway.errors import RecordsError, RecordsUnavailableError
from batch_gateway.service.database import Database
from batch_gateway.service.open_database import open_database
from batch_gateway.service.postgres_url import with_password
from batch_gateway.service.tables import api_keys
from tests.peers.postgres import PostgresServer, running_postgres
from tests.service.test_database import add_key, count_keys

pytestmark = pytest.mark.anyio

TENANT_OF = select(api_keys.c.tenant).where(api_keys.c.id == bindparam("id"))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One whose settings tests may change."""
    with running_postgres("of-troubles") as running:
        running.make_template()
        yield running


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await open_database(url)
    try:
        yield database
    finally:
        await database.aclose()


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def end_connections(server: PostgresServer, url: str) -> None:
    """As a failover, a firewall or a pooler does."""
    mine = f"datname = '{name_of(url)}' AND pid <> pg_backend_pid()"
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")


async def use_all_connections(database: Database) -> None:
    """At once: reading, writing and looking up."""
    held = text("SELECT pg_sleep(0.05)")
    await asyncio.gather(
        *(database.read(lambda c: c.execute(held).all()) for _ in range(4)),
        *(database.write(lambda c: c.execute(held).all()) for _ in range(4)),
        *(database.poll(TENANT_OF, "k") for _ in range(4)),
    )


async def test_connections_that_ended_while_nobody_used_them_are_nobodys_trouble(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.new_database_with_tables()
    async with opened(url) as database:
        for _ in range(3):
            await use_all_connections(database)
            end_connections(server, url)
            await use_all_connections(database)
        assert database.trouble is None
    assert not [one for one in caplog.records if one.name.startswith("batch_gateway")]


async def test_a_server_that_is_a_copy_for_a_while_is_left_when_it_is_none_any_more(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.new_database_with_tables()
    async with opened(url) as database:
        server.execute(f"ALTER DATABASE {name_of(url)} SET default_transaction_read_only = on")
        end_connections(server, url)
        await use_all_connections(database)
        for number in range(5):
            with pytest.raises(RecordsUnavailableError, match="read-only transaction"):
                await database.write(lambda c, n=number: add_key(c, f"k{n}"))
        # It is one trouble, whatever they would write.
        for statement in (delete(api_keys), update(api_keys).values(tenant="u")):
            with pytest.raises(RecordsUnavailableError, match="read-only transaction"):
                await database.write(lambda c, s=statement: c.execute(s))
        assert await database.read(count_keys) == 0
        server.execute(f"ALTER DATABASE {name_of(url)} RESET default_transaction_read_only")
        # Its connections are to what was the copy.
        await database.write(add_key)
        assert await database.read(count_keys) == 1
    told = [one for one in caplog.records if one.name.startswith("batch_gateway")]
    assert len(told) <= 2, [one.getMessage() for one in told]


async def test_too_few_connections_make_it_slower_and_lose_nothing(server: PostgresServer) -> None:
    url = server.new_database_with_tables()
    server.execute("CREATE ROLE modest LOGIN CONNECTION LIMIT 3")
    server.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO modest", name_of(url))
    async with opened(url.replace("postgres@", "modest@")) as database:

        async def write(number: int) -> None:
            await database.write(lambda connection: add_key(connection, f"k{number}"))

        await asyncio.gather(*(write(number) for number in range(16)))
        assert await database.read(count_keys) == 16


async def test_a_server_without_a_connection_to_spare_is_waited_for_at_the_start(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.new_database_with_tables()
    server.execute("CREATE ROLE waiting LOGIN CONNECTION LIMIT 0")
    server.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO waiting", name_of(url))
    opening = asyncio.create_task(open_database(url.replace("postgres@", "waiting@")))
    while "too many connections" not in caplog.text:
        await asyncio.sleep(0.02)
    assert not opening.done()
    server.execute("ALTER ROLE waiting CONNECTION LIMIT -1")
    database = await opening
    await database.write(add_key)
    await database.aclose()
    told = [one.levelno for one in caplog.records if one.name == "batch_gateway.records"]
    assert told == [logging.ERROR, logging.WARNING]


async def test_a_statement_that_takes_too_long_is_ended_and_the_next_is_not(
    server: PostgresServer,
) -> None:
    def dawdle(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = '10ms'"))
        connection.execute(text("SELECT pg_sleep(60)"))

    async with opened(server.new_database_with_tables()) as database:
        with pytest.raises(RecordsUnavailableError, match="statement timeout"):
            await database.write(dawdle)
        assert database.trouble is not None
        await database.write(add_key)
        assert database.trouble is None


PASSWORD = "p@ss/w:rd#?% \u00fc'\"&=[]"


async def test_a_password_may_have_any_character_in_the_url_or_in_a_file(
    server: PostgresServer,
) -> None:
    url = server.new_database_with_tables()
    quoted = PASSWORD.replace("'", "''")
    server.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{quoted}'")
    server.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO guarded", name_of(url))
    server.ask_for_passwords("guarded")
    guarded = url.replace("postgres@", "guarded@")
    given = guarded.replace("guarded@", f"guarded:{quote(PASSWORD, safe='')}@")
    for allowed in (given, with_password(guarded, PASSWORD)):
        async with opened(allowed) as database:
            await database.read(count_keys)
    for refused in (guarded, guarded.replace("guarded@", "guarded:WR0NG@")):
        with pytest.raises(RecordsError) as caught:
            await open_database(refused)
        assert "password" in str(caught.value)
        assert "WR0NG" not in str(caught.value)


async def test_what_a_user_may_not_do_is_told_with_who_may(server: PostgresServer) -> None:
    empty, made = server.new_database(), server.new_database_with_tables()
    server.execute("CREATE ROLE humble LOGIN")
    for url in (empty, made):
        with pytest.raises(RecordsError, match="permission denied.*`batch-gateway migrate`"):
            await open_database(url.replace("postgres@", "humble@"))
    # What `migrate` has made by another.
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    server.execute(f"GRANT {rights} TO humble", name_of(made))
    async with opened(made.replace("postgres@", "humble@")) as database:
        await database.write(add_key)
        assert await database.poll(TENANT_OF, "k") == ("t",)


async def test_tls_is_as_the_url_says(server: PostgresServer, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    server.speak_tls(own.cert_chain_pems[0].bytes(), own.private_key_pem.bytes())
    files = {"own": authority, "strange": stranger}
    for name, one in files.items():
        one.cert_pem.write_to_path(str(tmp_path / name))
    url = server.new_database_with_tables()
    encrypted = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    trusted = f"sslmode=verify-full&sslrootcert={tmp_path / 'own'}"
    for parameters, expected in (("sslmode=disable", False), ("sslmode=require", True),
        (trusted, True)):  # fmt: skip
        async with opened(f"{url}?{parameters}") as database:
            assert await database.read(lambda c: c.execute(encrypted).scalar_one()) is expected
            assert await database.poll(encrypted) == (expected,)
    refused = {
        f"sslmode=verify-full&sslrootcert={tmp_path / 'strange'}": "certificate",
        f"sslmode=verify-full&sslrootcert={tmp_path / 'nowhere'}": "sslrootcert",
        "sslmode=perhaps": "sslmode",
    }
    for parameters, said in refused.items():
        with pytest.raises(RecordsError, match=said):
            await open_database(f"{url}?{parameters}")
