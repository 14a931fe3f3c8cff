"""A key that a gateway quotes back is nowhere to be seen after a run."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.commands import batch_gateway, write_batch
from tests.cli.one_answer import one_answer

KEY = "sk-proj-a/B+c9_d.E=fGh~1234567890"
ENTITIES = "".join(f"&#x{ord(sign):x};" for sign in KEY)
IN_HEX = "".join(f"\\u{ord(sign):04x}" for sign in KEY)

ANSWERS = {
    "JSON": (400, '{"error":{"message":"bad key KEY","code":"KEY"}}'.replace("KEY", IN_HEX)),
    "a page": (502, f"<html><title>no {ENTITIES}</title></html>"),
    "text": (429, f"unknown key {quote(KEY, safe='')}"),
    "a 200 that is none": (200, f"{'.' * 40}{KEY}"),
    "a 200 with an error": (200, json.dumps({"error": {"message": KEY, "code": 400}})),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_file_and_no_screen_has_the_key(answer: str, form: str, tmp_path: Path) -> None:
    status, body = ANSWERS[answer]
    (tmp_path / "key").write_text(KEY)
    batch = write_batch(tmp_path / "in.jsonl", 2)
    with one_answer(body.encode(), status) as url:
        done = batch_gateway(
            *("run", batch, "--gateway", url, "-o", "out.jsonl", "--report", "report.html"),
            *("--api-key-file", "key", "--max-retries", "0"),
            *("--log-format", form, "--log-level", "debug"),
            cwd=tmp_path,
        )
    (tmp_path / "key").unlink()
    files = [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    seen = "".join((done.stdout, done.stderr, *files))
    assert "[redacted]" in seen
    for spelling in (KEY, IN_HEX, ENTITIES, quote(KEY, safe="")):
        assert spelling[:20] not in seen
