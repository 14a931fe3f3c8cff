"""Runs through an endpoint picker whose pods are dead, late, or too small for a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.testing import PickerConfig, SimulatorConfig, simulated_pool
from tests.cli.commands import (
    batch_gateway,
    chat_line,
    read_lines,
    started,
    wait_until,
    write_batch,
)

LINES = 400
SLOW = SimulatorConfig.small_gpu(seats=8, output_tokens=2, time_per_token=0.002)


@pytest.mark.parametrize("more", [[], ["--stream-upstream"]], ids=["whole", "streamed"])
@pytest.mark.parametrize("choice", ["least-loaded", "round-robin"])
def test_one_dead_pod_of_two_costs_no_line_no_retry_and_no_outage(
    tmp_path: Path, choice: Any, more: list[str]
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    with simulated_pool(pods=2, config=SLOW, picker=PickerConfig(choice=choice)) as pool:
        pool.pods[0].stop()
        done = batch_gateway(
            "run", batch, "--gateway", pool.url, "-o", "out.jsonl", "--max-retries", "0",
            "--log-level", "info", *more, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == LINES
    assert "retry scheduled" not in done.stderr
    assert "circuit breaker changed" not in done.stderr
    assert "failing" not in done.stderr


def test_a_pool_of_dead_pods_stops_a_run_that_begins(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", LINES)
    with simulated_pool(pods=2) as pool:
        for pod in pool.pods:
            pod.stop()
        done = batch_gateway(
            "run", batch, "--gateway", pool.url, "-o", "out.jsonl",
            "--log-level", "info", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 3
    assert "connection refused" in done.stdout
    assert not read_lines(tmp_path / "out.jsonl")
    # Between attempts, only the short waits of connection failures: 0.5 s, 1 s, 2 s at most.
    waits = [
        line.split("delay=")[1].split()[0] for line in done.stderr.splitlines() if "delay=" in line
    ]
    assert waits
    assert max(map(float, waits)) <= 2.0


@pytest.mark.parametrize("faults", [{}, {"lightweight": 1.0}], ids=["llm-d", "lightweight"])
def test_a_picker_without_pods_is_waited_for_from_the_start(
    tmp_path: Path, faults: dict[str, float]
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 40)
    arguments = ["run", batch, "-o", "out.jsonl", "--max-retries", "0"]
    with simulated_pool(pods=1, picker=PickerConfig(faults=faults)) as pool:
        pool.withdraw(0)
        with started(*arguments, "--gateway", pool.url, cwd=tmp_path) as run:
            wait_until(lambda: len(pool.decisions()) >= 3, "it is asked again and again")
            assert run.poll() is None
            pool.restore(0)
            _, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == 40


def test_a_line_that_is_too_large_for_a_lightweight_picker_fails_alone_and_once(
    tmp_path: Path,
) -> None:
    lines = [chat_line(f"req-{number}") for number in range(20)]
    lines[7] = chat_line("large", content="x" * 11_000_000)
    batch = tmp_path / "in.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with simulated_pool(pods=1, picker=PickerConfig(faults={"lightweight": 1.0})) as pool:
        done = batch_gateway("run", batch, "--gateway", pool.url, "-o", "out.jsonl", cwd=tmp_path)
        asked = len(pool.decisions())
    assert done.returncode == 1
    (failed,) = read_lines(tmp_path / "out.errors.jsonl")
    assert failed["custom_id"] == "large"
    assert "request body size limit of" in json.dumps(failed)
    assert len(read_lines(tmp_path / "out.jsonl")) == 19
    assert asked == 20
