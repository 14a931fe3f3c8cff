"""The command before a real model: a batch of fifty lines, some of them wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.peers.llama import Llama

pytestmark = pytest.mark.peer("llama.cpp")

LIMIT_S = 120.0

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOO_LONG = "exceeds the available context size (1024 tokens)"
# custom_id: what the server says of the line
BAD_LINES = {
    "chat-7": "Expected 'messages' to be an array",
    "chat-11": "type must be number, but is string",
    "completion-30": TOO_LONG,
}


def lines() -> list[dict[str, Any]]:
    """Twenty-five chats and as many completions; the three of BAD_LINES are refused."""
    bodies: dict[str, tuple[str, dict[str, Any]]] = {}
    for n in range(25):
        question = {"role": "user", "content": f"Say the number {n}."}
        bodies[f"chat-{n}"] = (CHAT, {"messages": [question]})
    for n in range(25, 50):
        bodies[f"completion-{n}"] = (COMPLETIONS, {"prompt": f"The number {n} is"})
    bodies["chat-7"][1]["messages"] = "hi"
    bodies["chat-11"][1]["temperature"] = "hot"
    bodies["completion-30"][1]["prompt"] = "word " * 1100
    return [
        {
            "custom_id": custom_id,
            "method": "POST",
            "url": url,
            "body": {"model": "smollm2", "max_tokens": 4, **body},
        }
        for custom_id, (url, body) in bodies.items()
    ]


class Batch:
    """The command in a folder of its own, against one server."""

    def __init__(self, llama: Llama, folder: Path) -> None:
        self.llama = llama
        self.folder = folder
        self.input = folder / "requests.jsonl"
        self.write(lines())
        (folder / "key").write_text(llama.key + "\n", "utf-8")

    def write(self, wanted: list[dict[str, Any]]) -> None:
        self.input.write_text("".join(json.dumps(line) + "\n" for line in wanted), "utf-8")

    def run(self, *flags: str) -> tuple[int, dict[str, Any]]:
        """Exit code and summary."""
        command = [sys.executable, "-m", "batch_gateway", "run", self.input.name]
        command += ["--gateway", self.llama.url, "--api-key-file", "key", "-o", "results.jsonl"]
        done = subprocess.run(
            [*command, "--concurrency", "16", "--json", *flags],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        shown = done.stdout.decode() + done.stderr.decode()
        assert self.llama.key not in shown
        assert "Traceback" not in shown
        return done.returncode, json.loads(done.stdout)

    def results(self) -> dict[str, Any]:
        return _by_custom_id(self.folder / "results.jsonl")

    def errors(self) -> dict[str, Any]:
        return _by_custom_id(self.folder / "results.errors.jsonl")

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("results*")}


def _by_custom_id(path: Path) -> dict[str, Any]:
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    by_id = {record["custom_id"]: record for record in records}
    assert len(by_id) == len(records), "a line was answered twice"
    return by_id


@pytest.fixture
def batch(llama: Llama, tmp_path: Path) -> Batch:
    return Batch(llama, tmp_path)


def test_fifty_lines_become_results_and_errors_and_are_never_sent_again(batch: Batch) -> None:
    code, summary = batch.run()
    assert (code, summary["outcome"]) == (1, "completed")
    assert (summary["total"], summary["succeeded"], summary["failed"]) == (50, 47, 3)
    assert summary["failed_by_category"]["INVALID_REQ"] == 3
    assert summary["usage"]["output_tokens"] > 0
    assert summary["retries"] == 0
    check_results(batch.results(), lines())
    check_errors(batch.errors())

    said, written = batch.llama.log.read_bytes(), batch.files()
    code, summary = batch.run()
    assert (code, summary["finished_now"], summary["done_before"]) == (1, 0, 50)
    assert batch.files() == written
    # It logs every request that it works on.
    assert batch.llama.log.read_bytes() == said


def check_results(results: dict[str, Any], sent: list[dict[str, Any]]) -> None:
    assert results.keys() == {line["custom_id"] for line in sent} - BAD_LINES.keys()
    for custom_id, record in results.items():
        assert record["error"] is None
        assert record["response"]["status_code"] == 200
        body = record["response"]["body"]
        assert 1 <= body["usage"]["completion_tokens"] <= 8
        [choice] = body["choices"]
        assert ("message" in choice) == custom_id.startswith("chat")


def check_errors(errors: dict[str, Any]) -> None:
    assert errors.keys() == BAD_LINES.keys()
    for custom_id, record in errors.items():
        assert record["error"] is None
        assert record["response"]["status_code"] == 400
        assert BAD_LINES[custom_id] in record["response"]["body"]["error"]["message"]
        assert record["response"]["body"]["error"]["code"] == 400
    too_long = errors["completion-30"]["response"]["body"]["error"]
    assert too_long["type"] == "exceed_context_size_error"


def test_failed_lines_alone_are_sent_again_when_asked_for(batch: Batch) -> None:
    few = [*lines()[5:12], *lines()[28:32]]
    batch.write(few)
    code, summary = batch.run("--ordered")
    assert (code, summary["succeeded"], summary["failed"]) == (1, 8, 3)
    results, said = batch.results(), batch.llama.log.read_text("utf-8", "replace")
    check_results(results, few)
    assert list(results) == [one["custom_id"] for one in few if one["custom_id"] in results]
    code, summary = batch.run("--ordered", "--retry-failed")
    assert (code, summary["finished_now"], summary["failed"]) == (1, 3, 3)
    assert batch.results() == results
    check_errors(batch.errors())
    said_since = batch.llama.log.read_text("utf-8", "replace").removeprefix(said)
    # Of the three, one gets as far as a slot.
    assert said_since.count("launch_slot_") == said_since.count(TOO_LONG) == 1


def test_a_wrong_key_stops_the_run_and_leaves_every_line_to_be_sent(batch: Batch) -> None:
    (batch.folder / "key").write_text("sk-wrong\n", "utf-8")
    code, summary = batch.run()
    assert (code, summary["outcome"]) == (3, "gateway_unusable")
    assert (summary["succeeded"], summary["failed"], summary["left"]) == (0, 0, 50)
    assert "Invalid API Key" in summary["reason"]
    assert "sk-wrong" not in json.dumps(summary)
    assert not any(batch.files().values())
