"""What a run came to, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.pace_summary import pace_json, pace_rows
from batch_gateway.cli.paces import GatewayPace
from batch_gateway.cli.progress import counted
from batch_gateway.cli.terminal_text import one_line, printable
from batch_gateway.cli.waits import Waits
from batch_gateway.durations import format_duration
from batch_gateway.engine.outcome_words import categories_in_words, cut_off_in_words
from batch_gateway.engine.progress import Cause, RunSummary
from batch_gateway.wire.answer_figures import CUT_OFF

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsStatistics

__all__ = ["Outcome", "RunReport", "StyledText", "as_json", "as_text", "plain"]

StyledText = list[tuple[str, str]]
"""Pieces of text, each with a style that a terminal shows and a file leaves out."""


_LABEL_WIDTH = 10


class Outcome(StrEnum):
    """How a run ended. The values are stable and appear in `--json`."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    DEADLINE = "deadline"
    GATEWAY_UNUSABLE = "gateway_unusable"
    TOO_MANY_FAILED = "too_many_failed"
    NOT_WRITTEN = "not_written"
    INPUT_CHANGED = "input_changed"


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say at the end.

    Attributes:
        done_before: lines that were not sent because of earlier results.
        disk_problem: whether `summary.journal_problem` is about writing, not about the input.
        next_steps: pairs of (what for, the command that does it).
        hints: what else may be the cure, a sentence each.
        paces: how many requests at a time there might be at the end, and what held that, for each
            gateway where it is found out.
        looked: what came of looking at the metrics of each gateway that has some.
        waits: for gateways that were down, and for limits.
        page: where the page about the run is, when one was written.
    """

    summary: RunSummary
    done_before: int
    disk_problem: bool
    input: str
    output: str
    errors: str
    next_steps: Sequence[tuple[str, str]] = ()
    hints: Sequence[str] = ()
    paces: Sequence[GatewayPace] = ()
    looked: Sequence[MetricsStatistics] = ()
    waits: Waits = msgspec.field(default_factory=Waits)
    page: str | None = None

    @property
    def outcome(self) -> Outcome:
        summary = self.summary
        if summary.journal_problem is not None:
            return Outcome.NOT_WRITTEN if self.disk_problem else Outcome.INPUT_CHANGED
        if summary.interrupted:
            return Outcome.INTERRUPTED
        if summary.gateway_problem is not None:
            return Outcome.GATEWAY_UNUSABLE
        if summary.too_many_failed:
            return Outcome.TOO_MANY_FAILED
        return Outcome.DEADLINE if summary.deadline_passed else Outcome.COMPLETED

    @property
    def exit_code(self) -> ExitCode:
        if self.outcome is Outcome.COMPLETED:
            all_good = self.summary.succeeded == self.summary.total
            return ExitCode.SUCCEEDED if all_good else ExitCode.SOME_FAILED
        return _EXIT_CODES[self.outcome]

    @property
    def reason(self) -> str:
        """Why it ended early, where there is more to say than the outcome."""
        summary = self.summary
        return summary.journal_problem or summary.gateway_problem or summary.deadline_words

    @property
    def tokens_per_second(self) -> float:
        tokens = self.summary.input_tokens + self.summary.output_tokens
        return tokens / self.summary.seconds if self.summary.seconds > 0 else 0.0


_EXIT_CODES = {
    Outcome.INTERRUPTED: ExitCode.INTERRUPTED,
    Outcome.DEADLINE: ExitCode.GATEWAY_UNUSABLE,
    Outcome.GATEWAY_UNUSABLE: ExitCode.GATEWAY_UNUSABLE,
    Outcome.TOO_MANY_FAILED: ExitCode.GATEWAY_UNUSABLE,
    Outcome.NOT_WRITTEN: ExitCode.NOT_WRITTEN,
    Outcome.INPUT_CHANGED: ExitCode.BAD_INPUT,
}


def as_json(report: RunReport) -> dict[str, Any]:
    """The object that `--json` prints. Keys are only ever added.

    `succeeded`, `failed` and `left` add up to `total` and include earlier runs. `finished_now`,
    `failed_by_category`, `causes`, `usage`, `retries`, `duration_seconds` and the rates are of
    this run. `causes` are the most frequent reasons of failures, each with its first line.
    """
    summary = report.summary
    return {
        "input": report.input,
        "outcome": report.outcome.value,
        "exit_code": int(report.exit_code),
        "reason": report.reason or None,
        "hints": list(report.hints),
        "total": summary.total,
        "succeeded": summary.succeeded,
        "failed": summary.failed,
        "left": summary.left_to_send,
        "still_to_retry": summary.still_to_retry,
        "done_before": report.done_before,
        "finished_now": summary.finished_now,
        "failed_by_category": {name.value: count for name, count in summary.by_category.items()},
        "cut_off": {reason: summary.cut_off.get(reason, 0) for reason in CUT_OFF},
        "causes": [_cause_json(cause) for cause in summary.causes],
        "usage": {
            "input_tokens": summary.input_tokens,
            "output_tokens": summary.output_tokens,
            "total_tokens": summary.input_tokens + summary.output_tokens,
        },
        "streamed": summary.streamed,
        "time_to_first_token_seconds": _rounded(summary.time_to_first_token),
        "retries": summary.retries,
        "concurrency_limits": [pace.figures.limit for pace in report.paces],
        "concurrency": pace_json(report.paces, summary.seconds),
        "gateway_metrics": [found._asdict() for found in report.looked],
        **report.waits.as_json(),
        "lines_held_by_bytes": summary.lines_held,
        "held_by_bytes_seconds": round(summary.held_seconds, 3),
        "from_cache": summary.from_cache,
        "coalesced": summary.coalesced,
        "joint_requests": summary.joint_requests,
        "duration_seconds": round(summary.seconds, 3),
        "requests_per_second": round(summary.requests_per_second, 3),
        "tokens_per_second": round(report.tokens_per_second, 3),
        "output_file": report.output,
        "error_file": report.errors,
        "report_file": report.page,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _cause_json(cause: Cause) -> dict[str, Any]:
    return {
        "line": cause.line_number,
        "custom_id": cause.custom_id,
        "category": cause.category.value,
        "status_code": cause.status_code,
        "message": cause.message,
        "count": cause.count,
    }


def as_text(report: RunReport) -> StyledText:
    """The summary for a person."""
    text: StyledText = [_headline(report)]
    rows = list(_rows(report))
    if rows:
        text.append(("\n", ""))
    for label, value in rows:
        text += [(f"\n  {label:<{_LABEL_WIDTH}}", "dim"), (one_line(value), "")]
    text.append(("\n", ""))
    text += _causes(report)
    text += [(f"\n{printable(hint)}\n", "yellow") for hint in report.hints]
    for purpose, command in report.next_steps:
        text += [(f"\n{purpose}\n", ""), (f"  {printable(command)}\n", "bold")]
    return text


def plain(text: StyledText) -> str:
    """A text without its styles."""
    return "".join(part for part, _ in text)


def _headline(report: RunReport) -> tuple[str, str]:
    style = "bold green" if report.exit_code == ExitCode.SUCCEEDED else "bold yellow"
    if report.reason:
        style = "bold red"
    begin = {
        Outcome.COMPLETED: f"Done in {format_duration(report.summary.seconds)}",
        Outcome.INTERRUPTED: "Interrupted",
        Outcome.DEADLINE: _deadline_words(report),
        Outcome.GATEWAY_UNUSABLE: _gateway_words(report),
        Outcome.TOO_MANY_FAILED: "Stopped: more requests failed than --max-failures allows",
        Outcome.NOT_WRITTEN: f"Stopped, results cannot be written: {report.reason}",
        Outcome.INPUT_CHANGED: f"Stopped: {report.reason}",
    }[report.outcome]
    if report.outcome is Outcome.COMPLETED and not report.summary.finished_now:
        begin = "Nothing to send"
    separator = "\n" if report.reason else ": "
    return f"{printable(begin)}{separator}{_counts(report.summary)}", style


def _deadline_words(report: RunReport) -> str:
    asked = report.summary.deadline_words
    if not asked:
        return "The deadline passed"
    return f"Stopped, the gateway asks for a longer wait than the deadline leaves: {asked}"


def _gateway_words(report: RunReport) -> str:
    if report.summary.gateway_answers:
        return f"Stopped: {report.reason}"
    return f"Stopped, the gateway cannot be used: {report.reason}"


def _counts(summary: RunSummary) -> str:
    if summary.succeeded == summary.total:
        everything = f"all {summary.total:,} requests" if summary.total > 1 else "the one request"
        return f"{everything} succeeded"
    counts = f"{summary.succeeded:,} of {counted(summary.total, 'request')} succeeded"
    if summary.failed:
        counts += f", {summary.failed:,} failed"
    return counts + (f", {summary.left_to_send:,} left" if summary.left_to_send else "")


def _rows(report: RunReport) -> Iterator[tuple[str, str]]:
    summary = report.summary
    if summary.finished_now and report.done_before:
        yield "this run", f"{summary.finished_now:,}, after {report.done_before:,} done before"
    if summary.by_category:
        yield "failed", categories_in_words(summary.by_category)
    if summary.cut_off:
        yield "cut off", cut_off_in_words(summary.cut_off)
    if summary.finished_now:
        speed = f"{summary.requests_per_second:,.1f} requests/s"
        if summary.input_tokens or summary.output_tokens:
            yield "tokens", f"{summary.input_tokens:,} in, {summary.output_tokens:,} out"
            speed += f", {report.tokens_per_second:,.0f} tokens/s"
        yield "speed", f"{speed}, {counted(summary.retries, 'retry', 'retries')}"
    if summary.finished_now and report.paces:
        yield from pace_rows(report.paces, summary.seconds)
    if summary.finished_now and report.looked:
        yield "metrics", _looked(report.looked)
    yield from report.waits.rows()
    if summary.lines_held:
        held = f"{counted(summary.lines_held, 'line')} waited for room"
        times = format_duration(summary.held_seconds)
        yield "memory", f"{held}, for {times} in all; --max-bytes-in-flight gives more"
    if summary.from_cache:
        yield "cache", f"{counted(summary.from_cache, 'answer')} not asked for again"
    if summary.coalesced:
        yield (
            "joined",
            f"{counted(summary.coalesced, 'request')}, sent as {summary.joint_requests:,}",
        )
    if summary.time_to_first_token is not None:
        first = format_duration(round(summary.time_to_first_token, 3))
        answers = counted(summary.streamed, "answer")
        yield "streamed", f"{answers}, the first token after {first} on average"
    yield from _files(report)


def _files(report: RunReport) -> Iterator[tuple[str, str]]:
    if report.summary.succeeded:
        yield "results", report.output
    if report.summary.failed:
        yield "errors", report.errors
    if report.page is not None:
        yield "report", report.page


def _looked(found: Sequence[MetricsStatistics]) -> str:
    looks, missed, lowered = (sum(counts) for counts in zip(*found, strict=True))
    if not looks:
        return f"{counted(missed, 'look')} found nothing to read"
    text = f"{counted(looks, 'look')} at the gateway's own, {lowered:,} of which lowered the pace"
    return text + (f"; {missed:,} found nothing to read" if missed else "")


def _causes(report: RunReport) -> StyledText:
    text: StyledText = []
    for cause in report.summary.causes:
        named = cause.status_code is None or str(cause.status_code) in cause.message
        status = "" if named else f"{cause.status_code} "
        text.append((f"\n  line {cause.line_number:<6,}", "red"))
        text.append((one_line(f" {cause.custom_id}: {status}{cause.message}"), ""))
        if cause.count > 1:
            text.append((f" (and {cause.count - 1:,} more like it)", "dim"))
    told = sum(cause.count for cause in report.summary.causes)
    more = sum(report.summary.by_category.values()) - told
    if more > 0:
        text.append((f"\n  and {more:,} more for other reasons", "dim"))
    return [*text, ("\n", "")] if text else text
