"""`keys`: API keys of a service, which are shown once, listed without themselves, and revoked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.service.api_keys import tenant_of_key
from batch_gateway.service.open_database import open_database
from tests.cli.commands import Finished, batch_gateway
from tests.peers.postgres import PostgresServer


def keys(*arguments: str, cwd: Path, data: str = "data") -> Finished:
    return batch_gateway("keys", *arguments, "--data", data, cwd=cwd)


def listed(cwd: Path) -> list[dict[str, Any]]:
    return json.loads(keys("list", "--json", cwd=cwd).stdout)


async def owner(folder: Path, secret: str) -> str | None:
    database = await open_database(folder / "records.sqlite3")
    try:
        return await tenant_of_key(database, secret)
    finally:
        await database.aclose()


def test_the_one_line_on_standard_output_is_a_key_of_the_tenant(tmp_path: Path) -> None:
    done = keys("create", "--tenant", "blue", "--label", "ci", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    secret = done.stdout.strip()
    assert asyncio.run(owner(tmp_path / "data", secret)) == "blue"
    assert secret not in done.stderr
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert secret.encode() not in stored


def test_the_list_shows_every_key_but_not_what_opens(tmp_path: Path) -> None:
    secrets = [
        keys("create", "--tenant", name, "--label", f"for {name}", cwd=tmp_path).stdout.strip()
        for name in ("red", "blue")
    ]
    shown = keys("list", cwd=tmp_path).stdout
    assert [line.split()[1] for line in shown.splitlines()] == ["TENANT", "blue", "red"]
    assert "for red" in shown
    assert not any(secret in shown + json.dumps(listed(tmp_path)) for secret in secrets)


def test_a_revoked_key_stays_in_the_list_and_cannot_be_revoked_again(tmp_path: Path) -> None:
    created = keys("create", "--tenant", "blue", "--json", cwd=tmp_path)
    key_id = json.loads(created.stdout)["id"]
    assert keys("revoke", key_id, cwd=tmp_path).returncode == 0
    [found] = listed(tmp_path)
    assert found["revoked_at"] >= found["created_at"]
    again = keys("revoke", key_id, cwd=tmp_path)
    assert again.returncode == 2
    assert f"no key that is not revoked has the id {key_id}" in again.stderr


def test_who_names_a_key_by_itself_is_told_to_use_its_id_and_it_is_not_shown(
    tmp_path: Path,
) -> None:
    secret = keys("create", "--tenant", "blue", cwd=tmp_path).stdout.strip()
    done = keys("revoke", secret, cwd=tmp_path)
    assert done.returncode == 2
    assert "by its id" in done.stderr
    assert secret not in done.stderr


@pytest.mark.parametrize("tenant", ["", "  ", "a\nb", "x" * 257])
def test_a_tenant_needs_a_name_that_a_header_could_have(tenant: str, tmp_path: Path) -> None:
    done = keys("create", "--tenant", tenant, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--tenant: must be a name" in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "key_1"]])
def test_a_folder_without_a_service_is_named_and_not_made(
    arguments: list[str], tmp_path: Path
) -> None:
    done = keys(*arguments, cwd=tmp_path, data="elsewhere")
    assert done.returncode == 2
    assert "there is no service in elsewhere: name its folder with --data" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_made_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = keys("create", "--tenant", "blue", cwd=tmp_path, data="file/data")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "file/data" in done.stderr


def test_keys_of_a_service_whose_records_are_in_a_database(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    place = ("--database", postgres.new_database_with_tables())
    made = keys("create", "--tenant", "one", "--json", *place, cwd=tmp_path)
    assert json.loads(made.stdout)["tenant"] == "one"
    listed = keys("list", "--json", *place, cwd=tmp_path)
    assert [key["tenant"] for key in json.loads(listed.stdout)] == ["one"]
