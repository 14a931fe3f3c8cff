"""Faults of the program itself: results stay, a file tells of it, nobody sees a traceback."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import Finished, batch_gateway, chat_line, in_a_process, read_lines

KEY = "sk-0123456789abcdefghij"

# Each is run by Python itself as it starts, before the command.
FAULT_AT_THE_END = """
import os
from batch_gateway.engine import run
def broken(self, lanes):
    raise ValueError(f"Authorization: Bearer {os.environ['BATCH_GATEWAY_API_KEY']}")
run._Run._summary = broken
"""
FAULT_OF_ONE_LINE = """
import os
from batch_gateway.client.client import HTTPInferenceClient
generate = HTTPInferenceClient.generate
async def broken(self, request):
    if b"third" in request.params:
        raise KeyError(os.environ["BATCH_GATEWAY_API_KEY"])
    return await generate(self, request)
HTTPInferenceClient.generate = broken
"""
FAULT_OF_THE_PAGE = """
from batch_gateway.cli import report_page
def broken(*_):
    raise ValueError("no page")
report_page.render_page = broken
"""
FAULT_OF_THE_COLLECTOR = """
from batch_gateway.report.collector import RunCollector
for name in dir(RunCollector):
    if name.startswith("on_"):
        setattr(RunCollector, name, lambda *_, **__: 1 / 0)
"""
FAULT_OF_THE_DISPLAY = """
from batch_gateway.cli import progress_display
progress.measure = lambda *_: 1 / 0
"""


def run_with(fault: str, folder: Path, gateway: GatewayHandle, *more: str) -> Finished:
    """Five lines to `gateway` by a program that is broken in this way."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(fault)
    lines = (chat_line(name, content=name) for name in ("first", "second", "third", "4th", "5th"))
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found_first = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": found_first, "BATCH_GATEWAY_API_KEY": KEY}
    command = ("run", "in.jsonl", "--gateway", gateway.url, *more)
    run = in_a_process(*command, cwd=folder, variables=variables)
    assert "Traceback" not in run.stderr + run.stdout
    assert KEY not in run.stderr + run.stdout
    return run


def crash_file(folder: Path) -> str:
    text = (folder / "in.results.crash.txt").read_text()
    assert KEY not in text
    assert base64.b64encode(KEY.encode()).decode() not in text
    return text


def test_a_fault_at_the_top_exits_5_names_a_file_and_the_same_command_goes_on(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    run = run_with(FAULT_AT_THE_END, tmp_path, gateway)
    assert run.returncode == 5
    assert "batch-gateway itself failed (ValueError); this is a fault of the program" in run.stderr
    assert "see in.results.crash.txt" in run.stderr
    text = crash_file(tmp_path)
    assert "Traceback (most recent call last)" in text
    assert "ValueError: Authorization: Bearer" in text
    assert len(read_lines(tmp_path / "in.results.jsonl")) == 5
    again = batch_gateway("run", "in.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert again.returncode == 0
    assert gateway.journal()["received"] == 5


def test_a_fault_that_one_line_meets_fails_that_line_alone(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    run = run_with(FAULT_OF_ONE_LINE, tmp_path, gateway)
    assert run.returncode == 1
    [failed] = read_lines(tmp_path / "in.results.errors.jsonl")
    assert failed["error"]["code"] == "internal_error"
    assert "in.results.crash.txt" in failed["error"]["message"]
    assert "KeyError" in crash_file(tmp_path)
    assert len(read_lines(tmp_path / "in.results.jsonl")) == 4


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (FAULT_OF_THE_PAGE, "The report could not be written"),
        (FAULT_OF_THE_COLLECTOR, ""),
        (FAULT_OF_THE_DISPLAY, ""),
    ],
    ids=["page", "collector", "display"],
)
def test_a_fault_in_what_only_watches_a_run_changes_nothing_about_it(
    tmp_path: Path, gateway: GatewayHandle, fault: str, told: str
) -> None:
    run = run_with(fault, tmp_path, gateway, "--json", "--report", "page.html")
    assert run.returncode == 0
    assert json.loads(run.stdout)["outcome"] == "completed"
    assert told in run.stderr
    assert len(read_lines(tmp_path / "in.results.jsonl")) == 5
