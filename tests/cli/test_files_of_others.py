"""A file that is not ours is never written to, emptied, moved or deleted, whatever it holds."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_gateway.engine.plan import make_plan
from batch_gateway.testing import GatewayHandle
from batch_gateway.wire.lines import error_line, line_id, success_line
from tests.cli.commands import (
    Finished,
    batch_gateway,
    in_a_process,
    read_lines,
    started,
    wait_until,
    write_batch,
)

NOTES = "Call the plumber\nFeed the cat\n"


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("notes.txt", NOTES)
    return content.getvalue()


FOREIGN = {
    "text": NOTES.encode(),
    "text without a line break": b"notes",
    "UTF-16 text": NOTES.encode("utf-16"),
    "UTF-16 text without its mark": NOTES.encode("utf-16-le"),
    "UTF-16 JSON": json.dumps({"id": 1}).encode("utf-16-le"),
    "UTF-32 text": NOTES.encode("utf-32"),
    "JSON over several lines": json.dumps({"id": 1, "list": [1, 2]}, indent=1).encode(),
    "an object over several lines that begins like ours": b'{"id":"\nbatch_req_": 1}\n',
    "JSON lines": b'{"id":"x","custom_id":"y"}\n',
    "results of the OpenAI Batch API": b'{"id":"batch_req_67d5e1a2b3c4d5e6","custom_id":"a",'
    b'"response":{"status_code":200,"request_id":"r","body":{}},"error":null}\n',
    "results of the OpenAI Batch API, cut": b'{"id":"batch_req_67d5e1a2b3c4d5e6","custom_id":"a"',
    "wasm": b"\0asm\1\0\0\0\1\7\1`\2\x7f\x7f\1\x7f",
    "a font": b"\0\1\0\0\0\x0c\0\x80\0\3\0@OS/2",
    "a PNG image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1",
    "a zip archive": zipped(),
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3+I-.\1\0\x0c~\x7f\xd8",
    "a preallocated file": bytes(65_536),
    "zeros, then text": bytes(65_536) + NOTES.encode(),
    "zeros, then a line": bytes(5_000) + b"my data\n",
    "a brace, zeros, text": b"{" + bytes(5_000) + b"my data",
    "a brace on its line": b"{\n",
    "blank lines": b"\n \n\n",
    "blank lines, then text": b"\n\n" + NOTES.encode(),
}


def run(folder: Path, gateway: GatewayHandle, *arguments: str | Path) -> Finished:
    command = ("run", "requests.jsonl", "--gateway", gateway.url, *arguments)
    return batch_gateway(*command, cwd=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_batch(tmp_path / "requests.jsonl", 3)
    return tmp_path


def untouched(path: Path, content: bytes) -> bool:
    return path.read_bytes() == content and len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "option",
    [("-o",), ("--errors",), ("--fresh", "-o"), ("--fresh", "--errors"), ("--retry-failed", "-o")],
    ids=" ".join,
)
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(
    folder: Path, gateway: GatewayHandle, option: tuple[str, ...], content: bytes
) -> None:
    theirs = folder / "theirs"
    theirs.write_bytes(content)
    ended = run(folder, gateway, *option, "theirs")
    assert ended.returncode == 2
    assert "choose another output" in ended.stderr
    assert untouched(theirs, content)
    assert gateway.journal()["received"] == 0


@pytest.mark.parametrize("option", ["-o", "--errors"])
def test_a_database_is_refused_and_left_as_it_is(
    folder: Path, gateway: GatewayHandle, option: str
) -> None:
    with sqlite3.connect(folder / "theirs") as theirs:
        theirs.execute("CREATE TABLE t (x)")
    theirs.close()
    content = (folder / "theirs").read_bytes()
    assert run(folder, gateway, option, "theirs").returncode == 2
    assert untouched(folder / "theirs", content)


def results(folder: Path, *indexes: int) -> bytes:
    with make_plan(folder / "requests.jsonl") as plan:
        return b"".join(
            success_line(
                line_id(plan.fingerprint, n), f"req-{n + 1}", 200, "r", b'{"a": "\xc3\xa9"}'
            )
            for n in indexes
        )


def failures(folder: Path, *indexes: int) -> bytes:
    with make_plan(folder / "requests.jsonl") as plan:
        ids = [line_id(plan.fingerprint, n) for n in indexes]
    return b"".join(error_line(name, name[-1], "server_error", "broken") for name in ids)


@pytest.mark.parametrize(
    "then", [NOTES.encode(), b"remember to check these", b"\0asm\1\0\0\0", b'{"id":"mine"}\n', b"{"]
)
def test_results_with_something_else_behind_them_are_refused(
    folder: Path, gateway: GatewayHandle, then: bytes
) -> None:
    content = results(folder, 0, 1) + then
    (folder / "theirs").write_bytes(content)
    ended = run(folder, gateway, "-o", "theirs")
    if then == b"{":
        # That is a line of which a crash left no more.
        assert (ended.returncode, len(read_lines(folder / "theirs"))) == (0, 3)
        return
    assert ended.returncode == 2
    assert "theirs: line 3 is not a result of this program" in ended.stderr
    assert untouched(folder / "theirs", content)
    ended = run(folder, gateway, "--fresh", "-o", "theirs")
    assert ended.returncode == 2
    assert "--fresh does not empty it" in ended.stderr
    assert untouched(folder / "theirs", content)


@pytest.mark.parametrize(
    ("saved", "how", "cure"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.encode(), "with a byte-order mark", "sed -i"),
        (lambda text: text.encode("utf-16"), "as UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (lambda text: text.replace("\n", "\r\n").encode("utf-16"), "as UTF-16", "iconv"),
        (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), "as UTF-16", "iconv -f UTF-16 "),
        (lambda text: text.encode("utf-16-le"), "as UTF-16", "iconv -f UTF-16LE"),
        (lambda text: text.encode("utf-16-be"), "as UTF-16", "iconv -f UTF-16BE"),
    ],
)
def test_own_results_saved_in_another_encoding_are_refused_with_the_reason_and_a_cure(
    folder: Path, gateway: GatewayHandle, saved: Callable[[str], bytes], how: str, cure: str
) -> None:
    good = results(folder, 0, 1)
    content = saved(good.decode())
    (folder / "results.jsonl").write_bytes(content)
    ended = run(folder, gateway, "-o", "results.jsonl")
    assert ended.returncode == 2
    assert f"results.jsonl: holds results that were saved {how}" in ended.stderr
    assert f"`{cure}" in ended.stderr
    assert untouched(folder / "results.jsonl", content)
    command = ended.stderr.split("`")[1].replace("FILE", "results.jsonl")
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True)
    cured = done.stdout or (folder / "results.jsonl").read_bytes()
    assert cured.replace(b"\r\n", b"\n") == good


def test_own_results_with_windows_line_breaks_are_gone_on_with(
    folder: Path, gateway: GatewayHandle
) -> None:
    (folder / "results.jsonl").write_bytes(results(folder, 0, 1).replace(b"\n", b"\r\n"))
    assert run(folder, gateway, "-o", "results.jsonl").returncode == 0
    assert gateway.journal()["received"] == 1
    assert len(read_lines(folder / "results.jsonl")) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[:60] + line[-20:],
        lambda line: line[:-1] + line,
        lambda line: line.replace(b"\xc3\xa9", b"\xe9"),
        lambda line: line.replace(b'"error":null', b'"error":nul'),
        lambda line: line.replace(b"_000000001", b"_0000x0001"),
        lambda line: line.replace(b"_000000001", b"_" + b"1" * 5_000),
        lambda line: line[: line.find(b"_000000001") + 4] + b"1" * 5_000 + b"\n",
    ],
    ids=["cut out", "merged", "Latin-1", "typo", "no number", "long number", "only digits"],
)
def test_a_line_of_ours_that_is_no_longer_whole_is_sent_again(
    folder: Path, gateway: GatewayHandle, spoil: Callable[[bytes], bytes]
) -> None:
    broken = spoil(results(folder, 1))
    (folder / "r.jsonl").write_bytes(results(folder, 0) + broken + results(folder, 2))
    ended = run(folder, gateway, "-o", "r.jsonl")
    if b"custom_id" in broken and (b"x0001" in broken or b"1111" in broken):
        # A whole line, but of no request: somebody made it, so it is not thrown away.
        assert ended.returncode == 2
        assert "r.jsonl: line 2 is not a result of this program" in ended.stderr
        return
    assert ended.returncode == 0, ended.stderr
    assert gateway.journal()["received"] == 1
    assert sorted(line["custom_id"] for line in read_lines(folder / "r.jsonl")) == [
        "req-1", "req-2", "req-3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body", [b'{"a": "cut \\ud83d"}', b'{"a":' + b"[" * 1_500 + b"]" * 1_500 + b"}"]
)
def test_answers_that_only_some_json_readers_take_stay_done(
    folder: Path, gateway: GatewayHandle, body: bytes
) -> None:
    content = results(folder, 0, 1, 2).replace(b'{"a": "\xc3\xa9"}', body)
    (folder / "r.jsonl").write_bytes(content)
    assert run(folder, gateway, "-o", "r.jsonl").returncode == 0
    assert untouched(folder / "r.jsonl", content)


@pytest.mark.parametrize("option", ["--ordered", "--retry-failed"])
def test_the_two_files_the_wrong_way_round_are_refused(
    folder: Path, gateway: GatewayHandle, option: str
) -> None:
    good, bad = folder / "good.jsonl", folder / "bad.jsonl"
    good.write_bytes(results(folder, 0, 1))
    bad.write_bytes(failures(folder, 2))
    before = good.read_bytes(), bad.read_bytes()
    ended = run(folder, gateway, option, "-o", "bad.jsonl", "--errors", "good.jsonl")
    assert ended.returncode == 2
    assert "bad.jsonl: line 1 is of a request that failed" in ended.stderr
    bad.write_bytes(b"")
    ended = run(folder, gateway, option, "-o", "bad.jsonl", "--errors", "good.jsonl")
    assert "good.jsonl: line 1 is of a request that succeeded" in ended.stderr
    bad.write_bytes(before[1])
    assert (good.read_bytes(), bad.read_bytes()) == before
    assert gateway.journal()["received"] == 0


def test_error_lines_among_the_results_do_not_count_as_results(
    folder: Path, gateway: GatewayHandle
) -> None:
    content = results(folder, 0) + failures(folder, 1)
    (folder / "r.jsonl").write_bytes(content)
    ended = run(folder, gateway, "-o", "r.jsonl")
    assert ended.returncode == 2
    assert "r.jsonl: line 2 is of a request that failed" in ended.stderr
    assert untouched(folder / "r.jsonl", content)


def test_nothing_is_mended_in_one_file_before_the_other_is_known_to_be_ours(
    folder: Path, gateway: GatewayHandle
) -> None:
    torn = results(folder, 0, 1)[:-30]
    (folder / "r.jsonl").write_bytes(torn)
    (folder / "theirs").write_text(NOTES)
    assert run(folder, gateway, "-o", "r.jsonl", "--errors", "theirs").returncode == 2
    assert (folder / "r.jsonl").read_bytes() == torn


def test_an_empty_error_file_that_somebody_made_stays(folder: Path, gateway: GatewayHandle) -> None:
    (folder / "made").touch()
    assert run(folder, gateway, "-o", "r.jsonl", "--errors", "made").returncode == 0
    assert (folder / "made").read_bytes() == b""


def test_no_room_for_the_results_in_order_exits_4_and_leaves_them_as_they_are(
    folder: Path, gateway: GatewayHandle
) -> None:
    content = results(folder, 2, 1, 0)
    (folder / "r.jsonl").write_bytes(content)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "-o", "r.jsonl", "--ordered")
    ended = in_a_process(*command, cwd=folder, largest_file=len(content) // 2)
    assert ended.returncode == 4
    assert "results cannot be written: r.jsonl: could not be written in its final" in ended.stdout
    assert "input changed" not in ended.stdout
    assert untouched(folder / "r.jsonl", content)
    assert run(folder, gateway, *command[4:]).returncode == 0
    assert (folder / "r.jsonl").read_bytes() == results(folder, 0, 1, 2)


def test_results_removed_during_the_run_stop_it_with_4(
    folder: Path, gateway: GatewayHandle
) -> None:
    write_batch(folder / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.5"] * 400)
    output = folder / "requests.results.jsonl"
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "10")
    with started(*command, cwd=folder) as process:
        wait_until(lambda: output.exists() and output.stat().st_size > 0, "results")
        output.unlink()
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 4, stdout + stderr
    assert "requests.results.jsonl: was removed or replaced while the run wrote to it" in stdout
    assert "0 of 410 requests succeeded, 410 left" in stdout
    # Within a second, not after all the others were sent for nothing.
    assert gateway.journal()["received"] < 300


@pytest.mark.parametrize("how", ["truncated", "rewritten", "appended to"])
def test_an_input_that_is_changed_during_the_run_stops_it_with_2(
    folder: Path, gateway: GatewayHandle, how: str
) -> None:
    requests = write_batch(folder / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.3"] * 400)
    output, before = folder / "requests.results.jsonl", requests.read_bytes()
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "5")
    with started(*command, cwd=folder) as process:
        wait_until(lambda: output.exists() and output.stat().st_size > 0, "results")
        with requests.open("r+b" if how != "appended to" else "ab") as file:
            if how == "truncated":
                file.truncate(100)
            file.write(b" " * 50)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 2, stdout + stderr
    assert "requests.jsonl changed while it was running: put the old content back" in stdout
    assert gateway.journal()["received"] < 300
    kept = len(read_lines(output))
    assert f"{kept} of 410 requests succeeded" in stdout
    requests.write_bytes(before)
    gateway.clear_journal()
    assert run(folder, gateway, "--deadline", "100ms").returncode in (0, 3)
    assert len(read_lines(output)) >= kept


def test_an_input_that_is_replaced_is_run_as_it_was(folder: Path, gateway: GatewayHandle) -> None:
    requests = write_batch(folder / "requests.jsonl", ["tiny"] * 3 + ["fault-delay-0.5"] * 3)
    output = folder / "requests.results.jsonl"
    with started("run", "requests.jsonl", "--gateway", gateway.url, cwd=folder) as process:
        wait_until(lambda: output.exists() and output.stat().st_size > 0, "results")
        write_batch(folder / "new", 2).rename(requests)
        stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "all 6 requests succeeded" in stdout
    ended = run(folder, gateway)
    assert ended.returncode == 2
    assert "holds results of another input than requests.jsonl as it is now" in ended.stderr
    assert len(read_lines(output)) == 6
