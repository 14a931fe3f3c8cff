"""The settings of `serve`: each reaches the service from a flag, a variable and a file alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from batch_gateway.cli.records_place import database_url
from batch_gateway.errors import ConfigError
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.postgres_url import shown_url
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.settings.config_file import load_config_file
from batch_gateway.settings.run_settings import resolve_settings
from batch_gateway.settings.service_settings import (
    naming_the_service_setting,
    resolve_records,
    resolve_service,
)
from batch_gateway.settings.service_table import PROCESSOR_FIELDS, SERVER_FIELDS
from batch_gateway.settings.setting import ConfigFile
from batch_gateway.settings.table import SETTINGS
from batch_gateway.storage.store_address import StoreAddress
from tests.cli.commands import batch_gateway

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
# A user has no use for these: keys come from elsewhere.
LEFT_OUT = {"header_keys", "max_bytes_in_flight"}


def test_every_field_of_the_service_can_be_set() -> None:
    of_server = {field.name for field in dataclasses.fields(ServerConfig)}
    of_processor = {field.name for field in dataclasses.fields(ProcessorConfig)}
    assert set(SERVER_FIELDS.values()) == of_server - LEFT_OUT
    assert set(PROCESSOR_FIELDS.values()) == of_processor - LEFT_OUT


@pytest.mark.parametrize("name", [*SERVER_FIELDS, *PROCESSOR_FIELDS])
def test_the_default_that_is_shown_is_the_services(name: str) -> None:
    config: Any = ServerConfig() if name in SERVER_FIELDS else ProcessorConfig()
    value = getattr(config, {**SERVER_FIELDS, **PROCESSOR_FIELDS}[name])
    assert (SETTINGS[name].default_value or None) == (value or None)


LLM_D = """\
host: 127.0.0.1
port: "8000"
input_headers: {tenant: X-User}
read_header_timeout_seconds: 11
read_timeout_seconds: 901
write_timeout_seconds: 120
idle_timeout_seconds: 91
batch_api: {batch_event_ttl_seconds: 2592000, pass_through_headers: [X-Team]}
file_api: {default_expiration_seconds: 3600, max_size_bytes: 1000, max_line_count: 7}
default_output_expiration_seconds: 7200
num_workers: 3
poll_interval: 5s
task_wait_time: 1s
db_client: {type: postgresql}
"""


def test_the_files_of_llm_ds_batch_gateway_mean_what_they_mean_there(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{LLM_D}gateway: http://g\nheader_keys_file: keys\n")
    (tmp_path / "keys").write_text(f"{KEY}\n{KEY}\n")
    file = load_config_file(path, command="serve")
    found = resolve_service({}, {}, file)
    assert found.server == {
        "host": "127.0.0.1",
        "port": 8000,
        "tenant_header": "X-User",
        "read_header_timeout": 11.0,
        "read_timeout": 901.0,
        "idle_timeout": 91.0,
        "pass_through_headers": ("X-Team",),
        "header_keys": [KEY, KEY],
        "file_lifetime": 3600.0,
        "max_file_bytes": 1000,
        "max_file_lines": 7,
    }
    assert found.processor == {"output_lifetime": 7200.0, "workers": 3, "poll_interval": 5.0}
    told = "\n".join(file.notes)
    assert "db_client: nothing to do in serve, files are in --data, and records there" in told
    assert "for a service alone" not in told
    assert resolve_settings({}, {}, load_config_file(path)).gateway is not None  # of a run too


def stored(text: str, variables: Mapping[str, str] | None = None, **flags: object) -> object:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(f"gateway: http://g\n{text}")
        file = load_config_file(path, command="serve")
        given = {name: SETTINGS[name].parse(name, str(value)) for name, value in flags.items()}
        return resolve_service(given, variables or {}, file).store


def test_files_are_in_a_folder_or_in_the_bucket_that_is_named() -> None:
    there = StoreAddress(scheme="s3", bucket="data", prefix="p", region="r")
    assert stored("") is None
    assert stored("store: s3://data/p?region=r\n") == there
    assert stored("", {"BATCH_GATEWAY_STORE": "s3://data/p?region=r"}) == there
    assert stored("store: gs://other\n", store="s3://data/p?region=r") == there


def test_the_file_client_of_llm_ds_batch_gateway_is_a_store() -> None:
    text = """\
file_client:
  type: s3
  fs: {base_path: /tmp/batch-gateway}
  s3: {bucket: data, region: r, endpoint: "%s", access_key_id: AK, prefix: /p/, use_path_style: %s,
       auto_create_bucket: true}
  retry: {max_retries: 3, initial_backoff: 1s}
