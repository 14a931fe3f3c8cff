"""Which files a run writes, and that none of them is in the way of another."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from batch_gateway.cli.check_input import STANDARD_INPUT
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.engine.result_names import default_errors, default_output, is_packed

__all__ = ["check_caches", "check_not_taken", "check_standard_streams", "error_path", "output_path"]

# What a shell makes of <(…), too.
_NAMELESS = ("/dev/stdin", "/dev/fd/", "/proc/")
# A path has one slash where a URL has two.
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_STANDARD_STREAMS = (
    (0, "standard input comes from"),
    (1, "standard output goes"),
    (2, "standard error goes"),
)


def output_path(file: str, given: Path | None) -> Path:
    """`given`, else `<stem>.results.jsonl` in the current folder.

    Raises CommandFailure for standard input, which has no name to make one from, and for
    standard output, which cannot be read again.
    """
    if given is not None:
        return _file("-o", given)
    if file == STANDARD_INPUT or file.startswith(_NAMELESS):
        what = "standard input" if file == STANDARD_INPUT else f"{file}, a stream,"
        raise CommandFailure(f"{what} has no name to make one for the results from: give -o FILE")
    return default_output(file)


def error_path(output: Path, given: Path | None) -> Path:
    """`given`, else `<output stem>.errors.jsonl` beside the output. Raises CommandFailure."""
    if given is None:
        return default_errors(output)
    return _file("--errors", given)


def check_caches(caches: Collection[Path], others: Mapping[str, Path | None]) -> None:
    """Raises CommandFailure for a cache at the place of another file: it would destroy that.

    `others` are by what they are for a person. Beside a cache SQLite has files of its own.
    """
    for cache in caches:
        for what, other in others.items():
            if other is not None and os.path.realpath(other) in _database_files(cache):
                raise CommandFailure(f"--cache: {cache} is where the {what} goes; name another")


def check_not_taken(option: str, path: Path, taken: Iterable[Path]) -> None:
    """Raises CommandFailure for a file that would replace the input or a result file."""
    if any(os.path.realpath(path) == os.path.realpath(other) for other in taken):
        raise CommandFailure(f"{option}: {path} is the input or a result file; name another")


def check_standard_streams(files: Iterable[tuple[str, Path | None]]) -> None:
    """Raises CommandFailure for a file, by its option, that the shell has redirected a stream to.

    Each would be written across the other: `-o R > R`, or `-o /dev/stdout > R`.
    """
    for option, path in files:
        found = None if path is None else _regular(os.stat, path)
        for descriptor, does in _STANDARD_STREAMS:
            stream = _regular(os.fstat, descriptor)
            if found is not None and stream is not None and os.path.samestat(found, stream):
                raise CommandFailure(f"{option}: {path} is where {does}; name another file")


def _regular(look: Callable[[Any], os.stat_result], what: Path | int) -> os.stat_result | None:
    try:
        found = look(what)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _database_files(path: Path) -> set[str]:
    place = os.path.realpath(path)
    return {place + ending for ending in ("", "-wal", "-shm", "-journal")}


def _file(option: str, given: Path) -> Path:
    if os.fspath(given) == "-":
        raise CommandFailure(
            f"{option} -: results are also the record of what is done, so they need a file: "
            f"give {option} FILE"
        )
    if _URL.match(os.fspath(given)):
        raise CommandFailure(
            f"{option}: results are also the record of what is done, and are written to a file"
            f" here; give {option} FILE, and copy it when the run has ended"
        )
    if is_packed(given.name):
        raise CommandFailure(
            f"{option}: {given} would have to be compressed, and results are added to line by line"
            " and read again to go on; give a name without that ending, and compress it at the end"
        )
    if not given.name or given.is_dir():
        raise CommandFailure(f"{option}: {given} is a folder; give the name of a file")
    return given
