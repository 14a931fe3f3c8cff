"""How long answers took, as percentiles: in the page, in `--json`, and as files for programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from unittest import mock

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, chat_line, write_batch
from tests.cli.test_report import read

ALL = ["count", "min", "mean", "p50", "p90", "p95", "p99", "max"]


def test_json_has_percentiles_of_what_is_known(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(
        tmp_path / "requests.jsonl", ["tiny"] * 19 + ["fault-delay-0.5", "fault-status-400"]
    )
    run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, "--json", cwd=tmp_path)
    found = json.loads(run.stdout)["percentiles"]
    latency = found["latency_seconds"]
    assert list(latency) == ALL
    assert latency["count"] == 20
    assert [latency[name] for name in ("min", *ALL[3:])] == sorted(
        latency[name] for name in ALL[1:] if name != "mean"
    )
    assert latency["max"] >= 0.5 > latency["p90"]
    assert found["tokens_per_second"]["count"] == 20
    assert found["time_to_first_token_seconds"] is None


def test_first_tokens_have_percentiles_where_answers_are_streamed(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--json", "--stream-upstream",
        "--report", "report.html", cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(run.stdout)["percentiles"]
    first, latency = found["time_to_first_token_seconds"], found["latency_seconds"]
    assert first["count"] == 5
    assert first["max"] <= latency["max"]
    text = read(tmp_path).text
    table = text[text.index("of the answers min mean p50 p90 p95 p99 max latency") :]
    assert table.index("first token") < table.index("tokens/s of an answer") < table.index("How")


def test_the_page_begins_with_percentiles_and_the_data_beside_it_are_the_same(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.5"] * 2)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--json",
        "--report", "report.html", "--report-data", "figures.json", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0
    data = json.loads((tmp_path / "figures.json").read_text())
    assert data.pop("batch_gateway")
    assert data == json.loads(run.stdout)
    assert data["data_file"] == "figures.json"
    text = read(tmp_path).text
    assert "first token" not in text.partition("Over time")[0]
    longest = data["percentiles"]["latency_seconds"]["max"]
    assert f" {longest * 1000:.0f} ms " in text.partition("Over time")[0]


def test_as_csv_every_figure_has_a_row(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3 + ["fault-status-400"])
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report-data", "figures.csv",
        cwd=tmp_path,
    )  # fmt: skip
    assert "figures   figures.csv" in run.stdout
    with (tmp_path / "figures.csv").open(newline="") as file:
        rows = dict(csv.reader(file))
    assert rows["figure"] == "value"
    assert rows["succeeded"] == "3"
    assert rows["causes.0.custom_id"] == "req-4"
    assert rows["percentiles.latency_seconds.count"] == "3"
    assert float(rows["percentiles.latency_seconds.p99"]) > 0


def test_in_csv_no_name_of_a_line_becomes_a_formula(tmp_path: Path, gateway: GatewayHandle) -> None:
    line = json.dumps(chat_line("=1+1", "fault-status-400"))
    (tmp_path / "requests.jsonl").write_text(f"{line}\n")
    batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report-data", "figures.csv",
        cwd=tmp_path,
    )  # fmt: skip
    assert "causes.0.custom_id,'=1+1\n" in (tmp_path / "figures.csv").read_text()


@pytest.mark.parametrize("name", ["figures.json", "figures.csv"])
def test_figures_replace_earlier_figures_and_no_other_file(
    tmp_path: Path, gateway: GatewayHandle, name: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report-data", name)
    (tmp_path / name).write_text('{"mine": 1}')
    run = batch_gateway(*command, cwd=tmp_path)
    assert run.returncode == 2
    assert f"--report-data: {name} is no report of this program" in run.stderr
    assert gateway.journal()["received"] == 0
    (tmp_path / name).unlink()
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    (tmp_path / name).chmod(0o640)
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("figures.xls", "end figures.xls with .json or .csv"),
        ("missing/figures.json", "does not exist"),
        ("report.json", "is the input or a result file"),
    ],
)
def test_figures_that_could_not_be_written_are_refused_before_anything_is_sent(
    tmp_path: Path, gateway: GatewayHandle, name: str, problem: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.json",
        "--report-data", name, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 2
    assert problem in run.stderr
    assert gateway.journal()["received"] == 0


def test_figures_that_cannot_be_written_in_the_end_cost_no_result(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    with mock.patch("tempfile.mkstemp", side_effect=OSError(28, "No space left on device")):
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, "--report-data", "figures.json",
            "--json", cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0
    assert "The figures could not be written: figures.json: No space left" in run.stderr
    assert json.loads(run.stdout)["data_file"] is None


def test_with_prices_a_run_tells_what_its_tokens_cost(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--fresh")
    prices = ("--price", "input=1000,output=5000")
    run = batch_gateway(*command, *prices, "--json", "--report", "report.html", cwd=tmp_path)
    found = json.loads(run.stdout)
    usage = found["usage"]
    cost = usage["input_tokens"] / 1000 + usage["output_tokens"] / 200
    assert cost > 0
    assert found["cost"] == pytest.approx(cost)
    assert "cost, by tokens" in read(tmp_path).text
    assert "  cost      about " in batch_gateway(*command, *prices, cwd=tmp_path).stdout
    assert "cost" not in batch_gateway(*command, cwd=tmp_path).stdout


def test_a_batch_is_submitted_without_prices(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    run = batch_gateway("batches", "submit", "requests.jsonl", "--price", "input=1", cwd=tmp_path)
    assert run.returncode == 2
    assert "--price is for --dry-run" in run.stderr
