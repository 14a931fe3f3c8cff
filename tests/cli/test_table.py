"""`batch-gateway table`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, chat_line, write_batch
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


def write_reviews(path: Path) -> None:
    path.write_text("id,review\nx,good\ny,bad\nz,so so\n")


def test_a_run_writes_the_table_at_its_end(gateway: GatewayHandle, tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv")
    run = [
        "run", "reviews.csv", "--gateway", gateway.url, "--model", "m", "--id-column", "id",
        "--template", "Is this good? {review}", "-o", "r.jsonl", "--table", "answers.csv", "--json",
    ]  # fmt: skip
    done = batch_gateway(*run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["table_file"] == "answers.csv"
    rows = read_csv(tmp_path / "answers.csv")
    assert [(row["custom_id"], row["id"], row["review"]) for row in rows] == [
        ("x", "x", "good"),
        ("y", "y", "bad"),
        ("z", "z", "so so"),
    ]
    assert all(row["text"] for row in rows)
    before = (tmp_path / "answers.csv").read_bytes()
    assert batch_gateway(*run, cwd=tmp_path).returncode == 0
    later = ["table", "r.jsonl", "--input", "reviews.csv", "--id-column", "id", "-o", "a2.csv"]
    assert batch_gateway(*later, cwd=tmp_path).returncode == 0
    assert (tmp_path / "answers.csv").read_bytes() == (tmp_path / "a2.csv").read_bytes() == before


def test_failures_and_bad_lines_are_rows_of_the_table_of_a_run(
    gateway: GatewayHandle, tmp_path: Path
) -> None:
    lines = [chat_line("a"), chat_line("b", "fault-status-400")]
    write_lines(tmp_path / "q.jsonl", lines)
    with (tmp_path / "q.jsonl").open("a") as file:
        file.write('{"broken\n')
    done = batch_gateway(
        "run", "q.jsonl", "--gateway", gateway.url, "-o", "r.jsonl", "--table", "t.csv",
        "--skip-bad-lines", "--field", "score", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    rows = read_csv(tmp_path / "t.csv")
    assert [row["error_category"] for row in rows] == ["", "INVALID_REQ", "INVALID_REQ"]
    assert "score" in rows[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--table", "t.xls"], "--table: t.xls does not say which form"),
        (["--table", "mine.csv"], "mine.csv is there already"),
        (["--table", "q.jsonl"], "--table: q.jsonl is the input or a result file"),
        (["--table", "t.csv", "--field", "a..b"], "--field: 'a..b' is no path"),
        (["--field", "a"], "--field: does nothing without --table"),
    ],
)
def test_a_table_that_could_not_be_written_is_refused_before_anything_is_sent(
    gateway: GatewayHandle, tmp_path: Path, flags: list[str], words: str
) -> None:
    write_batch(tmp_path / "q.jsonl", 2)
    (tmp_path / "mine.csv").write_text("a,b\n")
    done = batch_gateway(
        "run", "q.jsonl", "--gateway", gateway.url, "-o", "r.jsonl", *flags, cwd=tmp_path
    )
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "r.jsonl").exists()
