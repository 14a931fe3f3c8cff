"""`migrate`: the tables of a service are there before it starts, and again it has nothing to do."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands import batch_gateway
from tests.peers.postgres import PostgresServer


def test_the_tables_are_made_and_then_there_is_nothing_to_do(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    for _ in range(2):
        done = batch_gateway("migrate", cwd=tmp_path, variables={"BATCH_GATEWAY_DATABASE": url})
        assert done.returncode == 0, done.stderr
        assert "The tables are up to date" in done.stderr
    name = url.rpartition("/")[2]
    assert postgres.execute("SELECT count(*) FROM batches", name) == "0"


def test_those_in_a_folder_are_too(tmp_path: Path) -> None:
    assert batch_gateway("migrate", "--data", "data", cwd=tmp_path).returncode == 0
    assert (tmp_path / "data" / "records.sqlite3").exists()


def test_it_says_where_the_files_are_from_now_on(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    words = ("migrate", "--database", url, "--data", "moved", "--adopt-store")
    done = batch_gateway(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Its files are in {tmp_path / 'moved'} of " in done.stderr
    place = postgres.execute("SELECT place FROM fleets", url.rpartition("/")[2])
    assert place.startswith(f"{tmp_path / 'moved'} of ")


def test_a_database_that_is_another_programs_is_left_alone(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.execute("CREATE TABLE of_others (id int)", name)
    done = batch_gateway("migrate", "--database", url, cwd=tmp_path)
    assert done.returncode == 2
    assert "is a database of something else" in done.stderr
    tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name)
    assert tables == "of_others"


def test_one_that_is_not_there_is_told_without_the_password(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.url("nowhere").replace("postgres@", "postgres:of-the-database@")
    done = batch_gateway("migrate", cwd=tmp_path, variables={"BATCH_GATEWAY_DATABASE": url})
    assert done.returncode == 2
    assert "of-the-database" not in done.stderr
    assert "nowhere" in done.stderr
