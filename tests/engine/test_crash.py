"""The command is killed at random moments, again and again: nothing is lost, nothing repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from batch_gateway.testing import simulated_gateway
from tests.commands_to_kill import commands, times_received

from .batch_files import read_lines, request, text_of

LINES = 6_000
KILLS = 40
# What a command may still do before it is killed: not all of them together get through the file.
MOST_BYTES, LONGEST_WORK = 30_000, 0.05
LONGEST_START = 60.0


def ids_on_disk(*files: Path) -> set[str]:
    """Of every whole line, which is what a killed command left for sure."""
    whole = (
        line for file in files if file.exists() for line in file.read_bytes().split(b"\n")[:-1]
    )
    return {json.loads(line)["id"] for line in whole}


def wait_for_growth(file: Path, by: int) -> float:
    """Until so many bytes more are in the file; the seconds that it took."""
    began = time.monotonic()
    before = file.stat().st_size if file.exists() else 0
    while not file.exists() or file.stat().st_size < before + by:
        assert time.monotonic() < began + LONGEST_START
        time.sleep(0.002)
    return time.monotonic() - began


def test_a_command_killed_forty_times_gives_each_line_one_result_and_repeats_none_on_disk(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    requests, output = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    errors = tmp_path / "results.errors.jsonl"
    models = ("tiny", "tiny", "tiny", "fault-status-400")
    lines = (request(f"id-{n}", model=models[n % 4]) for n in range(LINES))
    requests.write_bytes(text_of(lines))
    received_when_safe: dict[str, int] = {}

    with (
        simulated_gateway(latency_scale=0.5, output_tokens=1) as gateway,
        commands(tmp_path) as run,
    ):
        arguments = ("run", requests, "--gateway", gateway.url, "-o", output, "--errors", errors)
        arguments += ("--max-failures", "100%")  # all lines of one model are wrong
        ends: Counter[int] = Counter()
        progress: list[int] = []
        start = 0.0
        for kill in range(KILLS):
            process = run.start(*arguments, "--concurrency", "32", "--quiet")
            if kill % 3:
                # However slow the machine, there is something new to lose.
                start = wait_for_growth(output, chance.randrange(1, MOST_BYTES))
                time.sleep(chance.uniform(0, LONGEST_WORK))
            else:
                time.sleep(chance.uniform(0, start))
            os.kill(process, signal.SIGKILL)
            ends[run.exit_code()] += 1
            safe = ids_on_disk(output, errors)
            progress.append(len(safe))
            received = times_received(gateway)
            for request_id in safe - received_when_safe.keys():
                received_when_safe[request_id] = received[request_id]
        run.start(*arguments, "--concurrency", "500", "--quiet")
        last = run.exit_code()
        received = times_received(gateway)

    log = (tmp_path / "log").read_text()
    assert ends == {-signal.SIGKILL: KILLS}, log
    assert "Traceback" not in log
    assert last == 1
    # The kills came at many different stages, or this test would show nothing.
    assert len(set(progress)) > KILLS / 3
    assert progress[-1] < LINES

    results = [line["custom_id"] for line in read_lines(output) + read_lines(errors)]
    assert sorted(results) == sorted(f"id-{n}" for n in range(LINES))
    assert len(read_lines(errors)) == LINES // 4
    repeated = {i for i, times in received_when_safe.items() if received[i] != times}
    assert not repeated
