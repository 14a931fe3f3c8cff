"""The example batch file is what its script writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_script_writes_the_example_file() -> None:
    written = subprocess.run(
        [sys.executable, EXAMPLES / "make_requests.py"],
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout
    assert written == (EXAMPLES / "requests.jsonl").read_bytes()


def test_its_lines_are_varied_begin_with_few_prompts_and_make_one_batch() -> None:
    text = (EXAMPLES / "requests.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 1000
    assert len({line["custom_id"] for line in lines}) == 1000
    assert len({json.dumps(line["body"]) for line in lines}) == 1000
    assert {line["url"] for line in lines} == {"/v1/chat/completions"}
    assert len({line["body"]["messages"][0]["content"] for line in lines}) == 5
