"""Where words go: progress to stderr, the summary to stdout, and who wants which of them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway
from batch_gateway.version import __version__
from tests.cli.commands import COMMAND, batch_gateway, environment, in_a_process, write_batch

BAR = "━".encode()


def on_a_terminal(*arguments: str, cwd: Path, interrupts: int = 0) -> tuple[int, str]:
    """Exit code, and everything that a terminal of 100 columns was sent.

    With `interrupts`, Ctrl-C is pressed so often, beginning when the bar is there.
    """
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(TERM="xterm-256color", COLUMNS="100"),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    sent = b""
    try:
        while chunk := os.read(main, 65536):
            sent += chunk
            if interrupts and BAR in sent:
                sent, interrupts = b"", interrupts - 1
                process.send_signal(signal.SIGINT)
    except OSError:
        pass  # the last process closed the terminal
    finally:
        os.close(main)
    return process.wait(timeout=30), sent.decode()


def test_a_terminal_shows_a_bar_that_vanishes_and_a_coloured_summary(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.3"] * 3)
    code, sent = on_a_terminal("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert code == 0
    assert "of 13" in sent
    assert "3 in flight" in sent
    assert "requests/s" in sent
    assert "\x1b[1;32m" in sent  # the summary is bold and green
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is back
    assert "all 13 requests succeeded" in sent[sent.rindex("\x1b[?25h") :]


def test_leaving_at_once_gives_the_cursor_back(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["fault-stall"] * 3)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    code, sent_since = on_a_terminal(*command, cwd=tmp_path, interrupts=2)
    assert code == 130
    assert sent_since.endswith("\x1b[?25h\r\n")


def test_elsewhere_there_are_plain_lines_without_control_codes(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert run.stderr == f"Sending 3 requests to {gateway.url}, as many at a time as prove best\n"
    assert "\x1b" not in run.stdout


def test_quiet_says_nothing_when_all_is_well_and_one_line_when_not(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "good.jsonl", 3)
    write_batch(tmp_path / "bad.jsonl", ["tiny", "fault-status-400"])
    good = batch_gateway("run", "good.jsonl", "--gateway", gateway.url, "--quiet", cwd=tmp_path)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    bad = batch_gateway("run", "bad.jsonl", "--gateway", gateway.url, "--quiet", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (1, "")
    [line] = bad.stderr.splitlines()
    assert line.endswith("1 of 2 requests succeeded, 1 failed")


def test_json_is_one_object_on_stdout_and_nothing_else(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 4 + ["fault-status-400"])
    run = in_a_process("run", "requests.jsonl", "--gateway", gateway.url, "--json", cwd=tmp_path)
    summary = json.loads(run.stdout)
    assert run.returncode == summary["exit_code"] == 1
    counts = ("outcome", "total", "succeeded", "failed", "left", "finished_now")
    assert [summary[name] for name in counts] == ["completed", 5, 4, 1, 0, 5]
    assert summary["failed_by_category"] == {"INVALID_REQ": 1}
    assert summary["causes"][0]["line"] == 5
    assert summary["usage"]["output_tokens"] > 0
    assert summary["output_file"] == "requests.results.jsonl"


def test_json_tells_of_a_run_that_stopped(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 50)
    with simulated_gateway(api_key="sk-right") as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url, "--json")
        run = batch_gateway(*command, cwd=tmp_path)
    summary = json.loads(run.stdout)
    assert run.returncode == summary["exit_code"] == 3
    assert (summary["outcome"], summary["left"]) == ("gateway_unusable", 50)
    assert "401" in summary["reason"] or "key" in summary["reason"]


def test_a_reader_that_leaves_early_changes_nothing(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "fault-status-400"])
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as nobody:
        process = subprocess.run(
            [*COMMAND, "run", "requests.jsonl", "--gateway", gateway.url],
            cwd=tmp_path,
            env=environment(),
            stdout=nobody,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert process.returncode == 1
    assert b"Traceback" not in process.stderr
    assert b"Broken" not in process.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["validate"], ["simulate"], ["pick"]])
def test_every_command_explains_itself_with_an_example(tmp_path: Path, command: list[str]) -> None:
    run = batch_gateway(*command, "--help", cwd=tmp_path)
    assert run.returncode == 0
    assert "batch-gateway " + (command[0] if command else "run") in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 100


def test_no_command_is_described_by_half_a_sentence(tmp_path: Path) -> None:
    text = batch_gateway("--help", cwd=tmp_path).stdout
    _, _, commands = text.partition("Commands:\n")
    assert len(commands.splitlines()) >= 4
    assert "..." not in commands


def test_the_help_of_run_lists_the_exit_codes(tmp_path: Path) -> None:
    text = batch_gateway("run", "--help", cwd=tmp_path).stdout
    for code in (0, 1, 2, 3, 4, 130):
        assert f"\n  {code:>3}  " in text


def test_the_version_is_told(tmp_path: Path) -> None:
    assert in_a_process("--version", cwd=tmp_path).stdout == f"batch-gateway {__version__}\n"
