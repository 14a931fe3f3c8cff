"""What a person can do after a run, as commands to copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batch_gateway.cli.resume_command import HIDDEN, resume_command
from batch_gateway.engine.progress import RunSummary

__all__ = ["next_steps"]


def next_steps(
    arguments: Sequence[str], summary: RunSummary, *, retrying: bool, from_stdin: bool
) -> tuple[tuple[str, str], ...]:
    """Pairs of (what for, command). `arguments` are those of the command that ran."""
    return tuple(
        (f"{purpose}{_remark(command, from_stdin)}:", command)
        for purpose, command in _steps(arguments, summary, retrying)
    )


def _steps(
    arguments: Sequence[str], summary: RunSummary, retrying: bool
) -> Iterator[tuple[str, str]]:
    if summary.still_to_retry:
        yield (
            "To go on sending the failed lines again",
            resume_command(arguments, retry_failed=True),
        )
    elif summary.left_to_send:
        purpose = "To send the lines that are left" if retrying else "To go on, the same command"
        if summary.gateway_problem is not None:
            purpose = "Once the gateway can be used, the same command goes on"
        if summary.maybe_the_lines:
            purpose = "Once the cause is mended, to go on"
        yield purpose, resume_command(arguments)
        if summary.maybe_the_lines:
            yield (
                "If the requests themselves are to blame, to record them as failed",
                resume_command(arguments, record_all=True),
            )
    elif summary.figures.worth_retrying or (summary.failed and not summary.figures.finished):
        yield "To send the failed lines again", resume_command(arguments, retry_failed=True)


def _remark(command: str, from_stdin: bool) -> str:
    remarks: list[str] = []
    if from_stdin:
        remarks.append("with the same input")
    if HIDDEN in command:
        remarks.append("with your own values in place of the dots")
    return f" ({', '.join(remarks)})" if remarks else ""
