"""Which files a run writes when it is not told."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.first_pass import STANDARD_INPUT

__all__ = ["check_caches", "error_path", "output_path"]


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


def check_caches(caches: Collection[Path], others: Mapping[str, Path | None]) -> None:
    """Raises CommandFailure for a cache at the place of another file: it would destroy that.

    `others` are by what they are for a person. Beside a cache SQLite has files of its own.
    """
    for cache in caches:
        for what, other in others.items():
            if other is not None and os.path.realpath(other) in _database_files(cache):
                raise CommandFailure(f"--cache: {cache} is where the {what} goes; name another")


def _database_files(path: Path) -> set[str]:
    place = os.path.realpath(path)
    return {place + ending for ending in ("", "-wal", "-shm", "-journal")}


def _file(option: str, given: Path) -> Path:
    if os.fspath(given) != "-":
        return given
    raise CommandFailure(
        f"{option} -: results are also the record of what is done, so they need a file: "
        f"give {option} FILE"
    )
