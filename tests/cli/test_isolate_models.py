"""Models that have servers of their own behind one gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import batch_gateway, chat_line, read_lines

GONE = "fault-no-endpoints"
HERE = "z-tiny"


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.small_gpu(output_tokens=2)) as running:
        running.configure(latency_scale=0.0)
        yield running


def write_mixed(path: Path, models: Sequence[str], each: int = 40) -> Path:
    lines = (chat_line(f"{model}-{n}", model) for n in range(each) for model in models)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_a_model_without_servers_holds_up_no_other(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_mixed(tmp_path / "in.jsonl", [GONE, HERE])
    arguments = ["run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--patience", "2s"]
    together = batch_gateway(*arguments, cwd=tmp_path)
    assert together.returncode == 3, together.stderr
    assert read_lines(tmp_path / "out.jsonl") == []

    apart = batch_gateway(*arguments, "--isolate-models", "--json", cwd=tmp_path)
    assert apart.returncode == 3, apart.stderr
    assert "as many at a time as prove best for each of 2 models" in apart.stderr
    assert f"{gateway.url} ({GONE}) is failing" in apart.stderr
    assert {line["custom_id"] for line in read_lines(tmp_path / "out.jsonl")} == {
        f"{HERE}-{n}" for n in range(40)
    }
    told = json.loads(apart.stdout)
    assert (told["succeeded"], told["failed"], told["left"]) == (40, 0, 40)
    assert len(told["concurrency_limits"]) == 2


def test_a_model_that_is_always_refused_slows_down_no_other(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_mixed(tmp_path / "in.jsonl", ["fault-status-429", HERE], each=5)
    done = batch_gateway(
        *("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--isolate-models"),
        *("--max-retries", "0", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert (told["succeeded"], told["failed"], told["left"]) == (5, 0, 5)


def test_a_number_holds_for_each_model_and_so_does_a_gateway_of_its_own(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_mixed(tmp_path / "in.jsonl", ["a", "b", "c"])
    with simulated_gateway() as other:
        other.configure(latency_scale=0.0)
        done = batch_gateway(
            *("run", batch, "--gateway", gateway.url, "--model-gateway", f"c={other.url}"),
            *("-o", "out.jsonl", "--isolate-models", "--concurrency", "5"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert "5 at a time for each of 3 models" in done.stderr
        assert gateway.journal()["completed"] == 80
        assert other.journal()["completed"] == 40
        assert gateway.journal()["peak_in_flight"] <= 10
    assert len(read_lines(tmp_path / "out.jsonl")) == 120


def test_so_many_models_are_not_kept_apart(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_mixed(tmp_path / "in.jsonl", [f"model-{n}" for n in range(65)])
    done = batch_gateway(
        "run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--isolate-models", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "the file has 65 models, and at most 64 can be kept apart" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_whose_metrics_a_gateway_shows_cannot_be_known(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "gateway: http://127.0.0.1:9\nisolate_models: true\ngateway_metrics: http://127.0.0.1:9\n"
    )
    batch = write_mixed(tmp_path / "in.jsonl", [HERE])
    done = batch_gateway("run", batch, "--config", "settings.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "which of the isolated models these metrics are of cannot be known" in done.stderr
