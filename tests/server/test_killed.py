"""The service is killed at random moments: every line ends once, none on disk is repeated."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePosixPath

import httpx2
import openai
import pytest

from batch_gateway.testing import simulated_gateway
from tests.commands_to_kill import Commands, commands, times_received
from tests.engine.batch_files import request, text_of

LINES = 4_000
KILLS = 30
LONGEST_WAIT = 120.0


class Service:
    """`batch-gateway serve` on one folder, and what is in that."""

    def __init__(self, run: Commands, folder: Path, gateway: str) -> None:
        self._run, self._folder, self._gateway = run, folder, gateway
        self.log = folder / "log"
        self.log.touch()

    def start(self) -> int:
        flags = ("--port", 0, "--observability-port", 0, "--concurrency", 8)
        return self._run.start(
            "serve", "--gateway", self._gateway, "--data", self._folder / "data", *flags
        )

    def kill(self, process: int) -> int:
        os.kill(process, signal.SIGKILL)
        return self._run.exit_code()

    def url(self, starts: int) -> str:
        """Where it listens once it has been started so many times and got so far each time."""
        began = time.monotonic()
        while len(urls := re.findall(r"^http://\S+", self.log.read_text(), re.MULTILINE)) < starts:
            assert time.monotonic() < began + LONGEST_WAIT, self.log.read_text()
            time.sleep(0.01)
        return urls[-1]

    def parts(self) -> list[Path]:
        return [*(self._folder / "data" / "files" / "objects" / "batches").rglob("*-*.*")]

    def ids_on_disk(self) -> set[str]:
        lines = (line for part in self.parts() for line in part.read_bytes().splitlines())
        return {json.loads(line)["id"] for line in lines}

    def lines_not_registered(self) -> dict[Path, int]:
        """By part, what a killed process stored without recording that it had."""
        with closing(sqlite3.connect(self._folder / "data" / "records.sqlite3")) as records:
            registered = {
                PurePosixPath(name).name for (name,) in records.execute("SELECT name FROM parts")
            }
        parts = [part for part in self.parts() if part.name not in registered]
        return {part: part.read_bytes().count(b"\n") for part in parts}

    def wait_for_more(self) -> float:
        """Until more results are on disk; the seconds that it took."""
        began, before = time.monotonic(), len(self.parts())
        while len(self.parts()) == before:
            assert time.monotonic() < began + LONGEST_WAIT, self.log.read_text()
            time.sleep(0.01)
        return time.monotonic() - began


@pytest.mark.specified("killed")
@pytest.mark.timeout(600)
def test_a_service_killed_thirty_times_gives_each_line_one_result_and_repeats_none_on_disk(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    models = ("tiny", "tiny", "tiny", "fault-status-400")
    lines = text_of(request(f"id-{n}", model=models[n % 4]) for n in range(LINES))
    received_when_safe: dict[str, int] = {}
    with (
        simulated_gateway(latency_scale=0.5, output_tokens=1) as gateway,
        commands(tmp_path) as run,
    ):
        service = Service(run, tmp_path, gateway.url)
        process = service.start()
        batch_id = _submit(service.url(1), lines)
        ends, progress, start = Counter[int](), list[int](), 0.0
        adopted_later = dict[Path, int]()
        for kill in range(KILLS):
            if kill % 3:
                start = service.wait_for_more()
                time.sleep(chance.uniform(0, 0.05))
            else:
                time.sleep(chance.uniform(0, start))
            ends[service.kill(process)] += 1
            adopted_later |= service.lines_not_registered()
            safe = service.ids_on_disk()
            progress.append(len(safe))
            received = times_received(gateway)
            for request_id in safe - received_when_safe.keys():
                received_when_safe[request_id] = received[request_id]
            process = service.start()
        starts = len(re.findall(r"^http://\S+", service.log.read_text(), re.MULTILINE))
        url = service.url(starts + 1)
        results = _results(url, batch_id)
        report = httpx2.get(f"{url}/batches/{batch_id}/report").text
        received = times_received(gateway)
        os.kill(process, signal.SIGTERM)
        last = run.exit_code()

    log = service.log.read_text()
    assert ends == {-signal.SIGKILL: KILLS}, log
    assert "Traceback" not in log
    assert last == 0
    assert len(set(progress)) > KILLS / 3
    assert progress[-1] < LINES
    assert sorted(results) == sorted(f"id-{n}" for n in range(LINES))
    assert "Done, 1,000 of 4,000 requests failed" in report
    # What was seen of a line is recorded with its part: a kill between the two loses just that.
    unseen = sum(adopted_later.values())
    told = re.findall(r"What it saw of ([\d,]+) of the lines is lost", report)
    assert told == [f"{unseen:,}"] * (unseen > 0)
    repeated = {i for i, times in received_when_safe.items() if received[i] != times}
    assert not repeated


def _sdk(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", http_client=None)


def _submit(url: str, lines: bytes) -> str:
    with _sdk(url) as sdk:
        file = sdk.files.create(file=("in.jsonl", lines), purpose="batch")
        batch = sdk.batches.create(
            input_file_id=file.id, completion_window="24h", endpoint="/v1/chat/completions"
        )
    return batch.id


def _results(url: str, batch_id: str) -> list[str]:
    """The custom_ids in both result files, once the batch has ended with the counts of them."""
    began = time.monotonic()
    with _sdk(url) as sdk:
        while (batch := sdk.batches.retrieve(batch_id)).status != "completed":
            assert batch.status in {"validating", "in_progress", "finalizing"}
            assert time.monotonic() < began + LONGEST_WAIT
            time.sleep(0.05)
        found: dict[str, list[str]] = {}
        for name in ("output_file_id", "error_file_id"):
            text = sdk.files.content(getattr(batch, name)).text
            found[name] = [json.loads(line)["custom_id"] for line in text.splitlines()]
    counts = batch.request_counts
    assert counts is not None
    assert (counts.completed, counts.failed) == tuple(len(ids) for ids in found.values())
    return [custom_id for ids in found.values() for custom_id in ids]