"""
    address = StoreAddress(
        scheme="s3", bucket="data", prefix="p", region="r", access_key_id="AK", path_style=False
    )
    assert stored(text % ("", "false")) == address
    at = msgspec.structs.replace(address, endpoint="http://h:9", path_style=True)
    assert stored(text % ("http://h:9", "true")) == at
    assert stored(text.replace("type: s3", "type: fs") % ("", "true")) is None
    assert stored(text % ("", "true"), store="az://box") == StoreAddress(scheme="az", bucket="box")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "file_client: {type: s3, s3: {region: r}}",
            "file_client.type: is s3, which needs",
        ),
        ("file_client: {type: s3, s3: {bucket: b}}", "file_client.s3.bucket: has no name"),
        ("file_client: {type: mock}", "mock is not one of fs, s3"),
        ("file_client: {type: s3, s3: {bucket: data, bogus: 1}}", "bogus"),
        ("store: s3://data?secret_access_key=HIDDEN", "c.yaml:2: store: must have no keys in it"),
    ],
)
def test_a_store_that_cannot_be_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        stored(text)
    assert "HIDDEN" not in str(caught.value)


def test_a_file_for_runs_does_for_a_service(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "gateway: http://g\noutput: o\ndeadline: 2h\nstream_upstream: true\nidle_timeout: 9s\n"
    )
    file = load_config_file(path, command="serve")
    assert resolve_service({}, {}, file).server == {}
    assert resolve_settings({}, {}, file, command="serve").deadline is None
    assert file.notes == (f"{path}: output, deadline: nothing to do in serve, for run alone",)


def test_a_flag_wins_over_a_variable_and_that_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("port: 1\nobservability_port: 1\nhost: a\n")
    variables = {"BATCH_GATEWAY_PORT": "2", "BATCH_GATEWAY_OBSERVABILITY_PORT": "2"}
    found = resolve_service({"port": 3}, variables, load_config_file(path, command="serve"))
    assert found.server == {"port": 3, "observability_port": 2, "host": "a"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"tls_certificate": Path("/c")}, "--tls-certificate: needs tls_key beside it"),
        ({"tls_key": Path("/nowhere"), "tls_certificate": Path("/nowhere")}, "--tls-certificate:"),
        ({"pass_through_headers": ("X-A",)}, "--header-keys-file: is needed to keep the headers"),
        ({"tenant_max_bytes": 0}, "--tenant-max-bytes: "),
        ({"tenant_header": "a b"}, "--tenant-header['a b']: "),
        ({"header_keys_env": "K"}, "--header-keys-env: does nothing without --pass-through-header"),
        (
            {"pass_through_headers": ("X-A",), "header_keys_env": "NOT_SET"},
            "--header-keys-env: NOT_SET is empty",
        ),
        ({"database_password_file": Path("/p")}, "--database-password-file: does nothing without"),
    ],
)
def test_what_cannot_be_is_said_of_the_flag(flags: dict[str, Any], said: str) -> None:
    def make() -> None:
        found = resolve_service(flags, {}, ConfigFile())
        with naming_the_service_setting(found.given):
            ServerConfig(**found.server)

    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(said)


def test_a_worker_needs_no_list_of_headers_to_read_what_others_have_sealed() -> None:
    flags = {"role": "worker", "header_keys_env": "SEAL"}
    found = resolve_service(flags, {"SEAL": KEY}, ConfigFile())
    assert ServerConfig(**found.server).header_keys == [KEY]


def test_the_password_of_a_database_may_be_in_a_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a/b c\n")
    flags = {"database_password_file": tmp_path / "password"}
    variables = {"BATCH_GATEWAY_DATABASE": "postgresql://me@h:5/d?sslmode=require"}
    found = resolve_service(flags, variables, ConfigFile())
    url = database_url(found.records)
    assert url == "postgresql://me:a%2Fb%20c@h:5/d?sslmode=require"
    assert shown_url(url) == "postgresql://me@h:5/d"
    assert "a/b c" not in repr(found)
    assert "a/b c" not in repr(found.records)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@h/d",
        "postgresql:secret",
        "postgresql://me:secret@h:port/d",
        "postgresql://me:sec/ret@h/d",
        "postgresql://me:sec#ret@h/d",
        "postgresql://me:sec?ret@h/d",
    ],
)
def test_a_database_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shown_url(resolve_records({}, {"BATCH_GATEWAY_DATABASE": url}).database or "")
    assert "database" in str(caught.value).lower()
    assert not any(part in str(caught.value) for part in ("secret", "sec", "ret@", "me:"))


def test_keys_of_headers_may_come_from_a_variable() -> None:
    flags = {"pass_through_headers": ("X-A",), "header_keys_env": "SEAL"}
    found = resolve_service(flags, {"SEAL": f"{KEY},{KEY}"}, ConfigFile())
    assert found.server["header_keys"] == [KEY, KEY]


def test_the_command_says_what_cannot_be_and_ends(tmp_path: Path) -> None:
    variables = {"BATCH_GATEWAY_PORT": "99999"}
    done = batch_gateway("serve", "--gateway", "simulator", cwd=tmp_path, variables=variables)
    assert done.returncode == 2
    assert done.stderr == "Error: BATCH_GATEWAY_PORT: 99999 is not a port, 0 to 65535\n"
