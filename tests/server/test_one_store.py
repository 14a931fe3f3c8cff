"""A process whose store, or database, is not that of the others is refused before it takes work."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.process import serve_from_folder
from batch_gateway.server.server_config import Role, ServerConfig
from batch_gateway.service.file_records import FileState, add_file, object_name
from batch_gateway.service.one_store import adopt_store, require_one_store
from batch_gateway.service.open_database import open_database
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.storage.folder import LocalFolder
from tests.peers.postgres import PostgresServer
from tests.service.records import a_file

pytestmark = pytest.mark.anyio


async def start(folder: Path, database: str) -> None:
    """A process that starts and stops again."""
    config = ServerConfig(port=0, observability_port=0)
    async with serve_from_folder(
        folder, Routing(), config, ProcessorConfig(), role=Role.API, database=database
    ):
        pass


async def refusal(folder: Path, database: str) -> str:
    with pytest.raises(ConfigError, match="migrate --adopt-store") as caught:
        await start(folder, database)
    assert caught.value.field == "store"
    return caught.value.problem


async def adopt(folder: Path, database: str) -> None:
    records, storage = await open_database(database), LocalFolder(folder / "files")
    await adopt_store(records, storage, place=str(folder))
    await records.aclose()
    await storage.aclose()


async def test_a_folder_on_each_machine_is_no_store_of_a_fleet(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    database = postgres.new_database_with_tables()
    one, other = tmp_path / "one", tmp_path / "other"
    for _ in range(2):
        await start(one, database)
    said = await refusal(other, database)
    assert f"the files of {database} are in {one} of " in said
    assert f"and not in {other} of " in said


async def test_two_databases_over_one_store_are_told_apart(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    first, second = [postgres.new_database_with_tables() for _ in range(2)]
    await start(tmp_path, first)
    said = await refusal(tmp_path, second)
    assert f"has the files of another database than {second}" in said
    # Which is as new as it was.
    await start(tmp_path / "its own", second)


async def test_of_many_that_start_first_at_once_those_with_one_store_start(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    database = postgres.new_database()
    folders = [tmp_path / name for name in ("shared", "shared", "shared", "own", "shared")]
    results = await asyncio.gather(
        *(start(folder, database) for folder in folders), return_exceptions=True
    )
    started = {folder for folder, one in zip(folders, results, strict=True) if one is None}
    refused = [one for one in results if one is not None]
    assert len(started) == 1
    assert all(isinstance(one, ConfigError) for one in refused), refused
    assert len(refused) == (1 if started == {tmp_path / "shared"} else 4)


async def test_whoever_died_between_two_steps_of_the_first_start_is_followed(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    database = postgres.new_database_with_tables()
    await start(tmp_path, database)
    name = database.rpartition("/")[2]
    postgres.execute("UPDATE fleets SET store = NULL, place = NULL", name)
    await start(tmp_path, database)
    await refusal(tmp_path / "other", database)


async def test_an_older_database_that_has_files_has_them_in_its_store(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    database = postgres.new_database_with_tables()
    records, right = await open_database(database), LocalFolder(tmp_path / "right" / "files")
    kept, lost = a_file(), a_file()
    for file in (kept, lost):
        await records.write(partial(add_file, record=file, state=FileState.STORED))
    await right.put(object_name(kept.id), b"x")
    await right.aclose()
    await records.aclose()
    said = await refusal(tmp_path / "wrong", database)
    assert f"the latest files of {database} are not in {tmp_path / 'wrong'}" in said
    await start(tmp_path / "right", database)


async def test_files_that_were_moved_or_restored_are_adopted_and_the_old_place_is_refused(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    database = postgres.new_database_with_tables()
    old, new = tmp_path / "old", tmp_path / "new"
    await start(old, database)
    shutil.copytree(old, new)
    await adopt(new, database)
    await start(new, database)
    assert f"are in {new}, and not in {old} of " in await refusal(old, database)
    # A database of before there were any, restored.
    postgres.execute("DELETE FROM fleets", database.rpartition("/")[2])
    await refusal(new, database)
    await adopt(new, database)
    await start(new, database)


@pytest.mark.parametrize(
    ("places", "starts"),
    [
        (["s3://a/p", "s3://a/p"], True),
        (["s3://a/p", "s3://b/p"], False),
        (["s3://a", "gs://a"], False),
        (["/srv/a of one", "s3://b"], False),
        # Mounted under another name.
        (["/srv/a of one", "/mnt/a of two"], True),
    ],
)
async def test_a_copy_of_a_bucket_is_not_the_bucket(
    tmp_path: Path, postgres: PostgresServer, places: Sequence[str], starts: bool
) -> None:
    async with AsyncExitStack() as stack:
        records = await open_database(postgres.new_database_with_tables())
        stack.push_async_callback(records.aclose)
        storage = LocalFolder(tmp_path)
        stack.push_async_callback(storage.aclose)
        first, second = [
            partial(require_one_store, records, storage, place=place, database_place="db")
            for place in places
        ]
        await first()
        if starts:
            await second()
            return
        with pytest.raises(ConfigError, match=f"are in {places[0]}, and not in {places[1]}"):
            await second()


async def test_what_is_no_identity_is_another_databases(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    database = postgres.new_database_with_tables()
    for data in (b"", b"hello", b"{}", b'{"store": 1}', b"\xff"):
        storage = LocalFolder(tmp_path / "files")
        await storage.put("identity", data)
        await storage.aclose()
        assert "another database" in await refusal(tmp_path, database)
