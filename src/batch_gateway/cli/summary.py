"""What a run came to, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from batch_gateway.cli.cost import amount_text
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.pace_summary import pace_json, pace_rows
from batch_gateway.cli.paces import GatewayPace
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.terminal_text import one_line, printable
from batch_gateway.durations import format_duration
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.outcome_words import categories_in_words, cut_off_in_words
from batch_gateway.engine.progress import RunOutcome, RunSummary
from batch_gateway.report.distributions import Distributions, Percentiles
from batch_gateway.wire.answer_figures import CUT_OFF

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsStatistics

__all__ = ["RunReport", "StyledText", "as_json", "as_text", "plain"]

StyledText = list[tuple[str, str]]
"""Pieces of text, each with a style that a terminal shows and a file leaves out."""


_LABEL_WIDTH = 10


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say at the end.

    Attributes:
        next_steps: pairs of (what for, the command that does it).
        hints: what else may be the cure, a sentence each.
        paces: how many requests at a time there might be at the end, and what held that, for each
            gateway where it is found out.
        looked: what came of looking at the metrics of each gateway that has some.
        cost: of this run's tokens, where prices are given.
        failed_if: the conditions of --fail-if that hold, with what is so instead.
        distributions: of the answers, where they were measured.
        page: where the page about the run is, when one was written.
        table: where the table of answers is, likewise.
        data: where these figures are, likewise.
    """

    summary: RunSummary
    input: str
    output: str
    errors: str
    next_steps: Sequence[tuple[str, str]] = ()
    hints: Sequence[str] = ()
    paces: Sequence[GatewayPace] = ()
    looked: Sequence[MetricsStatistics] = ()
    cost: float | None = None
    failed_if: Sequence[str] = ()
    distributions: Distributions = msgspec.field(default_factory=Distributions)
    page: str | None = None
    table: str | None = None
    data: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        summary = self.summary
        if summary.outcome is RunOutcome.COMPLETED:
            if self.failed_if:
                return ExitCode.CONDITION_HOLDS
            all_good = summary.succeeded == summary.total
            return ExitCode.SUCCEEDED if all_good else ExitCode.SOME_FAILED
        return _EXIT_CODES[summary.outcome]


_EXIT_CODES = {
    RunOutcome.INTERRUPTED: ExitCode.INTERRUPTED,
    RunOutcome.DEADLINE: ExitCode.GATEWAY_UNUSABLE,
    RunOutcome.GATEWAY_UNUSABLE: ExitCode.GATEWAY_UNUSABLE,
    RunOutcome.TOO_MANY_FAILED: ExitCode.GATEWAY_UNUSABLE,
    RunOutcome.NOT_WRITTEN: ExitCode.NOT_WRITTEN,
    RunOutcome.INPUT_CHANGED: ExitCode.BAD_INPUT,
}


def as_json(report: RunReport) -> dict[str, Any]:
    """The object that `--json` prints. Keys are only ever added.

    `succeeded`, `failed` and `left` add up to `total` and include earlier runs. `finished_now`,
    `failed_by_category`, `causes`, `usage`, `retries`, `duration_seconds` and the rates are of
    this run. `causes` are the most frequent reasons of failures, each with its first line.
    """
    summary, figures = report.summary, report.summary.figures
    return {
        "input": report.input,
        "outcome": summary.outcome.value,
        "exit_code": int(report.exit_code),
        "reason": summary.reason or None,
        "failed_if": list(report.failed_if),
        "hints": list(report.hints),
        "total": summary.total,
        "succeeded": summary.succeeded,
        "failed": summary.failed,
        "left": summary.left_to_send,
        "still_to_retry": summary.still_to_retry,
        "done_before": summary.done_before,
        "finished_now": figures.finished,
        "failed_by_category": figures.by_category,
        "cut_off": {reason: figures.cut_off.get(reason, 0) for reason in CUT_OFF},
        "cut_off_examples": {
            reason: msgspec.to_builtins(found.lines)
            for reason, found in figures.cut_off_examples.items()
        },
        "causes": msgspec.to_builtins(figures.chief_causes()),
        **_of_answers(report),
        "retries": figures.retries,
        "concurrency_limits": [pace.figures.limit for pace in report.paces],
        "concurrency": pace_json(report.paces, summary.seconds),
        "gateway_metrics": [found._asdict() for found in report.looked],
        "outages": figures.outages,
        "outage_seconds": round(figures.outage_seconds, 3),
        "rate_limited": figures.rate_limited,
        "rate_limit_wait_seconds": round(figures.rate_limit_seconds, 3),
        "lines_held_by_bytes": figures.lines_held,
        "held_by_bytes_seconds": round(figures.held_seconds, 3),
        "from_cache": figures.from_cache,
        "coalesced": figures.coalesced,
        "joint_requests": figures.joint_requests,
        "duration_seconds": round(summary.seconds, 3),
        "requests_per_second": round(summary.requests_per_second, 3),
        "tokens_per_second": round(summary.tokens_per_second, 3),
        "output_file": report.output,
        "error_file": report.errors,
        "report_file": report.page,
        "table_file": report.table,
        "data_file": report.data,
    }


