"""The report of a batch that has ended: the page that `run` writes, from what is stored of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from batch_gateway.engine.progress import RunSummary
from batch_gateway.report.course import Course
from batch_gateway.report.page import Page, RunFacts, render_page
from batch_gateway.server.page_views import moments_of
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.statuses import ENDED, BatchStatus

__all__ = ["has_report", "report_of"]

_NOT_SENT: Final = "not sent"
_CUT_SHORT: Final = {
    BatchStatus.CANCELLED: "Cancelled",
    BatchStatus.EXPIRED: "Not done in time",
}


def has_report(batch: BatchRecord) -> bool:
    """Whether it has ended, and there were requests."""
    return batch.status in ENDED and batch.total > 0


def report_of(batch: BatchRecord, course: Course, input_name: str, errors_name: str) -> Page:
    """The page; names are those of the files of the batch."""
    status, figures = BatchStatus(batch.status), course.figures
    # Those that were not sent stand among the failed ones, and nobody counted them before.
    unsent = max(0, batch.failed - figures.failed) if status in _CUT_SHORT else 0
    summary = RunSummary(
        figures=figures,
        total=batch.total,
        succeeded=batch.completed,
        failed=batch.failed - unsent,
        left_to_send=unsent,
        seconds=course.time.ended - course.time.began,
    )
    facts = RunFacts(
        input=input_name,
        output="",
        errors=errors_name,
        began=datetime.fromtimestamp(course.time.began or batch.created_at, UTC),
        summary=summary,
        settings=[("Batch", _settings(batch))],
        paces=(),
        hints=(),
        next_steps=(),
        find_line=lambda _: None,
        headline=f"{_CUT_SHORT[status]}, {unsent:,} {_NOT_SENT}" if status in _CUT_SHORT else "",
        left=_NOT_SENT,
        note=_note(summary),
        back=(f"../{batch.id}", "Back to the batch"),
    )
    return render_page(facts, course.collected())


def _settings(batch: BatchRecord) -> list[tuple[str, str]]:
    named = [("id", batch.id), ("endpoint", batch.endpoint), ("model", batch.model or "several")]
    moments = [(name.lower(), moment.shown) for name, moment in moments_of(batch)]
    return [*named, ("window", batch.completion_window), *moments]


def _note(summary: RunSummary) -> str:
    seen = summary.figures.finished
    unseen = summary.succeeded + summary.failed - seen
    if unseen <= 0:
        return ""
    return (
        f"A process that worked on it came to a sudden end. What it saw of {unseen:,} of the lines"
        f" is lost, though not their results: all but the totals of lines is about the other"
        f" {seen:,}."
    )
