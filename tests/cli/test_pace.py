"""How fast a run sends, and what it tells a scheduling gateway."""

from __future__ import annotations

import json
from pathlib import Path

from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway, write_batch


def test_a_limit_of_requests_a_minute_holds_from_the_first_to_the_last(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 40)
    with simulated_gateway() as gateway:
        arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--json"]
        done = batch_gateway(*arguments, "--rpm", "1200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # A second's worth at once, and then twenty a second.
    told = json.loads(done.stdout)
    assert told["duration_seconds"] >= 0.9
    assert 15 <= told["rate_limited"] <= 20
    assert told["rate_limit_wait_seconds"] > 0


def test_the_scheduler_is_told_objective_tenant_and_deadline(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 1)
    with simulated_gateway() as gateway:
        done = batch_gateway(
            *("run", batch, "--gateway", gateway.url, "-o", "out.jsonl"),
            *("--inference-objective", "batch", "--fairness-id", "team-a"),
            *("--deadline", "2h", "--inference-ttl", "10m"),
            cwd=tmp_path,
        )
        sent = gateway.recent_requests()[-1]
    assert done.returncode == 0, done.stderr
    assert sent.header(b"x-llm-d-inference-objective") == "batch"
    assert sent.header(b"x-gateway-inference-fairness-id") == "team-a"
    assert 7_190_000 < int(sent.header(b"x-llm-d-slo-ttft-ms")) <= 7_200_000
    assert sent.header(b"x-llm-d-inference-ttl") == "600000ms"


def test_a_rate_of_nothing_is_refused(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 1)
    done = batch_gateway("run", batch, "--gateway", "http://g", "--rpm", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--rpm" in done.stderr
