"""A real model server's own metrics: forty requests for its eight slots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.llama import Llama

pytestmark = pytest.mark.peer("llama.cpp")

_LIMIT_S = 120.0


def test_the_pace_comes_down_to_what_the_server_has_slots_for(llama: Llama, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(llama.key + "\n", "utf-8")
    body = {"model": "smollm2", "max_tokens": 8, "ignore_eos": True, "prompt": "The number is"}
    lines = [
        {"custom_id": f"{n}", "method": "POST", "url": "/v1/completions", "body": body}
        for n in range(40)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "batch_gateway", "run", "in.jsonl", "--json"),
            *("--gateway", llama.url, "--api-key-file", "key", "-o", "out.jsonl"),
            *("--gateway-metrics", f"{llama.url}/metrics", "--gateway-metrics-interval", "200ms"),
            *("--gateway-metrics-token-file", "key"),
        ],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"metrics" not in done.stderr
    summary = json.loads(done.stdout)
    assert summary["succeeded"] == len(lines)
    [looked] = summary["gateway_metrics"]
    assert looked["looks"] >= 3
    assert looked["lowered"] >= 1
    assert summary["concurrency_limits"][0] < 16
