"""What the page says of a run whose figures are known."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from batch_gateway.engine.figures import Cause, Figures
from batch_gateway.engine.progress import RunSummary
from batch_gateway.report.collector import RunCollector
from batch_gateway.report.page import RunFacts, render_page
from batch_gateway.wire.usage import Usage


def page_of(figures: Figures, **ended: Any) -> str:
    """Its text, each run of blanks as one."""
    summary = RunSummary(
        figures=figures,
        total=figures.finished,
        succeeded=figures.succeeded,
        failed=figures.failed,
        seconds=10.0,
        **{"left_to_send": 0, **ended},
    )
    facts = RunFacts(
        input="in.jsonl",
        output="out.jsonl",
        errors="out.errors.jsonl",
        began=datetime(2026, 11, 1, tzinfo=UTC),
        summary=summary,
        settings=(),
        paces=(),
        hints=(),
        next_steps=(),
        find_line=lambda _request_id: None,
    )
    page = render_page(facts, RunCollector()).html
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("<body>")[2]))


def test_what_lines_waited_for_and_how_they_were_sent_is_told() -> None:
    page = page_of(
        Figures(succeeded=4, rate_limited=4, rate_limit_seconds=2.0, joint={2: 10, 64: 2_990})
        + Figures(succeeded=5, sent_again={1: 1, 4: 4})
    )
    assert "sent together 3,000 as 52" in page
    assert "rate limits 4 requests waited, 500 ms each" in page
    assert "2 retries" in page
    assert "All 9 requests succeeded" in page


def test_the_page_of_several_runs_is_that_of_their_sum() -> None:
    cause = {"gone": Cause(7, "a", "UNKNOWN", 404, "gone", 2)}
    part = Figures(
        succeeded=1, failed=2, by_category={"UNKNOWN": 2}, causes=cause, usage=Usage(30, 40)
    )
    page = page_of(part + part)
    assert "Done, 4 of 6 requests failed" in page
    assert "8 tokens generated/s" in page
    assert re.search(r"gone 4 .*line 7 a", page)


@pytest.mark.parametrize(
    ("figures", "ended", "words"),
    [
        (Figures(succeeded=1), {}, "The one request succeeded"),
        (Figures(failed=1), {}, "Done, 1 of 1 request failed"),
        (Figures(), {"interrupted": True, "left_to_send": 3}, "Interrupted, 3 left to send"),
        (Figures(), {"gateway_problem": "HTTP 401"}, "Stopped, the gateway cannot be used"),
    ],
)
def test_how_the_run_ended_stands_first(
    figures: Figures, ended: dict[str, Any], words: str
) -> None:
    page = page_of(figures, **ended)
    assert page.startswith(f" {words} in.jsonl · 2026-11-01")
    assert ended.get("gateway_problem", "") in page
