"""The plan of a batch: every line checked, none of it in memory, each readable by its index."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from batch_gateway.engine.first_pass import FirstPass, ProgressCallback, first_pass
from batch_gateway.engine.spool import spool
from batch_gateway.errors import InputError

__all__ = ["Order", "Plan", "make_plan"]

Order = Literal["prefix", "file"]
"""How lines are sent: grouped by model and prompt beginning, or as they stand in the file."""

_STANDARD_INPUT = "standard input"


class Plan:
    """A checked batch file. Close it, or use it as a context manager.

    Some ten bytes a line; lines are read from the file when they are wanted.

    Attributes:
        path: the file, or None for standard input.
        name: what to call it in messages.
        fingerprint: 16 hexadecimal digits of the SHA-256 of its content.
        total: number of requests.
        size_bytes: of the file.
        models: number of requests for each model, in order of first appearance.
    """

    def __init__(self, fd: int, path: Path | None, found: FirstPass) -> None:
        self.path = path
        self.name = _STANDARD_INPUT if path is None else os.fspath(path)
        self.fingerprint = found.fingerprint
        self.total = len(found.lines)
        self.models = found.grouping.models()
        self._fd = fd
        self._lines = found.lines
        self._grouping = found.grouping
        # Asked once a line, and so without a call in between.
        self.size_of = found.lines.size
        self.model_of = found.grouping.model_of
        state = os.fstat(fd)
        self.size_bytes = state.st_size
        self.file_id = (state.st_dev, state.st_ino)
        self._modified_ns = state.st_mtime_ns

    def read(self, index: int) -> bytes:
        """The line of request `index` (from 0), without its line break.

        Raises InputError when the file changed since the plan was made, or cannot be read.
        """
        start, end = self._lines.span(index)
        try:
            line = os.pread(self._fd, end - start, start)
            state = os.fstat(self._fd)
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}") from error
        if state.st_mtime_ns != self._modified_ns or state.st_size != self.size_bytes:
            raise self.changed()
        return line.strip()

    def changed(self) -> InputError:
        """The error for a file that is not what it was when the plan was made."""
        return InputError(
            f"{self.name} changed while it was running: put the old content back and run the "
            "same command again, or run the new content with another output"
        )

    def line_number(self, index: int) -> int:
        """The number of the request's line in the file, from 1, blank lines counted."""
        return self._lines.line_number(index)

    def order(
        self,
        order: Order = "prefix",
        skip: Callable[[int], bool] | None = None,
        models: Collection[str] | None = None,
    ) -> Iterator[int]:
        """Indexes in the order they should be sent, without those that `skip` says are done.

        `models` limits them to those models. "prefix" goes model by model and, within a model,
        by the beginning of the prompt, in order of first appearance; "file" as in the file.
        """
        grouping = self._grouping
        in_order = grouping.in_prefix_order if order == "prefix" else grouping.in_file_order
        indexes = in_order(models)
        return indexes if skip is None else (index for index in indexes if not skip(index))

    def close(self) -> None:
        """Give the file back. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def make_plan(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    max_problems: int = 20,
    on_progress: ProgressCallback | None = None,
) -> Plan:
    """The first pass: check every line of a batch file and index it.

    `source` is a path, or what `spool` returned. Raises InputError when there is no such file,
    or with one entry in `problems` for each problem, the first `max_problems` of them.
    """
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    name = _STANDARD_INPUT if path is None else os.fspath(path)
    try:
        fd = _open(source)
        try:
            return _plan(fd, path, name, max_problems, on_progress)
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error


def _open(source: str | os.PathLike[str] | BinaryIO) -> int:
    if not isinstance(source, str | os.PathLike):
        return os.dup(source.fileno())
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    if stat.S_ISDIR(mode):
        os.close(fd)
        raise InputError(f"{os.fspath(source)} is a directory: name a file of JSON lines")
    # A pipe (`<(zcat file)`) can be read only once, and is wanted twice.
    with os.fdopen(fd, "rb") as stream, spool(stream) as copy:
        return os.dup(copy.fileno())


def _plan(
    fd: int, path: Path | None, name: str, max_problems: int, on_progress: ProgressCallback | None
) -> Plan:
    before = os.fstat(fd)
    found = first_pass(
        fd, name, size=before.st_size, max_problems=max_problems, on_progress=on_progress
    )
    plan = Plan(fd, path, found)
    after = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"{name} changed while it was being read: is it still being written?")
    return plan
