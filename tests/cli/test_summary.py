"""What a run says at the end."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from batch_gateway import ErrorCategory
from batch_gateway.cli.summary import RunReport, as_json, as_text, plain
from batch_gateway.client.layers.concurrency.metrics_watch import MetricsStatistics
from batch_gateway.engine.figures import Cause, Figures
from batch_gateway.engine.progress import RunSummary
from batch_gateway.engine.results import Outcome
from batch_gateway.wire.usage import Usage


def by_message(*causes: Cause) -> dict[str, Cause]:
    return {cause.message: cause for cause in causes}


FIGURES = Figures(
    succeeded=795,
    failed=5,
    by_category={ErrorCategory.INVALID_REQ: 4, ErrorCategory.SERVER_ERROR: 1},
    causes=by_message(
        Cause(12, "req-12", ErrorCategory.INVALID_REQ, 400, "no model x", 3),
        Cause(1999, "req-1999", ErrorCategory.SERVER_ERROR, None, "connection reset"),
    ),
    usage=Usage(12_000, 3_000),
    sent_again={1: 7},
)
SUMMARY = RunSummary(
    figures=FIGURES,
    total=1000,
    succeeded=995,
    failed=5,
    left_to_send=0,
    done_before=200,
    seconds=10.0,
)
SOME_FAILED = RunReport(
    summary=SUMMARY,
    input="requests.jsonl",
    output="results.jsonl",
    errors="results.errors.jsonl",
    next_steps=[("To send the failed lines again:", "batch-gateway run … --retry-failed")],
)
ALL_GOOD = replace(
    SOME_FAILED,
    summary=replace(
        SUMMARY,
        figures=replace(FIGURES, succeeded=800, failed=0, by_category={}, causes={}),
        succeeded=1000,
        failed=0,
        done_before=0,
    ),
    next_steps=[],
)


def ended(**changes: Any) -> RunReport:
    """A run that ended early."""
    changes = {"succeeded": 40, "left_to_send": 955, **changes}
    return replace(SOME_FAILED, summary=replace(SUMMARY, **changes))


def counted(**figures: Any) -> RunReport:
    """A run that ended well, with some other figures."""
    changed = replace(ALL_GOOD.summary.figures, **figures)
    return replace(ALL_GOOD, summary=replace(ALL_GOOD.summary, figures=changed))


def test_the_summary_of_a_run_with_failures_says_what_and_what_next() -> None:
    assert plain(as_text(SOME_FAILED)) == (
        """\
Done in 10.0s: 995 of 1,000 requests succeeded, 5 failed

  this run  800, after 200 done before
  failed    4 refused as wrong, 1 failed by the gateway
  tokens    12,000 in, 3,000 out
  speed     80.0 requests/s, 1,500 tokens/s, 7 retries
  results   results.jsonl
  errors    results.errors.jsonl

  line 12     req-12: 400 no model x (and 2 more like it)
  line 1,999  req-1999: connection reset
  and 1 more for other reasons

To send the failed lines again:
  batch-gateway run … --retry-failed
