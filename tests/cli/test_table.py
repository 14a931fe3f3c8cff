"""`batch-gateway table`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, chat_line
from tests.tables.result_files import chat, read_csv, result, write_lines


def test_the_results_of_a_run_become_a_table(gateway: GatewayHandle, tmp_path: Path) -> None:
    requests = [chat_line(f"q-{n}", content=f"Say {n}") for n in range(7)]
    write_lines(tmp_path / "requests.jsonl", requests)
    run = ["run", "requests.jsonl", "--gateway", gateway.url, "-o", "results.jsonl", "--quiet"]
    assert batch_gateway(*run, cwd=tmp_path).returncode == 0
    done = batch_gateway(
        "table", "results.jsonl", "--input", "requests.jsonl", "-o", "answers.csv", cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "answers.csv: 7 rows\n", "")
    rows = read_csv(tmp_path / "answers.csv")
    assert [row["custom_id"] for row in rows] == [f"q-{n}" for n in range(7)]
    assert all(row["text"] and int(row["output_tokens"]) for row in rows)
    assert rows[3]["prompt"] == "Say 3"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    texts = ['{"score": 1}', '{"score": "x"}', "=1+1"]
    return write_lines(tmp_path / "r.jsonl", [result(text, chat(text)) for text in texts])


def test_what_is_not_as_it_should_be_is_counted_and_told(results: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"properties": {"score": {"type": "integer"}}}')
    arguments = ["table", results, "-o", "a.csv", "--json-schema", "s.json", "--field", "score"]
    done = batch_gateway(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == (
        "a.csv: 3 rows, 2 not what the schema says, no score in 1 answer, 2 texts that a"
        " spreadsheet would take for a formula with an apostrophe before it (--exact leaves it"
        " out)\n"
    )
    told = json.loads(batch_gateway(*arguments, "--json", cwd=tmp_path).stdout)
    assert (told["table"], told["rows"], told["unfit"]) == ("a.csv", 3, 2)
    assert told["without_field"] == {"score": 1}


def test_results_may_come_through_a_pipe(results: Path, tmp_path: Path) -> None:
    done = batch_gateway("table", "-", "-o", "a.csv", cwd=tmp_path, input=results.read_bytes())
    assert done.stdout.startswith("a.csv: 3 rows")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["r.jsonl", "-o", "a.xls"], 2, "-o: a.xls does not say which form it is to have"),
        (["none.jsonl", "-o", "a.csv"], 2, "none.jsonl: No such file or directory"),
        (["r.jsonl", "-o", "a.csv", "--field", "a..b"], 2, "--field: 'a..b' is no path"),
        (["r.jsonl", "-o", "a.csv", "--json-schema", "n.json"], 2, "--json-schema: n.json cannot"),
        (["r.jsonl", "-o", "a.csv", "--input", "n.csv"], 2, "n.csv: No such file or directory"),
        (["r.jsonl", "-o", "r.jsonl"], 2, "r.jsonl is there already"),
        (["r.jsonl", "-o", "/dev/full/a.csv"], 2, "there is no folder /dev/full"),
    ],
)
def test_a_mistake_is_named_with_its_cure(
    results: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    before = results.read_bytes()
    done = batch_gateway("table", *arguments, cwd=tmp_path)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert results.read_bytes() == before
