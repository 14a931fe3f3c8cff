"""Which files a run writes when it is not told."""

from __future__ import annotations

import os
from pathlib import Path

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.first_pass import STANDARD_INPUT

__all__ = ["error_path", "output_path"]


def output_path(file: str, given: Path | None) -> Path:
    """`given`, else `<stem>.results.jsonl` in the current folder.

    Raises CommandFailure for standard input, which has no name to make one from, and for
    standard output, which cannot be read again.
    """
    if given is not None:
        return _file("-o", given)
    if file == STANDARD_INPUT:
        raise CommandFailure(
            "standard input has no name to make one for the results from: give -o FILE"
        )
    return Path(f"{Path(file).stem}.results.jsonl")


def error_path(output: Path, given: Path | None) -> Path:
    """`given`, else `<output stem>.errors.jsonl` beside the output. Raises CommandFailure."""
    if given is None:
        return output.with_name(f"{output.stem}.errors.jsonl")
    return _file("--errors", given)


def _file(option: str, given: Path) -> Path:
    if os.fspath(given) != "-":
        return given
    raise CommandFailure(
        f"{option} -: results are also the record of what is done, so they need a file: "
        f"give {option} FILE"
    )