"""
    )


def test_a_run_without_failures_is_short() -> None:
    text = plain(as_text(ALL_GOOD))
    assert text.startswith("Done in 10.0s: all 1,000 requests succeeded\n")
    assert "failed" not in text
    assert "errors" not in text


def test_requests_that_were_saved_are_told() -> None:
    text = plain(as_text(counted(from_cache=1_200, joint={50: 2_000, 125: 1_000})))
    assert "  cache     1,200 answers not asked for again\n" in text
    assert "  joined    3,000 requests, sent as 48\n" in text


def test_a_run_with_nothing_to_send_says_so() -> None:
    text = plain(as_text(counted(succeeded=0)))
    assert text.startswith("Nothing to send: all 1,000 requests succeeded\n")
    assert "speed" not in text


@pytest.mark.parametrize(
    ("changes", "code", "expected"),
    [
        ({}, 1, "Done in 10.0s: 40 of 1,000 requests succeeded, 5 failed, 955 left"),
        ({"interrupted": True}, 130, "Interrupted: 40 of 1,000 requests succeeded, 5 failed"),
        ({"deadline_passed": True}, 3, "The deadline passed: 40 of 1,000 requests succeeded"),
        (
            {"gateway_problem": "401 wrong key"},
            3,
            "Stopped, the gateway cannot be used: 401 wrong key\n40 of 1,000 requests succeeded",
        ),
        (
            {"journal_problem": "results.jsonl: No space left", "interrupted": True},
            4,
            "Stopped, results cannot be written: results.jsonl: No space left\n40 of 1,000",
        ),
    ],
)
def test_a_run_that_ended_early_says_why_and_what_is_left(
    changes: dict[str, Any], code: int, expected: str
) -> None:
    report = ended(disk_problem=True, **changes)
    assert report.exit_code == code
    assert plain(as_text(report)).startswith(expected)


def test_an_input_that_changed_under_a_run_is_bad_input() -> None:
    report = ended(journal_problem="requests.jsonl changed while it was running")
    assert report.exit_code == 2
    assert plain(as_text(report)).startswith("Stopped: requests.jsonl changed")


def test_the_exit_code_tells_whether_every_line_succeeded() -> None:
    assert ALL_GOOD.exit_code == 0
    assert SOME_FAILED.exit_code == 1


def test_what_a_gateway_says_cannot_steer_the_terminal() -> None:
    evil = Cause(1, "a\x07b", ErrorCategory.UNKNOWN, 404, "\x1b[2Jgone")
    for reason in (None, "\x1b]0;title\x07"):
        text = plain(
            as_text(ended(figures=Figures(causes=by_message(evil)), gateway_problem=reason))
        )
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\\x1b[2Jgone" in text


def test_square_brackets_are_not_taken_for_markup() -> None:
    cause = Cause(1, "a", ErrorCategory.UNKNOWN, 404, "[bold]not markup[/bold]")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    report = ended(figures=Figures(causes=by_message(cause)))
    console.print(Text.assemble(*as_text(report)), soft_wrap=True)
    assert "[bold]not markup[/bold]" in screen.getvalue()


def test_the_json_object_has_the_documented_keys() -> None:
    assert json.loads(json.dumps(as_json(SOME_FAILED))) == {
        "input": "requests.jsonl",
        "outcome": "completed",
        "exit_code": 1,
        "reason": None,
        "failed_if": [],
        "hints": [],
        "total": 1000,
        "succeeded": 995,
        "failed": 5,
        "left": 0,
        "still_to_retry": 0,
        "done_before": 200,
        "finished_now": 800,
        "failed_by_category": {"INVALID_REQ": 4, "SERVER_ERROR": 1},
        "cut_off": {"length": 0, "content_filter": 0, "incomplete": 0},
        "cut_off_examples": {},
        "causes": [
            {
                "line": 12,
                "custom_id": "req-12",
                "category": "INVALID_REQ",
                "status_code": 400,
                "message": "no model x",
                "count": 3,
                "examples": [],
            },
            {
                "line": 1999,
                "custom_id": "req-1999",
                "category": "SERVER_ERROR",
                "status_code": None,
                "message": "connection reset",
                "count": 1,
                "examples": [],
            },
        ],
        "usage": {"input_tokens": 12_000, "output_tokens": 3_000, "total_tokens": 15_000},
        "cost": None,
        "streamed": 0,
        "time_to_first_token_seconds": None,
        "percentiles": {
            "latency_seconds": None,
            "time_to_first_token_seconds": None,
            "tokens_per_second": None,
        },
        "retries": 7,
        "concurrency_limits": [],
        "concurrency": [],
        "gateway_metrics": [],
        "outages": 0,
        "outage_seconds": 0.0,
        "rate_limited": 0,
        "rate_limit_wait_seconds": 0.0,
        "lines_held_by_bytes": 0,
        "held_by_bytes_seconds": 0.0,
        "from_cache": 0,
        "coalesced": 0,
        "joint_requests": 0,
        "duration_seconds": 10.0,
        "requests_per_second": 80.0,
        "tokens_per_second": 1500.0,
        "output_file": "results.jsonl",
        "error_file": "results.errors.jsonl",
        "report_file": None,
        "table_file": None,
        "data_file": None,
    }


def test_a_run_that_took_no_time_has_no_rate() -> None:
    assert as_json(ended(seconds=0.0))["requests_per_second"] == 0
    assert as_json(ended(seconds=0.0))["tokens_per_second"] == 0


def test_what_was_waited_for_is_told() -> None:
    report = counted(outages=1, outage_seconds=65.0, rate_limited=1200, rate_limit_seconds=600.0)
    text = plain(as_text(report))
    assert "down      once, for 1m05s\n" in text
    assert "limits    1,200 sendings waited for theirs, 500ms on average\n" in text


def test_streamed_answers_are_counted_with_the_time_to_their_first_token() -> None:
    report = counted(streamed=1200, first_token_seconds=0.1234 * 1200)
    assert "1,200 answers, the first token after 123ms on average" in plain(as_text(report))
    assert as_json(report)["time_to_first_token_seconds"] == 0.123
    assert "streamed" not in plain(as_text(ALL_GOOD))


def test_one_request_is_not_called_requests() -> None:
    one = counted(succeeded=1, sent_again={1: 1})
    one = replace(one, summary=replace(one.summary, total=1, succeeded=1))
    text = plain(as_text(one))
    assert text.startswith("Done in 10.0s: the one request succeeded")
    assert "1 retry\n" in text
    failed = replace(one, summary=replace(one.summary, succeeded=0, failed=1))
    assert "0 of 1 request succeeded, 1 failed" in plain(as_text(failed))


def test_the_most_frequent_failures_are_named_first() -> None:
    figures = Figures()
    kinds = ["rare 1", "rare 2", "rare 3", *["often"] * 9, "rare 4", "rare 5", "rare 6"]
    for number, message in enumerate(kinds, 1):
        figures.count(
            Outcome(
                index=number,
                custom_id=f"req-{number}",
                line=b"{}",
                attempts=1,
                category=ErrorCategory.SERVER_ERROR,
                status_code=500,
                message=message,
            ),
            number,
        )
    chief = figures.chief_causes()
    assert [(cause.message, cause.line_number) for cause in chief[:2]] == [
        ("often", 4),
        ("rare 1", 1),
    ]
    assert len(chief) == 5


def test_metrics_that_were_never_to_be_had_are_told_as_such() -> None:
    never = replace(ALL_GOOD, looked=[MetricsStatistics(looks=0, missed=17, lowered=0)])
    assert "metrics   17 looks found nothing to read\n" in plain(as_text(never))
    once = replace(ALL_GOOD, looked=[MetricsStatistics(looks=1, missed=0, lowered=1)])
    assert "metrics   1 look at the gateway's own, 1 of which lowered" in plain(as_text(once))
