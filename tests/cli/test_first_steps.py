"""What goes wrong in somebody's first minutes is told in a line or two, with a cure to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.cli.commands import batch_gateway, in_a_process

ROWS = "id,review\n" + "".join(f"{n},fine\n" for n in range(50))
MODEL = ("--model", "m")
ASKS = (*MODEL, "--template", "Rate: {review}")


def told(folder: Path, *arguments: str) -> str:
    """What a command that cannot do its work says, without a stack trace."""
    run = batch_gateway(*arguments, cwd=folder)
    assert run.returncode in (2, 3)
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_table_without_a_template_is_told_once_and_with_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    said = told(tmp_path, "run", "a.csv", "--gateway", "simulator", *MODEL)
    assert said.count("\n") == 5
    assert said.startswith("Error: a.csv has problems on 50 lines\n  line 2: has no column prompt")
    assert "give such as --template 'Rate this: {review}'" in said


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ('[{"prompt": "a"}, {"prompt": "b"}]', "jq -c '.[]' 'my file.json'"),
        ('[\n  {"prompt": "a"},\n  {"prompt": "b"}\n]\n', "jq -c '.[]' 'my file.json'"),
        ('\ufeff{\n  "prompt": "a"\n}\n', "jq -c . 'my file.json'"),
    ],
)
@pytest.mark.parametrize("more", [(), MODEL, (*MODEL, "--skip-bad-lines")])
def test_json_that_is_no_object_a_line_names_the_command_that_makes_it_so(
    tmp_path: Path, content: str, command: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "my file.json").write_text(content)
    said = told(tmp_path, "run", "my file.json", "--gateway", "simulator", *more)
    assert f"as `{command}` does" in said
    assert "line 1" not in said


def test_a_gateway_that_wants_a_key_says_where_to_put_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    with simulated_gateway(api_key="sk-right") as gateway:
        command = ("run", "a.csv", "--gateway", gateway.url, *ASKS)
        none = in_a_process(*command, cwd=tmp_path)
        wrong = in_a_process(*command, cwd=tmp_path, variables={"BATCH_GATEWAY_API_KEY": "no"})
    assert none.returncode == wrong.returncode == 3
    said = none.stdout + none.stderr
    assert "No key was sent: put it in BATCH_GATEWAY_API_KEY" in said
    assert f"To look closer: batch-gateway doctor --gateway {gateway.url}" in said
    assert "No key was sent" not in wrong.stdout + wrong.stderr


def test_https_to_a_server_without_tls_names_the_url_to_try(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    secure = gateway.url.replace("http://", "https://")
    said = told(tmp_path, "run", "a.csv", "--gateway", secure, *ASKS)
    assert f"it seems to speak no TLS here. Try {gateway.url}\n" in said
    assert f"batch-gateway doctor --gateway {secure}" in said


def test_a_folder_that_is_missing_can_be_made_with_the_command_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    command = ("run", "a.csv", "--gateway", "simulator", *ASKS, "-o", "out put/a.jsonl")
    assert f"does not exist: mkdir -p '{tmp_path}/out put'\n" in told(tmp_path, *command)


@pytest.mark.parametrize("command", [("run",), ("batches", "submit"), ("serve",)])
def test_help_is_a_command_too(tmp_path: Path, command: tuple[str, ...]) -> None:
    asked = batch_gateway("help", *command, cwd=tmp_path)
    assert asked.returncode == 0
    assert asked.stdout == batch_gateway(*command, "--help", cwd=tmp_path).stdout
