"""Ctrl-C, SIGTERM and SIGKILL: what is kept, what is said, and that the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_gateway.testing import simulated_gateway
from tests.cli.commands import (
    COMMAND,
    batch_gateway,
    environment,
    read_lines,
    started,
    wait_until,
    write_batch,
)

# Half of the lines are answered at once; the others hang until somebody gives up.
HALF_STUCK = ["tiny", "fault-stall"] * 20


@pytest.fixture(autouse=True)
def hang_ups_are_heeded() -> Iterator[None]:
    """Also where the tests themselves run under nohup, which commands would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def results(folder: Path) -> int:
    path = folder / "requests.results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    stdout, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr, stderr
    return stdout, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_sending_and_keeps_what_finishes_in_time(
    tmp_path: Path, number: signal.Signals
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.3"] * 50)
    with simulated_gateway() as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "20")
        with started(*command, cwd=tmp_path) as process:
            wait_until(lambda: results(tmp_path) >= 10, "ten results")
            wait_until(lambda: gateway.journal()["in_flight"] > 5, "slow requests in flight")
            process.send_signal(number)
            stdout, stderr = end(process)
        assert process.returncode == 130
        assert "Stopping: requests in flight have 10 s to end" in stderr
        assert stdout.startswith("Interrupted: ")
        sent = gateway.journal()["received"]
        assert results(tmp_path) == sent < 60  # what was in flight was waited for
        assert f"batch-gateway run requests.jsonl --gateway {gateway.url}" in stdout
        again = batch_gateway(*command, cwd=tmp_path)
        assert again.returncode == 0
        assert f"{sent} of 60 already done" in again.stderr
        assert gateway.journal()["received"] == 60  # nothing was sent twice


def test_the_second_signal_leaves_at_once_with_a_journal_that_goes_on(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", HALF_STUCK)
    with simulated_gateway() as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url)
        with started(*command, cwd=tmp_path) as process:
            wait_until(lambda: results(tmp_path) == 20, "every quick result on disk")
            process.send_signal(signal.SIGINT)
            first_words(process, "Stopping")
            asked = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(timeout=9)  # less than the ten seconds that one signal grants
        assert process.returncode == 130
        assert time.monotonic() - asked < 9
        assert len(read_lines(tmp_path / "requests.results.jsonl")) == 20
        again = batch_gateway(*command, "--deadline", "500ms", cwd=tmp_path)
        assert "20 of 40 already done" in again.stderr


def test_a_terminal_that_hangs_up_twice_leaves_the_grace_of_once(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-1"] * 10)
    with simulated_gateway() as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "20")
        with started(*command, cwd=tmp_path) as process:
            wait_until(lambda: results(tmp_path) >= 10, "ten results")
            wait_until(lambda: gateway.journal()["in_flight"] == 10, "slow requests in flight")
            process.send_signal(signal.SIGHUP)
            first_words(process, "Stopping")
            process.send_signal(signal.SIGHUP)
            stdout, _ = end(process)
    # All that was in flight had its time.
    assert results(tmp_path) == 20
    assert process.returncode == 0
    assert stdout.startswith("Done")


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.3"] * 30)
    with simulated_gateway() as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "10")
        with subprocess.Popen(
            ["nohup", *COMMAND, *command],
            cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            wait_until(lambda: results(tmp_path) >= 10, "ten results")
            process.send_signal(signal.SIGHUP)
            stdout, _ = end(process)
    assert process.returncode == 0
    assert stdout.startswith("Done")
    assert results(tmp_path) == 40


def test_a_script_stops_a_run_in_its_background(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", HALF_STUCK)
    with simulated_gateway() as gateway:
        # The shell has Ctrl-C ignored there; who sends the signal all the same means it.
        script = '"$@" & echo $!; wait $!'
        command = ("run", "requests.jsonl", "--gateway", gateway.url, "--deadline", "1h")
        with subprocess.Popen(
            ["sh", "-c", script, "sh", *COMMAND, *command],
            cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            run = int(process.stdout.readline())
            wait_until(lambda: results(tmp_path) == 20, "every quick result on disk")
            os.kill(run, signal.SIGINT)
            first_words(process, "Stopping")
            os.kill(run, signal.SIGINT)
            end(process)
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_anything_was_sent_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    pipe = tmp_path / "requests.pipe"
    os.mkfifo(pipe)
    command = ("run", pipe, "--gateway", "http://127.0.0.1:1")
    # Opening the pipe returns when the command has begun to read it.
    with started(*command, cwd=tmp_path) as process, pipe.open("wb"):
        process.send_signal(number)
        _, stderr = end(process)
    assert process.returncode == 130
    assert stderr.strip() == "Interrupted; nothing was sent."
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_signal_while_the_gateway_does_not_answer_ends_the_wait(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with started("run", "requests.jsonl", "--gateway", url, cwd=tmp_path) as process:
            silent.settimeout(20)
            connection, _ = silent.accept()  # its TLS handshake is never answered
            with connection:
                process.send_signal(signal.SIGINT)
                _, stderr = end(process)
    assert process.returncode == 130
    assert "nothing was sent" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 400)
    config = {"seats": 20, "time_per_token": "2ms", "latency_scale": 1.0, "output_tokens": 4}
    with simulated_gateway(**config) as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "20")
        for goal in (50, 150, 250):
            with started(*command, cwd=tmp_path) as process:
                wait_until(lambda goal=goal: results(tmp_path) >= goal, f"{goal} results")
                process.send_signal(signal.SIGKILL)
        on_disk = {line["id"] for line in whole_lines(tmp_path / "requests.results.jsonl")}
        before = {key: record["received"] for key, record in gateway.journal()["requests"].items()}
        last = batch_gateway(*command, cwd=tmp_path)
        assert last.returncode == 0
        after = {key: record["received"] for key, record in gateway.journal()["requests"].items()}
    assert {key: after[key] for key in on_disk} == {key: before[key] for key in on_disk}
    lines = read_lines(tmp_path / "requests.results.jsonl")
    assert sorted(line["custom_id"] for line in lines) == sorted(f"req-{n}" for n in range(1, 401))


def first_words(process: subprocess.Popen[str], words: str) -> None:
    """Read what the command says until a line begins with `words`."""
    assert process.stderr is not None
    assert any(line.startswith(words) for line in process.stderr)


def whole_lines(path: Path) -> list[dict[str, str]]:
    text = path.read_bytes()
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
