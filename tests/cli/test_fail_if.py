"""`run --fail-if`: a finished run that is not as it was to be ends with a code of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import Finished, batch_gateway, write_batch
from tests.cli.test_report import read


def run(folder: Path, gateway: GatewayHandle, *more: str) -> Finished:
    return batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, *more, cwd=folder)


def test_a_condition_that_holds_ends_a_finished_run_with_code_6_and_is_told(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3 + ["fault-delay-0.3"])
    conditions = ("--fail-if", "max>250ms", "--fail-if", "p50>1m", "--fail-if", "failed>=0")
    ended = run(tmp_path, gateway, *conditions, "--report", "report.html")
    assert ended.returncode == 6
    assert "all 4 requests succeeded\nFailed if max>250ms: it is 3" in ended.stdout
    assert "Failed if failed>=0: it is 0 of 4" in ended.stdout
    assert "p50" not in ended.stdout
    assert "Failed if max>250ms: it is 3" in read(tmp_path).text
    results = (tmp_path / "requests.results.jsonl").read_text()
    assert results.count("\n") == 4


def test_the_last_request_counts_beside_a_report_as_well(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"])
    ended = run(tmp_path, gateway, "--fail-if", "max>0s", "--report", "report.html")
    assert ended.returncode == 6
    assert "Failed if max>0s: it is " in ended.stdout


def test_a_run_that_is_as_it_was_to_be_ends_as_without_conditions(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3)
    ended = run(tmp_path, gateway, "--fail-if", "p95>10m", "--fail-if", "failed>0", "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["failed_if"] == []


def test_failed_lines_below_the_limit_end_it_as_ever_and_above_with_code_6(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3 + ["fault-status-400"])
    assert run(tmp_path, gateway, "--fail-if", "failed>50%").returncode == 1
    # Nothing is left to send; of the lines it is true all the same.
    ended = run(
        tmp_path, gateway, "--fail-if", "failed>20%", "--fail-if", "p95>0.000001s", "--json"
    )
    assert ended.returncode == 6
    assert json.loads(ended.stdout)["exit_code"] == 6
    assert json.loads(ended.stdout)["failed_if"] == ["failed>20%: it is 1 of 4, 25.000%"]


def test_first_tokens_are_judged_where_answers_are_streamed_and_else_not_known(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3)
    condition = ("--fail-if", "ttft.p95>10m", "--fresh")
    assert run(tmp_path, gateway, *condition, "--stream-upstream").returncode == 0
    ended = run(tmp_path, gateway, *condition, "--quiet")
    assert ended.returncode == 6
    assert ended.stdout == ""
    assert "Failed if ttft.p95>10m: not known" in ended.stderr


def test_a_run_that_stops_early_keeps_its_own_code(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["fault-status-422", "tiny"] * 30)
    conditions = ("--fail-if", "failed>0", "--max-failures", "3", "--concurrency", "2")
    ended = run(tmp_path, gateway, *conditions)
    assert ended.returncode == 3
    assert "Failed if" not in ended.stdout


def test_conditions_may_stand_in_a_file_and_in_a_variable(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    (tmp_path / "gateway.yaml").write_text("fail_if:\n  - p95>10m\n  - min>0s\n")
    assert run(tmp_path, gateway, "--config", "gateway.yaml").returncode == 6
    ended = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--fresh", cwd=tmp_path,
        variables={"BATCH_GATEWAY_FAIL_IF": "p95>10m, failed>=0"},
    )  # fmt: skip
    assert ended.returncode == 6


@pytest.mark.parametrize("place", ["--fail-if", "BATCH_GATEWAY_FAIL_IF", "gateway.yaml:1: fail_if"])
def test_what_is_no_condition_is_refused_where_it_stands_before_anything_is_sent(
    tmp_path: Path, gateway: GatewayHandle, place: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    (tmp_path / "gateway.yaml").write_text(
        f"fail_if: {'p95>soon' if 'yaml' in place else 'p95>1s'}\n"
    )
    ended = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--config", "gateway.yaml",
        *(("--fail-if", "p95>soon") if place == "--fail-if" else ()), cwd=tmp_path,
        variables={place: "p95>soon"} if place.isupper() else None,
    )  # fmt: skip
    assert ended.returncode == 2
    assert place in ended.stderr
    assert "'soon' is not a duration" in ended.stderr
    assert gateway.journal()["received"] == 0
