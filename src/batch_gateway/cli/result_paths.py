"""Which files a run writes when it is not told."""

from __future__ import annotations

from pathlib import Path

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.first_pass import STANDARD_INPUT

__all__ = ["error_path", "output_path"]


def output_path(file: str, given: Path | None) -> Path:
    """`given`, else `<stem>.results.jsonl` in the current folder.

    Raises CommandFailure for standard input, which has no name to make one from.
    """
    if given is not None:
        return given
    if file == STANDARD_INPUT:
        raise CommandFailure(
            "standard input has no name to make one for the results from: give -o FILE"
        )
    return Path(f"{Path(file).stem}.results.jsonl")


def error_path(output: Path, given: Path | None) -> Path:
    """`given`, else `<output stem>.errors.jsonl` beside the output."""
    return output.with_name(f"{output.stem}.errors.jsonl") if given is None else given
