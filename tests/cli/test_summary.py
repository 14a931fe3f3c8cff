"""What a run says at the end."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.summary import Failure, Outcome, RunReport, as_json, as_text

SOME_FAILED = RunReport(
    input="requests.jsonl",
    outcome=Outcome.COMPLETED,
    exit_code=ExitCode.SOME_FAILED,
    reason="",
    total=1000,
    already_done=200,
    succeeded=995,
    failed=5,
    by_category={"INVALID_REQ": 4, "SERVER_ERROR": 1},
    first_failures=[
        Failure(
            line=12,
            custom_id="req-12",
            category="INVALID_REQ",
            status_code=400,
            message="no model x",
        ),
        Failure(
            line=1999,
            custom_id="req-1999",
            category="SERVER_ERROR",
            status_code=None,
            message="connection reset",
        ),
    ],
    input_tokens=12_000,
    output_tokens=3_000,
    retries=7,
    seconds=10.0,
    output="results.jsonl",
    errors="results.errors.jsonl",
    next_steps=[("To send the failed lines again:", "batch-gateway run … --retry-failed")],
)
ALL_GOOD = replace(
    SOME_FAILED,
    exit_code=ExitCode.SUCCEEDED,
    already_done=0,
    succeeded=1000,
    failed=0,
    by_category={},
    first_failures=[],
    next_steps=[],
)


def test_the_summary_of_a_run_with_failures_says_what_and_what_next() -> None:
    assert as_text(SOME_FAILED).plain == (
        """\
Done in 10.0s: 995 of 1,000 requests succeeded, 5 failed

  this run  800, after 200 done before
  failed    INVALID_REQ 4, SERVER_ERROR 1
  tokens    12,000 in, 3,000 out
  speed     80.0 requests/s, 1,500 tokens/s, 7 retries
  results   results.jsonl
  errors    results.errors.jsonl

  line 12    req-12: 400 no model x
  line 1,999 req-1999: connection reset
  and 3 more in results.errors.jsonl

To send the failed lines again:
  batch-gateway run … --retry-failed
"""
    )


def test_a_run_without_failures_is_short() -> None:
    text = as_text(ALL_GOOD).plain
    assert text.startswith("Done in 10.0s: all 1,000 requests succeeded\n")
    assert "failed" not in text
    assert "errors" not in text


def test_a_run_with_nothing_to_send_says_so() -> None:
    text = as_text(replace(ALL_GOOD, already_done=1000)).plain
    assert text.startswith("Nothing to send, every line has a result: all 1,000 requests succeeded")
    assert "speed" not in text


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        (
            Outcome.INTERRUPTED,
            "",
            "Interrupted: 40 of 1,000 requests succeeded, 5 failed, 955 left",
        ),
        (Outcome.DEADLINE, "", "The deadline passed: 40 of 1,000 requests succeeded"),
        (
            Outcome.GATEWAY_UNUSABLE,
            "401 wrong key",
            "Stopped, the gateway cannot be used: 401 wrong key\n40 of 1,000 requests succeeded",
        ),
        (
            Outcome.NOT_WRITTEN,
            "No space left on device",
            "Stopped, results cannot be written: No space left on device\n40 of 1,000",
        ),
    ],
)
def test_a_run_that_ended_early_says_why_and_what_is_left(
    outcome: Outcome, reason: str, expected: str
) -> None:
    report = replace(SOME_FAILED, outcome=outcome, reason=reason, succeeded=40, already_done=0)
    assert as_text(report).plain.startswith(expected)


def test_what_a_gateway_says_cannot_steer_the_terminal() -> None:
    evil = replace(SOME_FAILED.first_failures[0], message="\x1b[2Jgone", custom_id="a\x07b")
    report = replace(SOME_FAILED, first_failures=[evil], reason="\x1b]0;title\x07")
    for outcome in (Outcome.COMPLETED, Outcome.GATEWAY_UNUSABLE):
        text = as_text(replace(report, outcome=outcome)).plain
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\\x1b[2Jgone" in text


def test_square_brackets_are_not_taken_for_markup() -> None:
    failure = replace(SOME_FAILED.first_failures[0], message="[bold]not markup[/bold]")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    console.print(as_text(replace(SOME_FAILED, first_failures=[failure])), soft_wrap=True)
    assert "[bold]not markup[/bold]" in screen.getvalue()


def test_the_json_object_has_the_documented_keys() -> None:
    assert json.loads(json.dumps(as_json(SOME_FAILED))) == {
        "input": "requests.jsonl",
        "outcome": "completed",
        "exit_code": 1,
        "reason": None,
        "total": 1000,
        "already_done": 200,
        "succeeded": 995,
        "failed": 5,
        "left": 0,
        "failed_by_category": {"INVALID_REQ": 4, "SERVER_ERROR": 1},
        "first_failures": [
            {
                "line": 12,
                "custom_id": "req-12",
                "category": "INVALID_REQ",
                "status_code": 400,
                "message": "no model x",
            },
            {
                "line": 1999,
                "custom_id": "req-1999",
                "category": "SERVER_ERROR",
                "status_code": None,
                "message": "connection reset",
            },
        ],
        "usage": {"input_tokens": 12_000, "output_tokens": 3_000, "total_tokens": 15_000},
        "retries": 7,
        "duration_seconds": 10.0,
        "requests_per_second": 80.0,
        "tokens_per_second": 1500.0,
        "output_file": "results.jsonl",
        "error_file": "results.errors.jsonl",
    }


def test_a_run_that_took_no_time_has_no_rate() -> None:
    assert as_json(replace(ALL_GOOD, seconds=0.0))["requests_per_second"] == 0
