"""A missing extra is answered by the command that adds it to this installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_gateway.extras import command_for

_RELEASE = '{ name = "batch-gateway" }'
_CLONE = '{ name = "batch-gateway", directory = "/srv/a clone" }'


def receipt(*requirements: str) -> str:
    return f"[tool]\nrequirements = [{', '.join(requirements)}]\n"


def test_an_environment_of_pip_is_told_of_pip(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    assert command_for("report", tmp_path) == "pip install 'batch-gateway[report]'"


def test_a_python_without_an_environment_is_told_of_pip(tmp_path: Path) -> None:
    assert command_for("report", tmp_path) == "pip install 'batch-gateway[report]'"


def test_an_environment_of_uv_is_told_of_uv(tmp_path: Path) -> None:
    # There is no pip in it.
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.13.9\n")
    assert command_for("otel", tmp_path) == "uv pip install 'batch-gateway[otel]'"


def test_a_program_of_pipx_is_told_to_inject(tmp_path: Path) -> None:
    root = tmp_path / "batch-gateway-next"
    root.mkdir()
    (root / "pipx_metadata.json").write_text("{}")
    assert command_for("grpc", root) == "pipx inject batch-gateway-next 'batch-gateway[grpc]'"


@pytest.mark.parametrize(
    ("said", "command"),
    [
        (receipt(_RELEASE), "batch-gateway --with 'batch-gateway[server]'"),
        (receipt(_CLONE), "'/srv/a clone' --with 'batch-gateway[server]'"),
        ("not a receipt", "batch-gateway --with 'batch-gateway[server]'"),
        ("[tool]\n", "batch-gateway --with 'batch-gateway[server]'"),
    ],
)
def test_a_tool_of_uv_is_installed_with_it(tmp_path: Path, said: str, command: str) -> None:
    (tmp_path / "uv-receipt.toml").write_text(said)
    (tmp_path / "pyvenv.cfg").write_text("uv = 0.13.9\n")
    assert command_for("server", tmp_path) == f"uv tool install {command}"


def test_a_tool_of_uv_keeps_what_it_was_installed_with(tmp_path: Path) -> None:
    own = '{ name = "batch-gateway", extras = ["report", "tables"] }'
    other = '{ name = "opentelemetry-distro", specifier = ">=0.50" }'
    (tmp_path / "uv-receipt.toml").write_text(receipt(_RELEASE, own, other))
    assert command_for("otel", tmp_path) == (
        "uv tool install batch-gateway --with 'batch-gateway[report,tables,otel]'"
        " --with 'opentelemetry-distro>=0.50'"
    )
