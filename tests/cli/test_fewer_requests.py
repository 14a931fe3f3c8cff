"""`--cache` and `--coalesce` through the command, over processes that crash and share a file."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import batch_gateway, read_lines, started, wait_until, write_batch


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.instant(embedding_dimensions=8)) as running:
        yield running


def write_embeddings(path: Path, inputs: list[Any], **params: Any) -> Path:
    lines = (
        {
            "custom_id": f"req-{number}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "tiny", "input": text, **params},
        }
        for number, text in enumerate(inputs, 1)
    )
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def summary(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    done = batch_gateway("run", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bodies(path: Path) -> dict[str, Any]:
    return {line["custom_id"]: line["response"]["body"] for line in read_lines(path)}


def test_a_second_run_asks_for_nothing_that_is_in_the_cache(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_embeddings(tmp_path / "in.jsonl", [f"text {n % 60}" for n in range(100)])
    arguments = [batch, "--gateway", gateway.url, "--cache", "answers"]
    first = summary(*arguments, "-o", "one.jsonl", cwd=tmp_path)
    assert gateway.journal()["completed"] == 60
    assert (first["from_cache"], first["succeeded"]) == (40, 100)
    second = summary(*arguments, "-o", "two.jsonl", cwd=tmp_path)
    assert gateway.journal()["completed"] == 60
    assert (second["from_cache"], second["usage"]["total_tokens"]) == (100, 0)
    assert bodies(tmp_path / "one.jsonl") == bodies(tmp_path / "two.jsonl")
    shown = batch_gateway("run", *arguments, "-o", "three.jsonl", cwd=tmp_path).stdout
    assert "100 answers not asked for again" in shown


def test_joined_lines_get_what_they_would_have_got_alone(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_embeddings(tmp_path / "in.jsonl", [f"text {n}" for n in range(100)])
    alone = summary(batch, "--gateway", gateway.url, "-o", "alone.jsonl", cwd=tmp_path)
    sent = gateway.journal()["completed"]
    together = summary(
        *(batch, "--gateway", gateway.url, "-o", "together.jsonl", "--coalesce", "20"),
        *("--coalesce-wait", "50ms"),
        cwd=tmp_path,
    )
    assert sent == 100
    assert gateway.journal()["completed"] - sent <= 20
    assert together["coalesced"] > 80
    assert together["joint_requests"] <= 20
    assert together["usage"] == alone["usage"]
    expected = bodies(tmp_path / "alone.jsonl")
    for custom_id, body in bodies(tmp_path / "together.jsonl").items():
        assert body["data"] == expected[custom_id]["data"]
        assert body.keys() == expected[custom_id].keys()


def test_one_bad_line_harms_no_other(tmp_path: Path, gateway: GatewayHandle) -> None:
    # Token ids must be integers that a gateway takes; the simulator refuses an empty prompt list.
    inputs: list[Any] = [*(f"text {n}" for n in range(30)), []]
    batch = write_embeddings(tmp_path / "in.jsonl", inputs)
    done = batch_gateway(
        *("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--coalesce", "40"),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert len(read_lines(tmp_path / "out.jsonl")) == 30
    (failed,) = read_lines(tmp_path / "out.errors.jsonl")
    assert failed["custom_id"] == "req-31"


def test_settings_stand_in_a_config_file_too(tmp_path: Path, gateway: GatewayHandle) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "c.yaml").write_text(
        f"gateway: {gateway.url}\ncache: answers.db\ncache_max_size: 10MiB\n"
        "cache_max_age: 1h\ncache_namespace: shared\ncoalesce: 10\ncoalesce_wait: 20ms\n"
    )
    batch = write_embeddings(tmp_path / "in.jsonl", [f"text {n}" for n in range(30)])
    told = summary(batch, "--config", "config/c.yaml", "-o", "out.jsonl", cwd=tmp_path)
    assert told["coalesced"] > 0
    assert (folder / "answers.db").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cache", "in.jsonl"], "--cache: in.jsonl is a text file, not an answer cache"),
        (["--cache", "no/where"], "--cache: there is no folder no"),
        (["--cache", "c", "--cache-max-size", "1kB"], "--cache-max-size: must be at least 1MiB"),
        (["--cache", "c", "--cache-max-size", "big"], "'big' is not a size"),
        (["--cache", "c", "--cache-max-age", "0"], "--cache-max-age: must be more than zero"),
        (["--cache-max-age", "1h"], "--cache-max-age: does nothing without --cache"),
        (["--coalesce-wait", "1ms"], "--coalesce-wait: does nothing without --coalesce"),
        (["--coalesce", "1"], "--coalesce"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_sent(
    tmp_path: Path, gateway: GatewayHandle, flags: list[str], words: str
) -> None:
    write_batch(tmp_path / "in.jsonl", 3)
    done = batch_gateway("run", "in.jsonl", "--gateway", gateway.url, *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert gateway.journal()["by_status"] == {}


def test_answers_of_the_simulator_in_the_process_are_found_again(tmp_path: Path) -> None:
    batch = write_embeddings(tmp_path / "in.jsonl", ["a", "b", "c"])
    arguments = [batch, "--gateway", "simulator", "--cache", "answers"]
    summary(*arguments, "-o", "one.jsonl", cwd=tmp_path)
    assert summary(*arguments, "-o", "two.jsonl", cwd=tmp_path)["from_cache"] == 3


def test_processes_share_a_cache_and_survive_each_others_violent_death(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_embeddings(tmp_path / "in.jsonl", [f"text {n} " * 20 for n in range(3000)])
    cache = tmp_path / "answers"

    def kept() -> int:
        if not cache.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{cache}?mode=ro", uri=True)) as reading:
                return reading.execute("SELECT count(*) FROM answers").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # the table is not made yet

    def running(number: int) -> list[str | Path]:
        return [
            *("run", batch, "--gateway", gateway.url, "--cache", cache, "--quiet"),
            *("-o", f"out-{number}.jsonl"),
        ]

    for crash in range(2):
        before = kept()
        with ExitStack() as stack:
            runs: list[subprocess.Popen[str]] = [
                stack.enter_context(started(*running(10 * crash + n), cwd=tmp_path))
                for n in range(3)
            ]
            wait_until(lambda: kept() > before + 50, "answers are being kept")  # noqa: B023
            for run in runs:
                run.send_signal(signal.SIGKILL)
    with closing(sqlite3.connect(cache)) as checking:
        assert checking.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept_before, sent_before = kept(), gateway.journal()["completed"]
    assert kept_before > 100
    done = summary(*running(99)[1:-3], "-o", "out-99.jsonl", cwd=tmp_path)
    assert done["from_cache"] >= kept_before
    # Some were answered just when their process was killed.
    assert gateway.journal()["completed"] - sent_before <= 3000 - kept_before
    assert list(tmp_path.glob("answers.damaged*")) == []


def test_retries_of_joint_requests_are_counted_once(tmp_path: Path) -> None:
    batch = write_embeddings(tmp_path / "in.jsonl", [f"text {n}" for n in range(64)])
    with simulated_gateway(faults={"refuse-then-ok=2;retry-after=0": 1.0}) as gateway:
        told = summary(
            *(batch, "--gateway", gateway.url, "-o", "out.jsonl", "--coalesce", "8"),
            *("--coalesce-wait", "50ms", "--patience", "0"),
            cwd=tmp_path,
        )
        sent = gateway.journal()["received"]
    assert told["coalesced"] > 32
    first_sendings = told["joint_requests"] + 64 - told["coalesced"]
    assert (first_sendings + told["retries"], told["retries"]) == (sent, 2 * first_sendings)


@pytest.mark.parametrize("taken", ["-o", "--errors", "--report"])
def test_a_cache_never_takes_the_place_of_another_file_of_the_run(
    tmp_path: Path, gateway: GatewayHandle, taken: str
) -> None:
    batch = write_embeddings(tmp_path / "in.jsonl", ["a text"])
    files = {"-o": "out.jsonl", taken: "same"}
    done = batch_gateway(
        *("run", batch, "--gateway", gateway.url, "--cache", "./same"),
        *(part for pair in files.items() for part in pair),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "--cache: same is where the" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
