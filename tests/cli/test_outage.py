"""A gateway that goes down while a batch runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import batch_gateway, read_lines, started, wait_until, write_batch

LINES = 400


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    # Slow enough that an outage falls into the middle of the batch.
    config = SimulatorConfig.small_gpu(seats=8, output_tokens=2, time_per_token=0.01)
    with simulated_gateway(config) as running:
        yield running


def completed(gateway: GatewayHandle) -> int:
    return gateway.journal()["completed"]


def test_no_line_spends_its_retries_on_an_outage_and_work_goes_on_soon_after(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--max-retries", "1"]
    with started(*arguments, cwd=tmp_path) as run:
        wait_until(lambda: completed(gateway) > LINES // 8, "the batch is under way")
        gateway.stop()
        # Longer than one retry of each line would last.
        time.sleep(4)
        before = completed(gateway)
        gateway.start()
        back = time.monotonic()
        wait_until(lambda: completed(gateway) > before, "work goes on")
        assert time.monotonic() - back < 5
        stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stdout + stderr
    assert f"{gateway.url} is failing; waiting up to 30m00s for it" in stderr
    assert f"{gateway.url} is back after" in stderr
    assert {line["custom_id"] for line in read_lines(tmp_path / "out.jsonl")} == {
        f"req-{number}" for number in range(1, LINES + 1)
    }


@pytest.mark.parametrize("fault", ["reset-before-headers", "status-503"])
def test_nor_on_one_of_a_gateway_that_has_answered_a_lot_just_now(
    tmp_path: Path, gateway: GatewayHandle, fault: str
) -> None:
    gateway.configure(latency_scale=0.0)
    batch = write_batch(tmp_path / "in.jsonl", 10_000)
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--json"]
    with started(*arguments, cwd=tmp_path) as run:
        wait_until(lambda: completed(gateway) > 1000, "the batch is under way")
        gateway.set_faults({fault: 1.0})
        # By then nearly every line would have spent its retries.
        time.sleep(3)
        gateway.set_faults({})
        stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stdout + stderr
    assert f"{gateway.url} is failing" in stderr
    told = json.loads(stdout)
    assert (told["succeeded"], told["outages"]) == (10_000, 1)
    assert told["outage_seconds"] > 2


def test_patience_ends_the_wait_and_the_lines_stay_to_be_sent(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--patience", "1s"]
    with started(*arguments, cwd=tmp_path) as run:
        wait_until(lambda: completed(gateway) > LINES // 8, "the batch is under way")
        gateway.stop()
        stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 3, stdout + stderr
    assert "has been failing" in stdout + stderr
    assert read_lines(tmp_path / "out.errors.jsonl") == []
    gateway.start()
    gateway.configure(latency_scale=0.0)
    done = batch_gateway(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    assert len(read_lines(tmp_path / "out.jsonl")) == LINES


def test_a_pool_that_scales_up_from_nothing_is_waited_for(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    gateway.configure(faults={"no-endpoints": 1.0}, latency_scale=0.0)
    batch = write_batch(tmp_path / "in.jsonl", 60)
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--max-retries", "0"]
    arguments += ["--concurrency", "4"]
    with started(*arguments, cwd=tmp_path) as run:
        wait_until(lambda: gateway.journal()["by_status"].get("503", 0) > 1, "it is refused")
        gateway.set_faults({})
        stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stdout + stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == 60


def test_without_patience_lines_fail_one_by_one(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "in.jsonl", ["tiny", *["fault-status-503"] * 30])
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--max-retries", "0"]
    done = batch_gateway(*arguments, "--patience", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert len(read_lines(tmp_path / "out.errors.jsonl")) == 30
