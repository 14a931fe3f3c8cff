"""What is in memory at a time is bounded by bytes, and it is said where that holds a run back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import Finished, batch_gateway, chat_line, read_lines

SLOW = SimulatorConfig(seats=100, latency_scale=0.3, output_tokens=2, prefill_tokens_per_second=1e9)
LINES = 12


def write(path: Path, size: int, count: int = LINES) -> None:
    lines = (chat_line(f"c-{n}", content=f"{n} " + "x" * size) for n in range(count))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def run(folder: Path, gateway: GatewayHandle, *arguments: str) -> Finished:
    return batch_gateway(
        "run", "in.jsonl", "--gateway", gateway.url, "--concurrency", "12", *arguments, cwd=folder
    )


def summary(done: Finished) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_more_lines_go_out_than_there_is_room_for(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 100_000)
    with simulated_gateway(SLOW) as gateway:
        found = summary(run(tmp_path, gateway, "--max-bytes-in-flight", "500KB", "--json"))
        assert gateway.journal()["peak_in_flight"] <= 4
    assert found["succeeded"] == LINES
    assert found["lines_held_by_bytes"] >= LINES - 5
    assert found["held_by_bytes_seconds"] > 0


def test_lines_for_which_there_is_room_are_not_held(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 100_000)
    with simulated_gateway(SLOW) as gateway:
        found = summary(run(tmp_path, gateway, "--json"))
    assert (found["lines_held_by_bytes"], found["held_by_bytes_seconds"]) == (0, 0)


def test_a_line_that_is_larger_than_all_the_room_goes_alone(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 10_000)
    with simulated_gateway(SLOW) as gateway:
        found = summary(run(tmp_path, gateway, "--max-bytes-in-flight", "1", "--json"))
        assert gateway.journal()["peak_in_flight"] == 1
    assert found["succeeded"] == LINES
    assert len(read_lines(tmp_path / "in.results.jsonl")) == LINES


def test_people_are_told_in_the_summary(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 100_000)
    (tmp_path / "c.yaml").write_text("max_bytes_in_flight: 500KB\n")
    with simulated_gateway(SLOW) as gateway:
        done = run(tmp_path, gateway, "--config", "c.yaml")
    assert "\n  memory    " in done.stdout
    assert "waited for room" in done.stdout
    assert "--max-bytes-in-flight" in done.stdout


@pytest.mark.parametrize("value", ["0", "-1", "much"])
def test_a_wrong_size_is_named(tmp_path: Path, value: str) -> None:
    write(tmp_path / "in.jsonl", 10, 1)
    done = batch_gateway(
        "run", "in.jsonl", "--gateway", "http://h:1", "--max-bytes-in-flight", value, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "--max-bytes-in-flight" in done.stderr
