"""Standard streams that are closed, full, or have no UTF-8."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import COMMAND, batch_gateway, environment, read_lines, write_batch


def in_a_shell(
    *arguments: str, then: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with redirections, in a shell's notation."""
    command = " ".join(shlex.quote(word) for word in (*COMMAND, *arguments))
    return subprocess.run(
        ["/bin/sh", "-c", f"{command} {then}"],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("then", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_whose_streams_are_closed_does_its_work(
    tmp_path: Path, gateway: GatewayHandle, then: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    assert in_a_shell(*command, then=then, cwd=tmp_path).returncode == 0
    assert len(read_lines(tmp_path / "requests.results.jsonl")) == 5


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_of_the_summary_that_left_costs_no_result_and_no_words(
    tmp_path: Path, gateway: GatewayHandle, more: tuple[str, ...]
) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, *more)
    # `true` reads nothing and is gone before anything is written.
    run = in_a_shell(*command, then="| true", cwd=tmp_path)
    assert [line for line in run.stderr.decode().splitlines() if "Sending" not in line] == []
    assert len(read_lines(tmp_path / "requests.results.jsonl")) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_summary_that_cannot_be_written_is_said_and_the_results_are_kept(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--json")
    run = in_a_shell(*command, then=">/dev/full", cwd=tmp_path)
    assert run.returncode == 4
    assert run.stderr.decode().splitlines()[1:] == [
        "Error: standard output cannot be written: No space left on device"
    ]
    assert len(read_lines(tmp_path / "requests.results.jsonl")) == 5


def test_a_file_name_that_is_not_utf_8_gives_json_all_the_same(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xe9t.jsonl")
    write_batch(tmp_path / name, 1)
    for encoding in ("utf-8:strict", "utf-8:surrogateescape", "latin-1"):
        run = in_a_shell(
            "validate", name, "--json", then="", cwd=tmp_path, PYTHONIOENCODING=encoding
        )
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout.decode())["file"] == name


def test_a_stream_without_utf_8_shows_what_it_can(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", ["日本"])
    run = in_a_shell(
        "validate", "requests.jsonl", then="", cwd=tmp_path, PYTHONIOENCODING="latin-1"
    )
    assert run.returncode == 0
    assert run.stdout.decode().splitlines()[1] == r"  \u65e5\u672c  1"


@pytest.mark.parametrize("option", ["-o", "--errors"])
def test_results_cannot_go_to_standard_output(
    tmp_path: Path, gateway: GatewayHandle, option: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, option, "-", cwd=tmp_path
    )
    assert run.returncode == 2
    assert run.stderr.startswith(f"Error: {option} -: results are also the record")
    assert {path.name for path in tmp_path.iterdir()} == {"requests.jsonl"}
