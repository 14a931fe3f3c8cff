"""Answers that were cut off are counted, by whatever way they came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import batch_gateway, chat_line
from tests.cli.test_report import read

LONG = SimulatorConfig.instant(output_tokens=50, output_distribution="fixed")


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def chat_lines(cut: int, whole: int) -> list[dict[str, Any]]:
    lines = [chat_line(f"c-{n}", content=f"Question {n}") for n in range(cut + whole)]
    for line in lines[:cut]:
        line["body"]["max_tokens"] = 1
    return lines


def cut_off(folder: Path, gateway: GatewayHandle, *arguments: str) -> Any:
    asked = ("run", "in.jsonl", "--gateway", gateway.url, "--json", "--fresh", *arguments)
    done = batch_gateway(*asked, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["cut_off"]


def test_the_first_three_truncated_lines_are_named_by_the_summary_and_the_page(
    tmp_path: Path,
) -> None:
    write(tmp_path / "in.jsonl", chat_lines(5, 3))
    with simulated_gateway(LONG) as gateway:
        done = batch_gateway(
            "run", "in.jsonl", "--gateway", gateway.url, "--json", "--report", "report.html",
            cwd=tmp_path,
        )  # fmt: skip
    assert json.loads(done.stdout)["cut_off_examples"] == {
        "length": [{"line": line, "custom_id": f"c-{line - 1}"} for line in (1, 2, 3)]
    }
    truncated = read(tmp_path).text.partition("Truncated answers")[2]
    words = "at the token limit 5 62.5 % line 1 c-0 line 2 c-1 line 3 c-2 They are among"
    assert words in " ".join(truncated.split())


@pytest.mark.parametrize("arguments", [(), ("--stream-upstream",)])
def test_answers_at_the_token_limit_are_counted(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write(tmp_path / "in.jsonl", chat_lines(3, 2))
    with simulated_gateway(LONG) as gateway:
        found = cut_off(tmp_path, gateway, *arguments)
    assert found == {"length": 3, "content_filter": 0, "incomplete": 0}


def test_they_are_counted_from_the_cache_and_out_of_joint_requests(tmp_path: Path) -> None:
    lines = [
        {**line, "url": "/v1/completions", "body": {"model": "tiny", "prompt": "Hi", **more}}
        for line, more in zip(
            chat_lines(0, 4), [{"max_tokens": 1}] * 2 + [{"max_tokens": 99}] * 2, strict=True
        )
    ]
    for number, line in enumerate(lines):
        line["body"]["prompt"] = f"Hi {number}"
    write(tmp_path / "in.jsonl", lines)
    with simulated_gateway(LONG) as gateway:
        arguments = ("--cache", "answers", "--coalesce", "4", "--coalesce-wait", "50ms")
        assert cut_off(tmp_path, gateway, *arguments)["length"] == 2
        assert cut_off(tmp_path, gateway, *arguments)["length"] == 2
        assert gateway.journal()["completed"] < 4


def test_the_summary_and_the_report_say_so_to_people(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", chat_lines(2, 1))
    with simulated_gateway(LONG) as gateway:
        arguments = ("--gateway", gateway.url, "--report", "r.html", "-o", "o.jsonl")
        done = batch_gateway("run", "in.jsonl", *arguments, cwd=tmp_path)
        assert "\n  cut off   2 answers at the token limit\n" in done.stdout
        page = (tmp_path / "r.html").read_text()
        assert "Cut off: 2 answers at the token limit." in page
        write(tmp_path / "in.jsonl", chat_lines(0, 3))
        done = batch_gateway(
            "run", "in.jsonl", "--gateway", gateway.url, "-o", "p.jsonl", cwd=tmp_path
        )
        assert "cut off" not in done.stdout


def test_a_timeout_names_its_limit_and_its_flag(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [chat_line("a"), chat_line("b", model="fault-stall")])
    with simulated_gateway() as gateway:
        done = batch_gateway(
            "run", "in.jsonl", "--gateway", gateway.url, "--timeout", "300ms",
            "--max-retries", "0", cwd=tmp_path,
        )  # fmt: skip
    assert "no answer within 300ms (timeout, --timeout): 127.0.0.1:" in done.stdout
