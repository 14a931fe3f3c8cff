"""`batch-gateway validate`: the first pass alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import batch_gateway, write_batch

EXAMPLE = Path(__file__).parents[2] / "examples" / "requests.jsonl"


def test_a_good_file_is_told_with_its_models(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", ["a", "b", "a"])
    run = batch_gateway("validate", "requests.jsonl", cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout == "requests.jsonl is valid: 3 requests\n  a  2\n  b  1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


def test_a_bad_file_is_told_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"custom_id": "a"}\n[]\n')
    run = batch_gateway("validate", "requests.jsonl", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("Error: requests.jsonl has problems on 2 lines\n  line 1: ")


def test_json_tells_both(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 2)
    good = batch_gateway("validate", "-", "--json", cwd=tmp_path, input=batch.read_bytes())
    assert good.returncode == 0
    assert json.loads(good.stdout) == {
        "file": "-",
        "valid": True,
        "requests": 2,
        "bytes": batch.stat().st_size,
        "models": {"tiny": 2},
        "problems": [],
    }
    bad = batch_gateway("validate", "-", "--json", cwd=tmp_path, input="nonsense\n")
    assert bad.returncode == 2
    told = json.loads(bad.stdout)
    assert told["valid"] is False
    assert told["problems"][0].startswith("line 1: is not valid JSON")
    assert bad.stderr == ""


def test_a_missing_file_is_an_error_in_json_too(tmp_path: Path) -> None:
    run = batch_gateway("validate", "nowhere.jsonl", "--json", cwd=tmp_path)
    assert run.returncode == 2
    assert "No such file" in json.loads(run.stdout)["error"]


def test_the_example_batch_is_valid(tmp_path: Path) -> None:
    run = batch_gateway("validate", EXAMPLE, cwd=tmp_path)
    assert run.returncode == 0
    assert "1,000 requests" in run.stdout
