"""`batch-gateway compare`: what two runs came to, beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, write_batch


def ran(folder: Path, gateway: GatewayHandle, models: list[str], name: str) -> None:
    write_batch(folder / "requests.jsonl", models)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--fresh", "--report-data", name,
        cwd=folder,
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stderr


def test_two_runs_stand_beside_each_other_with_the_change(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    ran(tmp_path, gateway, ["tiny"] * 4, "before.json")
    ran(tmp_path, gateway, ["tiny"] * 2 + ["fault-status-400"], "after.json")
    found = batch_gateway("compare", "before.json", "after.json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    rows = [line.split() for line in found.stdout.splitlines()]
    assert rows[0] == ["figure", "before", "after", "change"]
    assert ["succeeded", "4", "2", "-50.0%"] in rows
    # There is no share of nothing.
    assert ["failed", "0", "1"] in rows
    names = [row[0] for row in rows]
    assert "percentiles.latency_seconds.p95" in names
    assert not [name for name in names if "first_token" in name]


def test_what_one_run_alone_knows_is_shown_without_a_change(tmp_path: Path) -> None:
    known = {"min": 1.0, "p95": 2.5}
    for name, first, cost in (("a.json", None, 2.0), ("b.json", known, 3.0)):
        percentiles = {"time_to_first_token_seconds": first}
        figures = {"outcome": "completed", "percentiles": percentiles, "cost": cost}
        (tmp_path / name).write_text(json.dumps(figures))
    found = json.loads(batch_gateway("compare", "a.json", "b.json", "--json", cwd=tmp_path).stdout)
    assert found.pop("cost") == {"before": 2.0, "after": 3.0, "change": 0.5}
    assert found == {
        f"percentiles.time_to_first_token_seconds.{name}": {
            "before": None,
            "after": value,
            "change": None,
        }
        for name, value in known.items()
    }


def test_the_summary_that_json_prints_is_taken_as_well(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, "--json", cwd=tmp_path)
    (tmp_path / "summary.json").write_text(run.stdout)
    ended = batch_gateway("compare", "summary.json", "summary.json", "--json", cwd=tmp_path)
    found = json.loads(ended.stdout)
    assert {one["change"] for one in found.values()} <= {0, None}
    assert found["succeeded"] == {"before": 3, "after": 3, "change": 0}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "other.json: No such file"),
        (b"", "other.json is no JSON"),
        (b"figure,value\n", "other.json is no JSON"),
        (b"\xff\xfe", "other.json is no JSON"),
        (b"[" * 100_000, "other.json is no JSON"),
        (b"[]", "other.json has no figures of a run"),
        (b'{"outcome": "completed"}', "other.json has no figures of a run"),
    ],
)
def test_a_file_without_figures_is_named_with_what_makes_one(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "other.json").write_bytes(content)
    (tmp_path / "good.json").write_text('{"outcome": "completed", "percentiles": {}}')
    ended = batch_gateway("compare", "good.json", "other.json", cwd=tmp_path)
    assert ended.returncode == 2
    assert problem in ended.stderr
    assert content is None or "--report-data" in ended.stderr
