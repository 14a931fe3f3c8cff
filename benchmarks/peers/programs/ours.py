"""`batch-gateway run`, and its two files read again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from task import Task


def answer(line: str) -> tuple[str, str | None]:
    result = json.loads(line)
    response = result["response"]
    if response is None or response["status_code"] != 200:
        return result["custom_id"], None
    return result["custom_id"], response["body"]["choices"][0]["message"]["content"]


task = Task.parse()
results = task.folder / "own.jsonl"
command = [sys.executable, "-m", "batch_gateway", "run", sys.argv[1], "--gateway", task.gateway]
command += ["-o", str(results), "--concurrency", str(task.concurrency), "--quiet"]
done = subprocess.run([*command, "--max-failures", "100%"], check=False)
if done.returncode not in (0, 1):
    sys.exit(done.returncode)
lines = results.read_text("utf-8").splitlines()
errors = Path(f"{results.with_suffix('')}.errors.jsonl")
failed = errors.read_text("utf-8").splitlines() if errors.exists() else []
task.finish([*map(answer, lines), *((json.loads(line)["custom_id"], None) for line in failed)])
