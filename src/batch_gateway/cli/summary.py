"""What a run came to, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.text import Text

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import printable
from batch_gateway.durations import format_duration

__all__ = ["Failure", "Outcome", "RunReport", "as_json", "as_text"]

_LABEL_WIDTH = 10


class Outcome(StrEnum):
    """How a run ended. The values are stable and appear in `--json`."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    DEADLINE = "deadline"
    GATEWAY_UNUSABLE = "gateway_unusable"
    NOT_WRITTEN = "not_written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One of the first failed lines."""

    line: int
    custom_id: str
    category: str
    status_code: int | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything there is to say at the end.

    Attributes:
        reason: why it ended early, or "".
        total, succeeded, failed, left: lines of the input; earlier runs included.
        already_done: how many of them had a result before this run.
        by_category: failures of this run by `ErrorCategory`.
        input_tokens, output_tokens, retries, seconds: of this run.
        next_steps: pairs of (what for, the command that does it).
    """

    input: str
    outcome: Outcome
    exit_code: ExitCode
    reason: str
    total: int
    already_done: int
    succeeded: int
    failed: int
    by_category: Mapping[str, int]
    first_failures: Sequence[Failure]
    input_tokens: int
    output_tokens: int
    retries: int
    seconds: float
    output: str
    errors: str
    next_steps: Sequence[tuple[str, str]] = ()

    @property
    def left(self) -> int:
        return self.total - self.succeeded - self.failed

    @property
    def finished_now(self) -> int:
        return self.succeeded + self.failed - self.already_done

    @property
    def requests_per_second(self) -> float:
        return self.finished_now / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        tokens = self.input_tokens + self.output_tokens
        return tokens / self.seconds if self.seconds > 0 else 0.0


def as_json(report: RunReport) -> dict[str, Any]:
    """The object that `--json` prints. Keys are only ever added.

    `duration_seconds` and the rates are of this run; `succeeded`, `failed` and `left` add up to
    `total`.
    """
    return {
        "input": report.input,
        "outcome": report.outcome.value,
        "exit_code": int(report.exit_code),
        "reason": report.reason or None,
        "total": report.total,
        "already_done": report.already_done,
        "succeeded": report.succeeded,
        "failed": report.failed,
        "left": report.left,
        "failed_by_category": dict(report.by_category),
        "first_failures": [
            {
                "line": failure.line,
                "custom_id": failure.custom_id,
                "category": failure.category,
                "status_code": failure.status_code,
                "message": failure.message,
            }
            for failure in report.first_failures
        ],
        "usage": {
            "input_tokens": report.input_tokens,
            "output_tokens": report.output_tokens,
            "total_tokens": report.input_tokens + report.output_tokens,
        },
        "retries": report.retries,
        "duration_seconds": round(report.seconds, 3),
        "requests_per_second": round(report.requests_per_second, 3),
        "tokens_per_second": round(report.tokens_per_second, 3),
        "output_file": report.output,
        "error_file": report.errors,
    }


def as_text(report: RunReport) -> Text:
    """The summary for a person, with styles that a terminal shows and a file leaves out."""
    text = Text()
    text.append_text(_headline(report))
    text.append("\n\n")
    for label, value in _rows(report):
        text.append(f"  {label:<{_LABEL_WIDTH}}", style="dim")
        text.append(f"{printable(value)}\n")
    if report.first_failures:
        text.append("\n")
        text.append_text(_failures(report))
    for purpose, command in report.next_steps:
        text.append(f"\n{purpose}\n")
        text.append(f"  {command}\n", style="bold")
    return text


def _headline(report: RunReport) -> Text:
    style = "bold green" if report.exit_code == ExitCode.SUCCEEDED else "bold yellow"
    if report.outcome in (Outcome.GATEWAY_UNUSABLE, Outcome.NOT_WRITTEN):
        style = "bold red"
    begin = {
        Outcome.COMPLETED: f"Done in {format_duration(report.seconds)}",
        Outcome.INTERRUPTED: "Interrupted",
        Outcome.DEADLINE: "The deadline passed",
        Outcome.GATEWAY_UNUSABLE: f"Stopped, the gateway cannot be used: {report.reason}",
        Outcome.NOT_WRITTEN: f"Stopped, results cannot be written: {report.reason}",
    }[report.outcome]
    if report.outcome is Outcome.COMPLETED and not report.finished_now:
        begin = "Nothing to send, every line has a result"
    separator = "\n" if report.reason else ": "
    return Text(f"{printable(begin)}{separator}{_counts(report)}", style=style)


def _counts(report: RunReport) -> str:
    if report.succeeded == report.total:
        return f"all {report.total:,} requests succeeded"
    counts = f"{report.succeeded:,} of {report.total:,} requests succeeded"
    if report.failed:
        counts += f", {report.failed:,} failed"
    return counts + (f", {report.left:,} left" if report.left else "")


def _rows(report: RunReport) -> Iterator[tuple[str, str]]:
    if report.already_done and report.finished_now:
        yield "this run", f"{report.finished_now:,}, after {report.already_done:,} done before"
    if report.by_category:
        counts = (f"{category} {count:,}" for category, count in report.by_category.items())
        yield "failed", ", ".join(counts)
    if report.finished_now:
        speed = f"{report.requests_per_second:,.1f} requests/s"
        if report.input_tokens or report.output_tokens:
            yield "tokens", f"{report.input_tokens:,} in, {report.output_tokens:,} out"
            speed += f", {report.tokens_per_second:,.0f} tokens/s"
        yield "speed", f"{speed}, {report.retries:,} retries"
    if report.succeeded:
        yield "results", report.output
    if report.failed:
        yield "errors", report.errors


def _failures(report: RunReport) -> Text:
    text = Text()
    for failure in report.first_failures:
        status = f"{failure.status_code} " if failure.status_code else ""
        text.append(f"  line {failure.line:<6,}", style="red")
        text.append(printable(f"{failure.custom_id}: {status}{failure.message}\n"))
    more = sum(report.by_category.values()) - len(report.first_failures)
    if more > 0:
        text.append(f"  and {more:,} more in {printable(report.errors)}\n", style="dim")
    return text
