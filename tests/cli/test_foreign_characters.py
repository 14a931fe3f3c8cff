"""Characters that steer a terminal or end a line for some readers, in what others wrote."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal

import pytest

from batch_gateway.cli.logs import logs_shown
from tests.cli.commands import Finished, batch_gateway, chat_line
from tests.cli.one_answer import one_answer

# Overrides and isolates of direction, marks, control characters of both sets, an escape sequence,
# invisible signs, breaks of lines that only Unicode knows, a private and an unassigned character.
STEERING = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
    "\x00\x07\x08\x0b\x0c\x1b[2J\x1c\x1d\x1e\x7f\x80\x85\x9b31m\x9d0;title\x9c"
    "\u00ad\u200b\u2060\ufeff\U000e0041\u2028\u2029\ue000\U0010ffff"
)
LINE_BREAKS = "\u2028 \u2029 \x85"


def visible(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


def run(folder: Path, url: str, line: dict[str, object], *arguments: str) -> Finished:
    (folder / "requests.jsonl").write_text(json.dumps(line) + "\n")
    command = ("run", "requests.jsonl", "--gateway", url, "--max-retries", "0", *arguments)
    return batch_gateway(*command, cwd=folder)


@pytest.mark.parametrize(
    "how", [(), ("--quiet",), ("--json",), ("--log-format", "text"), ("--log-format", "json")]
)
@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_no_character_that_steers_a_terminal_gets_there(
    tmp_path: Path, how: tuple[str, ...], status: int
) -> None:
    words = f"before{STEERING}\n2026-01-01T00:00:00.000Z INFO forged {STEERING}after"
    line = chat_line(f"id {words}", model=f"model {words}")
    body = {"error": {"message": words, "code": words, "type": words}, "message": words}
    with one_answer(json.dumps(body, ensure_ascii=False).encode(), status) as url:
        ended = run(tmp_path, url, line, *how)
    assert ended.returncode in (1, 3)
    assert visible(ended.stdout), ended.stdout
    assert visible(ended.stderr), ended.stderr
    if how != ("--quiet",):
        assert "before" in ended.stdout
    if "--json" in how:
        assert json.loads(ended.stdout)["exit_code"] == ended.returncode
    if how[:1] == ("--log-format",):
        for text in ended.stderr.splitlines():
            assert "forged" not in text.split("before", maxsplit=1)[0]
            if "json" in how:
                assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("form", ["text", "json"])
def test_half_a_surrogate_pair_is_logged_like_all_else(
    capsys: pytest.CaptureFixture[str], form: Literal["text", "json"]
) -> None:
    with logs_shown(form, None, None):
        log = logging.getLogger("batch_gateway.test")
        log.warning("file \udcff", extra={"fields": {"model": "cut \ud83d"}})
    shown = capsys.readouterr().err
    assert "file \\udcff" in shown
    assert "cut \\ud83d" in shown


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\u202eb", "a\x9bb", "a\nb", "\ud800"])
def test_names_of_files_do_not_steer_a_terminal(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(b"{}")
    except (OSError, UnicodeError):
        name = f"{name[:1]}.jsonl".replace("\ud800", "x")
    for command in (
        ("run", name, "--gateway", "http://g"),
        ("run", "requests.jsonl", "--gateway", "http://g", name),
        ("run", "requests.jsonl", "--gateway", "http://g", "--config", name),
        ("validate", name),
        (name,),
    ):
        ended = batch_gateway(*command, cwd=tmp_path)
        assert ended.returncode == 2
        assert visible(ended.stderr), ended.stderr


@pytest.mark.parametrize("status", [200, 400, 503])
def test_results_are_one_line_each_for_readers_that_know_more_line_breaks_than_json(
    tmp_path: Path, status: int
) -> None:
    text = f"one{LINE_BREAKS}two  \u2027\u202a\xa0\u0384\u4e2d"
    good = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    body = good if status == 200 else {"error": {"message": text, "code": text}}
    raw = json.dumps(body, ensure_ascii=False).encode()
    with one_answer(raw, status) as url:
        run(tmp_path, url, chat_line(f"id{LINE_BREAKS}"), "--timeout", "20s")
    name = "requests.results.jsonl" if status == 200 else "requests.results.errors.jsonl"
    written = (tmp_path / name).read_text("utf-8") if (tmp_path / name).exists() else ""
    if status == 503:
        # Nothing answered as a gateway does, so nothing was recorded.
        return
    [line] = written.splitlines()
    found = json.loads(line)
    assert found["custom_id"] == f"id{LINE_BREAKS}"
    assert found["response"]["body"] == body
    # All other characters stand as they came.
    kept = raw.decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    assert kept.replace("\x85", "\\u0085") in line


def test_an_answer_that_is_none_is_one_line_too(tmp_path: Path) -> None:
    with one_answer(f"<html>{LINE_BREAKS}".encode(), 404, "text/html") as url:
        ended = run(tmp_path, url, chat_line("a"))
    assert ended.returncode in (1, 3)
    for path in tmp_path.glob("*.errors.jsonl"):
        assert len(path.read_text("utf-8").splitlines()) == 1
