"""A batch of a server in words: its line in a list, all there is to know, how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.rates import Mark, measure
from batch_gateway.cli.terminal_text import one_line
from batch_gateway.cli.text_table import utc_time
from batch_gateway.durations import format_duration
from batch_gateway.engine.time_left import TimeLeft
from batch_gateway.remote.remote_batch import RemoteBatch
from batch_gateway.report.scales import number_text

__all__ = ["HEADS", "as_row", "as_text", "ending", "exit_code", "progress_line", "share_done"]

HEADS = ("ID", "STATUS", "DONE", "FAILED", "CREATED", "ENDPOINT")
_MOST_PROBLEMS = 20


def as_row(batch: RemoteBatch) -> tuple[str, ...]:
    """The cells under `HEADS`."""
    counts = batch.requests
    return (
        batch.id,
        batch.status,
        f"{counts.completed + counts.failed:,} of {counts.total:,}",
        f"{counts.failed:,}",
        utc_time(batch.created_at),
        batch.endpoint or "",
    )


def as_text(batch: RemoteBatch) -> str:
    """Several lines."""
    return "\n".join(_lines(batch))


def _lines(batch: RemoteBatch) -> Iterator[str]:
    counts = batch.requests
    left = batch.expires_at and not batch.has_ended and batch.expires_at - time.time()
    facts = {
        "Batch": batch.id,
        "Status": batch.status,
        "Waits": batch.notice,
        "Lines": f"{counts.total:,}: {counts.completed:,} succeeded, {counts.failed:,} failed",
        "Model": batch.model,
        "Endpoint": batch.endpoint,
        "Input": batch.input_file_id,
        "Results": batch.output_file_id,
        "Errors": batch.error_file_id,
        "Created": utc_time(batch.created_at),
        "Ended": utc_time(batch.completed_at),
        "Window": batch.completion_window,
        "Time left": left and format_duration(max(0.0, left)),
        "Tokens": batch.tokens and number_text(batch.tokens),
        "Metadata": ", ".join(f"{name}={value}" for name, value in (batch.metadata or {}).items()),
    }
    yield from (f"{name:10}{one_line(str(fact))}" for name, fact in facts.items() if fact)
    yield from (f"  {problem}" for problem in problems(batch))


def problems(batch: RemoteBatch) -> Iterator[str]:
    """Why it was refused, a sentence each."""
    for problem in batch.problems[:_MOST_PROBLEMS]:
        words = one_line(problem.message or problem.code or "no reason is given")
        is_placed = problem.line is not None and not words.startswith("line ")
        yield f"line {problem.line}: {words}" if is_placed else words
    if len(batch.problems) > _MOST_PROBLEMS:
        yield f"and {len(batch.problems) - _MOST_PROBLEMS:,} more"


def share_done(batch: RemoteBatch) -> float | None:
    """From 0 to 1; None while the number of lines is not known."""
    counts = batch.requests
    return (counts.completed + counts.failed) / counts.total if counts.total else None


def progress_line(batch: RemoteBatch, window: tuple[Mark, ...], time_left: TimeLeft) -> str:
    """How a batch stands, and how fast it goes."""
    counts = batch.requests
    done = counts.completed + counts.failed
    parts = [batch.status]
    if counts.total:
        parts.append(f"{done:,} of {counts.total:,} done")
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    rates = measure(window[0], window[-1])
    if rates.requests:
        parts.append(f"{rates.requests:,.1f} lines/s")
    if rates.tokens:
        parts.append(f"{number_text(rates.tokens)} tokens/s")
    left = time_left.seconds(counts.total - done)
    if left and batch.status == "in_progress":
        parts.append(f"{format_duration(max(1, round(left)))} left")
    if batch.notice:
        parts.append(batch.notice)
    return one_line(", ".join(parts))


def ending(batch: RemoteBatch) -> str:
    """How it ended, in one sentence, and why it was refused or could not go on if so."""
    counts = batch.requests
    if batch.was_refused:
        return "\n  ".join([f"{one_line(batch.id)} was refused", *problems(batch)])
    lines = f"{counts.completed:,} of {counted(counts.total, 'line')} succeeded"
    failed = f", {counts.failed:,} failed" if counts.failed else ""
    left = counts.total - counts.completed - counts.failed
    unsent = f", {left:,} without a result" if left > 0 else ""
    told = one_line(f"{batch.id} is {batch.status}: {lines}{failed}{unsent}")
    return "\n  ".join([told, *problems(batch)])


def exit_code(batch: RemoteBatch) -> ExitCode:
    """That of a batch that has ended, as `run` would have it."""
    if batch.was_refused:
        return ExitCode.BAD_INPUT
    if batch.status != "completed":
        return ExitCode.GATEWAY_UNUSABLE
    return ExitCode.SOME_FAILED if batch.requests.failed else ExitCode.SUCCEEDED