def _of_answers(report: RunReport) -> dict[str, Any]:
    figures = report.summary.figures
    return {
        "usage": {
            "input_tokens": figures.usage.input_tokens,
            "output_tokens": figures.usage.output_tokens,
            "total_tokens": figures.usage.total_tokens,
        },
        "cost": None if report.cost is None else round(report.cost, 6),
        "streamed": figures.streamed,
        "time_to_first_token_seconds": _rounded(figures.mean_time_to_first_token),
        "percentiles": {
            name: _figures(one) for name, one in report.distributions.percentiles().items()
        },
    }


def _figures(one: Percentiles | None) -> dict[str, float] | None:
    if one is None:
        return None
    return {name: round(value, 6) for name, value in msgspec.structs.asdict(one).items()}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def as_text(report: RunReport) -> StyledText:
    """The summary for a person."""
    text: StyledText = [_headline(report)]
    rows = list(_rows(report))
    if rows:
        text.append(("\n", ""))
    for label, value in rows:
        text += [(f"\n  {label:<{_LABEL_WIDTH}}", "dim"), (one_line(value), "")]
    text.append(("\n", ""))
    text += _causes(report.summary.figures)
    text += [(f"\n{printable(hint)}\n", "yellow") for hint in report.hints]
    for purpose, command in report.next_steps:
        text += [(f"\n{purpose}\n", ""), (f"  {printable(command)}\n", "bold")]
    return text


def plain(text: StyledText) -> str:
    """A text without its styles."""
    return "".join(part for part, _ in text)


def _headline(report: RunReport) -> tuple[str, str]:
    style = "bold green" if report.exit_code == ExitCode.SUCCEEDED else "bold yellow"
    if report.summary.reason or report.failed_if:
        style = "bold red"
    begin = {
        RunOutcome.COMPLETED: f"Done in {format_duration(report.summary.seconds)}",
        RunOutcome.INTERRUPTED: "Interrupted",
        RunOutcome.DEADLINE: _deadline_words(report),
        RunOutcome.GATEWAY_UNUSABLE: _gateway_words(report),
        RunOutcome.TOO_MANY_FAILED: "Stopped: more requests failed than --max-failures allows",
        RunOutcome.NOT_WRITTEN: f"Stopped, results cannot be written: {report.summary.reason}",
        RunOutcome.INPUT_CHANGED: f"Stopped: {report.summary.reason}",
    }[report.summary.outcome]
    if report.summary.outcome is RunOutcome.COMPLETED and not report.summary.figures.finished:
        begin = "Nothing to send"
    separator = "\n" if report.summary.reason else ": "
    conditions = "".join(f"\nFailed if {printable(one)}" for one in report.failed_if)
    return f"{printable(begin)}{separator}{_counts(report.summary)}{conditions}", style


def _deadline_words(report: RunReport) -> str:
    asked = report.summary.deadline_words
    if not asked:
        return "The deadline passed"
    return f"Stopped, the gateway asks for a longer wait than the deadline leaves: {asked}"


def _gateway_words(report: RunReport) -> str:
    if report.summary.gateway_answers:
        return f"Stopped: {report.summary.reason}"
    return f"Stopped, the gateway cannot be used: {report.summary.reason}"


