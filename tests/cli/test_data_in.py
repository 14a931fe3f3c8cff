"""People's data through `run`, `validate` and `batches submit`, from tables to requests."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.testing import GatewayHandle

from .commands import (
    COMMAND,
    Finished,
    batch_gateway,
    chat_line,
    environment,
    in_a_process,
    read_lines,
    started,
    wait_until,
    write_batch,
)

TEMPLATE = ("--model", "tiny", "--template", "Classify: {review}")


def zstd(data: bytes) -> bytes:
    return import_module("zstandard").ZstdCompressor().compress(data)


def table(rows: int) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["review", "stars"])
    writer.writerows((f"review, number {n}\nof many", n) for n in range(1, rows + 1))
    return file.getvalue().encode()


def ids(path: Path) -> list[str]:
    return sorted((line["custom_id"] for line in read_lines(path)), key=lambda one: (len(one), one))


def numbered(count: int) -> list[str]:
    return [f"request-{n}" for n in range(1, count + 1)]


def sent(gateway: GatewayHandle) -> int:
    return len(gateway.journal()["requests"])


def dry(cwd: Path, *arguments: str | Path, input: bytes = b"") -> list[dict[str, Any]]:
    run = batch_gateway("run", *arguments, "--dry-run", "--json", cwd=cwd, input=input)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)["first"]


def prompts(lines: list[dict[str, Any]]) -> list[str]:
    return [line["body"]["messages"][-1]["content"] for line in lines]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_a_table_becomes_answers(
    tmp_path: Path, gateway: GatewayHandle, pack: Callable[[bytes], bytes]
) -> None:
    ending = {gzip.compress: ".gz", zstd: ".zst"}.get(pack, "")
    file = tmp_path / f"reviews.csv{ending}"
    file.write_bytes(pack(table(5)))
    run = batch_gateway("run", file, "--gateway", gateway.url, *TEMPLATE, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert ids(tmp_path / "reviews.results.jsonl") == numbered(5)
    assert sent(gateway) == 5


def test_rows_that_were_appended_are_sent_and_no_others(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    command = ("run", "reviews.csv", "--gateway", gateway.url, *TEMPLATE)
    for rows in (3, 3, 7):
        (tmp_path / "reviews.csv").write_bytes(table(rows))
        assert batch_gateway(*command, cwd=tmp_path).returncode == 0
        assert sent(gateway) == rows
    assert ids(tmp_path / "reviews.results.jsonl") == numbered(7)


def test_a_sample_first_and_then_all_of_it(tmp_path: Path, gateway: GatewayHandle) -> None:
    (tmp_path / "a.csv").write_bytes(table(20))
    command = ("run", "a.csv", "--gateway", gateway.url, *TEMPLATE)
    first = [dry(tmp_path, "a.csv", *TEMPLATE, "--sample", "3") for _ in range(2)]
    assert first[0] == first[1] != dry(tmp_path, "a.csv", *TEMPLATE, "--sample", "3",
                                       "--sample-seed", "1")  # fmt: skip
    assert batch_gateway(*command, "--sample", "3", cwd=tmp_path).returncode == 0
    assert ids(tmp_path / "a.results.jsonl") == [line["custom_id"] for line in first[0]]
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    assert ids(tmp_path / "a.results.jsonl") == numbered(20)
    assert sent(gateway) == 20


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--model", "tiny", "--template", "Rate: {review}"), "the template changed since"),
        (("--model", "other", "--template", "Classify: {review}"), "the model changed since"),
        ((*TEMPLATE, "--system", "S"), "the system message changed since"),
        ((*TEMPLATE, "--param", "top_p=1"), "the parameters changed since"),
    ],
)
def test_answers_to_other_questions_are_refused_and_what_changed_is_named(
    tmp_path: Path, gateway: GatewayHandle, changed: tuple[str, ...], words: str
) -> None:
    (tmp_path / "a.csv").write_bytes(table(2))
    command = ("run", "a.csv", "--gateway", gateway.url)
    assert batch_gateway(*command, *TEMPLATE, cwd=tmp_path).returncode == 0
    before = (tmp_path / "a.results.jsonl").read_bytes()
    run = batch_gateway(*command, *changed, cwd=tmp_path)
    assert run.returncode == 2
    assert words in run.stderr
    assert 'of "request-' in run.stderr
    assert (tmp_path / "a.results.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_table_goes_on_after_a_kill(tmp_path: Path, gateway: GatewayHandle, name: str) -> None:
    data = table(3_000)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    command = ("run", name, "--gateway", gateway.url, "--concurrency", "4", *TEMPLATE)
    results = tmp_path / "a.results.jsonl"
    with started(*command, cwd=tmp_path) as process:
        wait_until(lambda: results.exists() and results.stat().st_size > 20_000, "results")
        process.send_signal(signal.SIGKILL)
    killed_after = sent(gateway)
    assert killed_after < 3_000
    run = in_a_process(*command, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert ids(results) == numbered(3_000)
    # Only what was under way, or had not reached the file, is sent a second time.
    assert sent(gateway) == 3_000


def test_standard_input_is_what_it_is_told_to_be(tmp_path: Path) -> None:
    for format, data in (
        ("csv", b"prompt\nHi\n"),
        ("tsv", b"prompt\tx\nHi\t1\n"),
        ("text", b"Hi\n"),
        ("jsonl", b'{"prompt": "Hi"}\n'),
    ):
        told = dry(tmp_path, "-", "--input-format", format, "--model", "m", input=data)
        assert prompts(told) == ["Hi"]
    run = batch_gateway("validate", "-", cwd=tmp_path, input=b"prompt\nHi\n")
    assert run.returncode == 2
    assert "--input-format csv" in run.stderr


def test_lines_of_a_batch_may_be_compressed(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "a.jsonl", 3).read_bytes()
    for name, pack in (("b.jsonl.gz", gzip.compress), ("c.jsonl.zst", zstd)):
        (tmp_path / name).write_bytes(pack(batch))
        run = batch_gateway("run", name, "--gateway", gateway.url, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert ids(tmp_path / f"{name[0]}.results.jsonl") == ["req-1", "req-2", "req-3"]
    # They are the same requests, wherever they come from.
    run = batch_gateway("run", "a.jsonl", "--gateway", gateway.url, "-o", "b.results.jsonl",
                        cwd=tmp_path)  # fmt: skip
    assert run.returncode == 0
    assert sent(gateway) == 3


def test_other_spellings_are_taken_with_one_note(tmp_path: Path, gateway: GatewayHandle) -> None:
    lines = [chat_line(f"req-{n}") for n in range(4)]
    lines[0]["url"] = "/chat/completions"
    lines[1]["url"] = "/v1/chat/completions/"
    lines[2] |= {"url": f"{gateway.url}/v1/chat/completions", "method": "post"}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = batch_gateway("run", "a.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("is taken as") == 1
    assert ids(tmp_path / "a.results.jsonl") == ["req-0", "req-1", "req-2", "req-3"]


def test_a_model_may_be_told_for_lines_that_have_none_or_for_all(tmp_path: Path) -> None:
    lines = [chat_line("a"), chat_line("b")]
    del lines[0]["body"]["model"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def models(*told: str) -> list[str]:
        return [line["body"]["model"] for line in dry(tmp_path, "a.jsonl", *told)]

    assert models("--model", "m") == ["m", "tiny"]
    assert models("--model-override", "m") == ["m", "m"]
    assert batch_gateway("validate", "a.jsonl", cwd=tmp_path).returncode == 2


def test_other_paths_are_taken_where_they_are_known_or_allowed(tmp_path: Path) -> None:
    for url, told, code in (
        ("/v1/score", (), 0),
        ("/rerank", (), 0),
        ("/v1/own", (), 2),
        ("/v1/own", ("--allow-path", "/v1/own"), 0),
    ):
        line = {**chat_line("a"), "url": url, "body": {"model": "m", "query": "q"}}
        (tmp_path / "a.jsonl").write_text(json.dumps(line))
        run = batch_gateway("validate", "a.jsonl", *told, cwd=tmp_path)
        assert run.returncode == code, run.stderr
        assert "did you mean" not in run.stderr


def test_bad_lines_may_be_recorded_as_failed_while_the_rest_is_sent(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    data = table(3) + b"only one\n" + table(1).partition(b"\n")[2]
    (tmp_path / "a.csv").write_bytes(data)
    command = ("run", "a.csv", "--gateway", gateway.url, *TEMPLATE)
    refused = batch_gateway(*command, cwd=tmp_path)
    assert refused.returncode == 2
    assert "line 8: has 1 field, and the header has 2" in refused.stderr
    for again in ((), (), ("--retry-failed",)):
        run = batch_gateway(*command, "--skip-bad-lines", *again, cwd=tmp_path)
        assert run.returncode == 1, run.stderr
        (bad,) = read_lines(tmp_path / "a.results.errors.jsonl")
        assert bad["custom_id"] == "request-4"
        assert "has 1 field" in bad["error"]["message"]
    assert ids(tmp_path / "a.results.jsonl") == [*numbered(3), "request-5"]
    assert sent(gateway) == 4


def test_a_bad_line_takes_no_name_of_another(tmp_path: Path, gateway: GatewayHandle) -> None:
    lines = [json.dumps(chat_line(f"request-{n}")) for n in (1, 3, 2)]
    data = "\n".join([lines[0], "{", *lines[1:]]).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    command = ("run", "a.jsonl.gz", "--gateway", gateway.url, "--skip-bad-lines")
    assert batch_gateway(*command, cwd=tmp_path).returncode == 1
    assert ids(tmp_path / "a.results.jsonl") == numbered(3)
    (bad,) = read_lines(tmp_path / "a.results.errors.jsonl")
    assert bad["custom_id"] == ""
    assert "is not valid JSON" in bad["error"]["message"]


def test_answers_of_earlier_results_are_taken_for_the_same_lines(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    (tmp_path / "old.jsonl").write_text("".join(
        json.dumps(chat_line(name, content=name)) + "\n" for name in ("a", "b", "c")
    ))  # fmt: skip
    lines = [chat_line("b", content="b"), chat_line("new"), chat_line("c", content="other")]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert batch_gateway("run", "old.jsonl", "--gateway", gateway.url, cwd=tmp_path)[0] == 0
    command = ("run", "new.jsonl", "--gateway", gateway.url, "--reuse", "old.results.jsonl")
    run = batch_gateway(*command, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "1 answer taken from earlier results" in run.stderr
    assert ids(tmp_path / "new.results.jsonl") == ["b", "c", "new"]
    assert sent(gateway) == 5
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    assert sent(gateway) == 5
    wrong = batch_gateway(*command[:-1], "new.jsonl", "--fresh", cwd=tmp_path)
    assert wrong.returncode != 0
    assert "not a result of this program" in wrong.stderr


def test_a_dry_run_shows_requests_their_size_and_their_price_and_needs_no_gateway(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.txt").write_text("x" * 4_000 + "\n" + "Hi\n" * 9)
    told = ("--model", "m", "--param", "max_tokens=100", "--price", "input=1000,output=500")
    run = batch_gateway("run", "a.txt", "--dry-run", *told, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    shown = run.stdout.splitlines()
    assert [json.loads(line)["custom_id"] for line in shown[:3]] == numbered(3)
    assert "10 requests of a.txt (m: 10); nothing was sent" in run.stdout
    assert "About 1,044 tokens of prompts" in run.stdout
    assert "The prompts would cost about 1.04" in run.stdout
    assert "At most 1,000 tokens of answers" in run.stdout
    assert "cost at most 0.5" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("--template", "{reveiw}"), "--template: names the column 'reveiw'.*mean 'review'"),
        (("--template", "{nothing}"), r"none of that name; it has review, stars;"),
        (("--template", "a {b"), "--template: has { at character 3"),
        (("--template", "@gone.txt"), "--template: @ names a file, and gone.txt: No such file"),
        (("--template", "{review}", "--template-file", "x"), "choose one"),
        (("--id-column", "star"), "--id-column: .* no column 'star' .*'stars'.*it has review"),
        (("--param", "temperature"), "NAME=JSON"),
        (("--param", "stream=true"), "--param: stream is the business of a batch"),
        (("--delimiter", "dots"), "--delimiter: 'dots' is neither a character nor one of comma"),
        (("--input-encoding", "utf-nine"), "'utf-nine' is not an encoding"),
        (("--endpoint", "/v1/score"), "--endpoint: '/v1/score' is none for prompts"),
        (("--allow-path", "http://x/y"), "is not a relative path"),
        (("--model", "a", "--model-override", "b"), "--model: .*give one"),
        (("--limit", "0"), "--limit"),
        (("--price", "cached=1"), "--price: 'cached=1' is not like input=0.15"),
    ],
)
def test_what_cannot_be_asked_is_told_with_its_option(
    tmp_path: Path, told: tuple[str, ...], words: str
) -> None:
    (tmp_path / "a.csv").write_bytes(table(2))
    model = () if "--model-override" in told else ("--model", "m")
    run = batch_gateway("run", "a.csv", "--gateway", "simulator", *model, *told, cwd=tmp_path)
    assert run.returncode == 2
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(run.stderr)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"BZh91AY", "bzip2 -dc"),
        (b"\xfd7zXZ\0\0", "xz -dc"),
        (b"PK\x03\x04", "zip archive"),
        ("{}".encode("utf-32"), "UTF-32"),
        ("{}".encode("utf-16"), "iconv -f UTF-16"),
        ('{"a"}'.encode("utf-16-le"), "iconv -f UTF-16LE"),
        (b'\n\n{\n  "custom_id": "a"\n}\n', "jq -c . a.jsonl`"),
        (b"\n[{}]\n", "jq -c '.[]' a.jsonl`"),
        (json.dumps(chat_line("a")).encode() + b"\n\xef\xbb\xbf{}\n", "line 2: begins with a byte"),
        (json.dumps(chat_line("a")).encode() + b"\n\x1a", "line 2: is a control character"),
        (json.dumps(chat_line("a")).encode() + b"\n# more\n", "line 2: is a comment"),
        (json.dumps(chat_line("a")).encode() + b"\n{\0}\n", "line 2: holds NUL (byte 2"),
        (b'{"id":"x","custom_id":"a","response":null,"error":{}}\n', "holds results and no"),
        (b"", "is empty"),
    ],
)
def test_odd_files_are_named_with_their_cure(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    run = batch_gateway("validate", "a.jsonl", cwd=tmp_path)
    assert run.returncode == 2
    assert words in run.stderr


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("r.jsonl.gz", "added to line by line"),
        ("r.zst", "added to line by line"),
        ("s3://bucket/r.jsonl", "written to a file here"),
    ],
)
def test_results_that_cannot_be_are_refused_with_the_reason(
    tmp_path: Path, output: str, words: str
) -> None:
    write_batch(tmp_path / "a.jsonl", 1)
    run = batch_gateway("run", "a.jsonl", "--gateway", "simulator", "-o", output, cwd=tmp_path)
    assert run.returncode == 2
    assert words in run.stderr


def shell(line: str, cwd: Path) -> Finished:
    command = line.replace("batch-gateway", " ".join(COMMAND))
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


def test_a_stream_of_the_shell_asks_for_a_name_of_the_results(tmp_path: Path) -> None:
    write_batch(tmp_path / "a.jsonl", 2)
    for written in ("<(cat a.jsonl)", "/dev/stdin < a.jsonl"):
        run = shell(f"batch-gateway run {written} --gateway simulator", tmp_path)
        assert run.returncode == 2
        assert "give -o FILE" in run.stderr
    run = shell("batch-gateway run <(cat a.jsonl) --gateway simulator -o r.jsonl", tmp_path)
    assert run.returncode == 0, run.stderr
    assert ids(tmp_path / "r.jsonl") == ["req-1", "req-2"]


def test_a_pipe_may_be_a_table(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=[table(2)])
    writing.start()
    told = dry(tmp_path, "pipe.csv", *TEMPLATE)
    writing.join()
    assert prompts(told)[0] == "Classify: review, number 1\nof many"


def test_parquet_and_its_values(tmp_path: Path) -> None:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    rows = {"review": ["good", "bad"], "stars": [5, 1], "when": ["2026-01-01", "2026-01-02"]}
    data = arrow.table(rows)
    place = data.schema.get_field_index("when")
    data = data.set_column(place, "when", data["when"].cast(arrow.date32()))
    parquet.write_table(data, tmp_path / "a.parquet", row_group_size=1)
    told = ("--model", "m", "--template", "{review} {stars} {when}")
    assert prompts(dry(tmp_path, "a.parquet", *told)) == ["good 5 2026-01-01", "bad 1 2026-01-02"]


def test_the_template_and_the_system_message_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(table(1))
    (tmp_path / "t.txt").write_text("Is this\ngood? {review}\n")
    (tmp_path / "s.txt").write_text('Answer as {"label": "good"}')
    for told in (("--template", "@t.txt"), ("--template-file", "t.txt")):
        (line,) = dry(tmp_path, "a.csv", "--model", "m", *told, "--system", "@s.txt")
        system, user = line["body"]["messages"]
        assert system["content"] == 'Answer as {"label": "good"}'
        assert user["content"].startswith("Is this\ngood? review, number 1")


def test_lines_of_json_that_are_rows_have_problems_in_their_words(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "Hi"}\n{"text": "x"}\n')
    run = batch_gateway("validate", "a.jsonl", "--model", "m", cwd=tmp_path)
    assert run.returncode == 2
    assert "problems on 1 line" in run.stderr
    assert "line 2: has no column prompt or messages" in run.stderr


def test_the_same_custom_id_in_two_rows_is_told_with_the_lines_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,nr\n"a\nb",1\nc,2\nd,1\n')
    told = ("--model", "m", "--id-column", "nr")
    run = batch_gateway("validate", "a.csv", *told, cwd=tmp_path)
    assert 'line 5: custom_id "1" was already used on line 2' in run.stderr
