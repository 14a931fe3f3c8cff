"""Wrong files, wrong flags, wrong gateways: what is said, what is written, how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.cli.commands import batch_gateway, chat_line, in_a_process, write_batch

UNREACHABLE = "http://127.0.0.1:1"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"requests.jsonl"}


def test_every_problem_of_the_input_is_shown_and_nothing_sent_or_written(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    good, double = json.dumps(chat_line("a")), json.dumps(chat_line("a"))
    streaming = chat_line("b")
    streaming["body"]["stream"] = True
    lines = [good, "{not json", double, json.dumps(streaming), '{"custom_id": "c"}']
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("Error: requests.jsonl has problems on 4 lines\n")
    for line in ("  line 2: ", "  line 3: ", "  line 4: ", "  line 5: "):
        assert line in run.stderr
    assert gateway.journal()["received"] == 0
    assert files(tmp_path) == set()


def test_twenty_problems_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text("{}x\n{not\n" * 25)
    run = batch_gateway("run", "requests.jsonl", "--gateway", UNREACHABLE, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.count("  line ") == 20
    assert "and 30 more lines with problems" in run.stderr


G = ["--gateway", "http://g"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "Missing argument 'FILE'"),
        (["run", "nowhere.jsonl", *G], "nowhere.jsonl: No such file"),
        (["run", ".", *G], ". is a directory"),
        (["run", "requests.jsonl", "--gatway", "http://g"], "--gatway"),
        (
            ["run", "requests.jsonl", "--gateway", "simulater"],
            "--gateway: 'simulater' is not a URL",
        ),
        (["run", "requests.jsonl", "--concurrency", "0"], "Invalid value for '--concurrency'"),
        (["run", "requests.jsonl", "--timeout", "5 min"], "Invalid value for '--timeout'"),
        (["run", "requests.jsonl", "--header", "X-Key"], "'--header': must be NAME=VALUE"),
        (["run", "requests.jsonl", "--model-gateway", "m"], "must be MODEL=URL"),
        (["run", "requests.jsonl", "--order", "random"], "'random' is not one of"),
        (["run", "requests.jsonl", "--config", "no.yaml"], "cannot read the config file no.yaml"),
        (
            ["run", "requests.jsonl", "--gateway", "http://g", "--api-key-file", "k"],
            "--api-key-fil",
        ),
        (
            ["run", "requests.jsonl", *G, "-o", "requests.jsonl"],
            "is the input",
        ),
        (["run", "requests.jsonl", *G, "-o", "no/o.jsonl"], "does not exist"),
        (["run", "requests.jsonl", *G, "-o", "/dev/null"], "regular file"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["simulat"], "Did you mean 'simulate'?"),
    ],
)
def test_a_mistake_in_the_usage_is_named_and_exits_2(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    run = batch_gateway(*arguments, cwd=tmp_path)
    assert run.returncode == 2, run.stderr
    assert expected in run.stderr
    assert files(tmp_path) == set()


def test_a_config_file_with_mistakes_shows_their_lines(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    (tmp_path / "gateway.yaml").write_text("gateway: http://g\nconcurency: 5\ntimeout: soon\n")
    run = batch_gateway("run", "requests.jsonl", "--config", "gateway.yaml", cwd=tmp_path)
    assert run.returncode == 2
    assert "gateway.yaml:2: unknown key concurency; did you mean concurrency?" in run.stderr
    assert "gateway.yaml:3: timeout: 'soon' is not a duration" in run.stderr


def test_a_gateway_that_cannot_be_reached_exits_3_and_writes_nothing(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 100)
    run = batch_gateway("run", "requests.jsonl", "--gateway", UNREACHABLE, cwd=tmp_path)
    assert run.returncode == 3
    assert run.stderr.startswith("Error: the gateway cannot be reached; nothing was sent\n")
    assert "connection refused" in run.stderr
    assert files(tmp_path) == set()


def test_only_gateways_of_models_in_the_file_need_to_be_there(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url,
        "--model-gateway", f"unused={UNREACHABLE}", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0


@pytest.mark.parametrize("path", ["", "/wrong/path"])
def test_a_wrong_key_or_path_stops_within_seconds_and_the_lines_stay(
    tmp_path: Path, path: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 500)
    with simulated_gateway(api_key=None if path else "sk-right") as gateway:
        run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url + path, cwd=tmp_path)
        assert gateway.journal()["received"] <= 64
    assert run.returncode == 3
    assert run.stdout.startswith("Stopped, the gateway cannot be used: ")
    assert "500 left" in run.stdout
    assert files(tmp_path) == set()


def test_a_path_that_is_not_there_is_named_as_it_was_asked_for(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 20)
    run = batch_gateway("run", "requests.jsonl", "--gateway", f"{gateway.url}/a/v2", cwd=tmp_path)
    assert run.returncode == 3
    assert f"asked for {gateway.url}/a/v2/chat/completions" in run.stdout
    # As it is, the same command can only come to the same end.
    assert "To go on" not in run.stdout


def test_a_request_timeout_is_a_failure_of_its_line(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3 + ["fault-stall"])
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--timeout", "300ms",
        "--max-retries", "0", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1
    assert "1 failed by the gateway" in run.stdout


def test_the_output_of_another_input_is_left_alone(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    batch_gateway(*command, cwd=tmp_path)
    before = (tmp_path / "requests.results.jsonl").read_bytes()
    write_batch(tmp_path / "requests.jsonl", 1)
    run = batch_gateway(*command, cwd=tmp_path)
    assert run.returncode == 2
    assert "holds results of another input" in run.stderr
    assert (tmp_path / "requests.results.jsonl").read_bytes() == before


def test_a_full_disk_exits_4_and_the_same_command_goes_on(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 200)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    full = in_a_process(*command, cwd=tmp_path, largest_file=20_000)
    assert full.returncode == 4, full.stderr
    assert full.stdout.startswith("Stopped, results cannot be written: ")
    assert "File too large" in full.stdout
    kept = (tmp_path / "requests.results.jsonl").read_text().count("\n")
    assert 0 < kept < 200
    gateway.clear_journal()
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    assert gateway.journal()["received"] == 200 - kept


def test_too_many_connections_for_the_limit_on_open_files_are_refused(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", "http://g", "--concurrency", "100000000",
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 2
    assert "open files" in run.stderr