def _counts(summary: RunSummary) -> str:
    if summary.succeeded == summary.total:
        everything = f"all {summary.total:,} requests" if summary.total > 1 else "the one request"
        return f"{everything} succeeded"
    counts = f"{summary.succeeded:,} of {counted(summary.total, 'request')} succeeded"
    if summary.failed:
        counts += f", {summary.failed:,} failed"
    return counts + (f", {summary.left_to_send:,} left" if summary.left_to_send else "")


def _rows(report: RunReport) -> Iterator[tuple[str, str]]:
    summary, figures = report.summary, report.summary.figures
    if figures.finished and summary.done_before:
        yield "this run", f"{figures.finished:,}, after {summary.done_before:,} done before"
    if figures.by_category:
        yield "failed", categories_in_words(figures.by_category)
    if figures.cut_off:
        yield "cut off", cut_off_in_words(figures.cut_off)
    if figures.finished:
        usage, speed = figures.usage, f"{summary.requests_per_second:,.1f} requests/s"
        if usage.total_tokens:
            yield "tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out"
            speed += f", {summary.tokens_per_second:,.0f} tokens/s"
        yield "speed", f"{speed}, {counted(figures.retries, 'retry', 'retries')}"
        if report.paces:
            yield from pace_rows(report.paces, summary.seconds)
        if report.looked:
            yield "metrics", _looked(report.looked)
    if report.cost is not None:
        yield "cost", f"about {amount_text(report.cost)}, by the tokens of this run"
    yield from _waits(figures)
    if figures.from_cache:
        yield "cache", f"{counted(figures.from_cache, 'answer')} not asked for again"
    if figures.coalesced:
        joined = counted(figures.coalesced, "request")
        yield "joined", f"{joined}, sent as {figures.joint_requests:,}"
    if (first := figures.mean_time_to_first_token) is not None:
        answers, after = counted(figures.streamed, "answer"), format_duration(round(first, 3))
        yield "streamed", f"{answers}, the first token after {after} on average"
    yield from _files(report)


def _waits(figures: Figures) -> Iterator[tuple[str, str]]:
    if figures.outages:
        times = "once" if figures.outages == 1 else f"{figures.outages:,} times"
        yield "down", f"{times}, for {format_duration(figures.outage_seconds)}"
    if figures.rate_limited:
        mean = format_duration(figures.rate_limit_seconds / figures.rate_limited)
        yield "limits", f"{figures.rate_limited:,} sendings waited for theirs, {mean} on average"
    if figures.lines_held:
        held = f"{counted(figures.lines_held, 'line')} waited for room"
        times = format_duration(figures.held_seconds)
        yield "memory", f"{held}, for {times} in all; --max-bytes-in-flight gives more"


def _files(report: RunReport) -> Iterator[tuple[str, str]]:
    if report.summary.succeeded:
        yield "results", report.output
    if report.summary.failed:
        yield "errors", report.errors
    if report.page is not None:
        yield "report", report.page
    if report.table is not None:
        yield "table", report.table
    if report.data is not None:
        yield "figures", report.data


def _looked(found: Sequence[MetricsStatistics]) -> str:
    looks, missed, lowered = (sum(counts) for counts in zip(*found, strict=True))
    if not looks:
        return f"{counted(missed, 'look')} found nothing to read"
    text = f"{counted(looks, 'look')} at the gateway's own, {lowered:,} of which lowered the pace"
    return text + (f"; {missed:,} found nothing to read" if missed else "")


def _causes(figures: Figures) -> StyledText:
    text: StyledText = []
    causes = figures.chief_causes()
    for cause in causes:
        named = cause.status_code is None or str(cause.status_code) in cause.message
        status = "" if named else f"{cause.status_code} "
        text.append((f"\n  line {cause.line_number:<6,}", "red"))
        text.append((one_line(f" {cause.custom_id}: {status}{cause.message}"), ""))
        if cause.count > 1:
            text.append((f" (and {cause.count - 1:,} more like it)", "dim"))
    more = figures.failed - sum(cause.count for cause in causes)
    if more > 0:
        text.append((f"\n  and {more:,} more for other reasons", "dim"))
    return [*text, ("\n", "")] if text else text
