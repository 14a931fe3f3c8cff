"""The database: several processes at once, all or nothing, and errors that a person understands."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, bindparam, func, select, text

from batch_gateway.errors import RecordsError
from batch_gateway.service import migrate
from batch_gateway.service.batch_records import add_batch, poll_batch
from batch_gateway.service.database import Database, database_now
from batch_gateway.service.file_records import FileState, add_file
from batch_gateway.service.open_database import open_database
from batch_gateway.service.tables import api_keys, metadata
from tests.service.newer_version import NEXT, migrate_with_the_next_version
from tests.service.records import a_batch, a_file

pytestmark = pytest.mark.anyio


NewPlaces = Callable[[], Path | str]


def add_key(connection: Connection, name: str = "k") -> None:
    connection.execute(
        api_keys.insert().values(id=name, tenant="t", label="", digest=name.encode(), created_at=1)
    )


def count_keys(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(api_keys)).scalar_one()


async def test_what_was_written_is_there_when_it_is_opened_again(new_places: NewPlaces) -> None:
    place = new_places()
    for _ in range(2):
        database = await open_database(place)
        await database.aclose()
    database = await open_database(place)
    await database.write(add_key)
    await database.aclose()
    database = await open_database(place)
    assert await database.read(count_keys) == 1
    tenant_of = select(api_keys.c.tenant).where(api_keys.c.id == bindparam("id"))
    assert await database.poll(tenant_of, "k") == ("t",)
    assert await database.poll(tenant_of, "other") is None
    await database.aclose()


async def test_nobody_else_of_the_machine_reads_it(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "records.sqlite3")
    await database.write(add_key)
    made = [entry for entry in os.scandir(tmp_path) if entry.name.startswith("records")]
    assert len(made) >= 3  # its log and index too
    assert [entry.name for entry in made if entry.stat().st_mode & 0o077] == []
    await database.aclose()


async def test_an_action_that_raises_has_changed_nothing(database: Database) -> None:
    def fail(connection: Connection) -> None:
        add_key(connection)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await database.write(fail)
    assert await database.read(count_keys) == 0


async def test_an_error_of_the_database_shows_no_statement_and_no_value(database: Database) -> None:
    await database.write(lambda connection: add_key(connection, "secret"))
    with pytest.raises(RecordsError) as caught:
        await database.write(lambda connection: add_key(connection, "secret"))
    assert "secret" not in str(caught.value)
    assert "INSERT" not in str(caught.value)


async def test_the_database_tells_the_time_in_fractions_of_a_second(database: Database) -> None:
    def moments(connection: Connection) -> list[float]:
        return [connection.execute(select(database_now())).scalar_one() for _ in range(50)]

    found = await database.read(moments)
    assert abs(found[0] - time.time()) < 5
    assert len(set(found)) > 1


async def test_the_migrations_lead_to_the_tables_that_the_code_uses(new_places: NewPlaces) -> None:
    def compare(connection: Connection) -> None:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == migrate.NEWEST

    database = await open_database(new_places())
    await database.read(compare)
    await database.aclose()


async def test_what_a_newer_version_changed_is_left_alone(place: Path | str) -> None:
    database = await open_database(place)
    changed = text("UPDATE alembic_version SET version_num='second-0001'")
    await database.write(lambda connection: connection.execute(changed))
    await database.aclose()
    wrong = r"newer version of batch-gateway, which changed .*'second-0001'.* upgrade"
    with pytest.raises(RecordsError, match=wrong):
        await open_database(place)


async def test_what_a_newer_version_only_added_to_is_worked_with(
    place: Path | str, tmp_path: Path
) -> None:
    database = await open_database(place)
    file = a_file()
    batches = [a_batch(id=f"batch_{when}", input_file_id=file.id) for when in ("before", "since")]
    await database.write(partial(add_file, record=file, state=FileState.STORED))
    await database.write(partial(add_batch, record=batches[0]))
    await database.aclose()
    where = ("--data", place.parent) if isinstance(place, Path) else ("--database", place)
    migrate_with_the_next_version(tmp_path, *where)
    database = await open_database(place)
    await database.write(partial(add_batch, record=batches[1]))
    for batch in batches:
        assert (await poll_batch(database, batch.tenant, batch.id)).id == batch.id
    form = text("SELECT version_num FROM alembic_version")
    assert await database.read(lambda connection: connection.execute(form).scalar()) == NEXT
    await database.aclose()


async def test_a_file_that_is_no_database_of_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite3"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (x)")
    connection.close()
    with pytest.raises(RecordsError, match=r"other\.sqlite3 is a database of something else"):
        await open_database(other)
    text_file = tmp_path / "notes.txt"
    text_file.write_text("hello, this is no database\n" * 100)
    assert other.read_bytes()[18:20] == b"\1\1", "its way of writing was changed"
    with pytest.raises(RecordsError, match=r"notes\.txt: file is not a database"):
        await open_database(text_file)
    with pytest.raises(RecordsError, match=r"notes\.txt/records\.sqlite3: "):
        await open_database(text_file / "records.sqlite3")


OPENER = """
import asyncio, sys
from sqlalchemy import text
from batch_gateway.service.database import in_turn
from batch_gateway.service.open_database import open_database

async def main():
    database = await open_database(sys.argv[1])
    def count(connection):
        in_turn(connection, "keys")
        seen = connection.execute(text("SELECT count(*) FROM api_keys")).scalar_one()
        connection.execute(text(
            "INSERT INTO api_keys (id, tenant, label, digest, created_at)"
            " VALUES (:name, 't', '', :digest, 0)"),
            {"name": f"{sys.argv[2]}-{seen}", "digest": f"{sys.argv[2]}-{seen}".encode()})
    for _ in range(50):
        await database.write(count)
    await database.aclose()

asyncio.run(main())
"""


async def test_several_processes_open_an_empty_database_at_once_and_write_to_it(
    new_places: NewPlaces,
) -> None:
    path = new_places()
    openers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", OPENER, path, str(number))
        for number in range(4)
    ]
    assert [await opener.wait() for opener in openers] == [0, 0, 0, 0]
    database = await open_database(path)
    assert await database.read(count_keys) == 200
    numbers = await database.read(
        lambda connection: connection.execute(select(api_keys.c.id)).scalars().all()
    )
    # Each saw all that others had written before it, in its turn.
    assert sorted(int(name.partition("-")[2]) for name in numbers) == list(range(200))
    await database.aclose()


async def test_a_process_killed_while_it_makes_the_tables_leaves_them_to_the_next(
    tmp_path: Path,
) -> None:
    for number in range(4):
        path = tmp_path / f"{number}.sqlite3"
        opener = await asyncio.create_subprocess_exec(sys.executable, "-c", OPENER, path, "x")
        while not path.exists() and opener.returncode is None:
            await asyncio.sleep(0.001)
        opener.kill()
        await opener.wait()
        database = await open_database(path)
        await database.write(lambda connection: add_key(connection, "mine"))
        await database.aclose()
