"""A run that begins before its gateway does, as in a Job that starts together with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import batch_gateway, read_lines, started, wait_until, write_batch

LINES = 20


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.instant()) as running:
        yield running


def what_is_said(run: subprocess.Popen[str], wanted: str) -> str:
    """What it says until it says what is wanted."""
    assert run.stderr is not None
    said = ""
    while wanted not in said:
        line = run.stderr.readline()
        assert line, said
        said += line
    return said


@pytest.mark.parametrize("concurrency", ["1", "auto"])
def test_one_that_refuses_connections_is_waited_for_in_words(
    tmp_path: Path, gateway: GatewayHandle, concurrency: str
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    gateway.stop()
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--patience", "50s"]
    with started(*arguments, "--concurrency", concurrency, cwd=tmp_path) as run:
        said = what_is_said(run, "is failing; waiting up to 50.0s for it: ")
        assert "connection refused" in said
        gateway.start()
        _, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stderr
    assert f"{gateway.url} is back after" in stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == LINES


def test_one_whose_proxy_has_no_backend_yet_is_waited_for(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    gateway.set_faults({"status-503": 1.0})
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--patience", "50s"]
    with started(*arguments, "--max-retries", "1", cwd=tmp_path) as run:
        wait_until(lambda: gateway.journal()["by_status"].get("503", 0) > LINES, "it is refused")
        gateway.set_faults({})
        stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stdout + stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == LINES


def test_one_that_never_comes_ends_it_and_the_lines_stay_to_be_sent(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    gateway.stop()
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--patience", "1s"]
    done = batch_gateway(*arguments, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "the gateway has been failing for 1." in done.stdout
    assert "connection refused" in done.stdout
    assert read_lines(tmp_path / "out.errors.jsonl") == []
    gateway.start()
    assert batch_gateway(*arguments, cwd=tmp_path).returncode == 0
    assert len(read_lines(tmp_path / "out.jsonl")) == LINES


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://nowhere.invalid", "cannot be resolved"), ("https://{}", "seems to speak no TLS")],
)
def test_what_time_does_not_mend_ends_it_at_once(
    tmp_path: Path, gateway: GatewayHandle, url: str, said: str
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    where = url.format(gateway.url.removeprefix("http://"))
    done = batch_gateway("run", batch, "--gateway", where, "--patience", "10m", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("Error: the gateway cannot be reached; nothing was sent\n")
    assert said in done.stderr


def test_without_patience_it_is_said_how_to_wait(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    gateway.stop()
    done = batch_gateway("run", batch, "--gateway", gateway.url, cwd=tmp_path)
    assert done.returncode == 3
    assert "If it is still starting, --patience 10m waits for it" in done.stderr
