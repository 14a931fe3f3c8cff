"""The journal of `run`: the record of what is done is the output itself, two local files.

Each result line's id names its input file and request, so reading the output and error files
tells what is left to send; there is no second record that could disagree.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.journal import Ledger
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.reconcile import leftover_path, reconcile, remove_leftover
from batch_gateway.engine.result_file import ResultFile, TakenAwayError, open_result_file
from batch_gateway.engine.result_line import Role
from batch_gateway.engine.result_reader import ResultReader
from batch_gateway.engine.result_scan import Scan, check_results, mend_tail, scan_results
from batch_gateway.engine.write_behind import WriteBehind
from batch_gateway.errors import JournalError

__all__ = ["FileJournal"]

PathLike = str | os.PathLike[str]

_OUTPUT, _ERRORS = 0, 1
_CURES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space, or raise the quota,",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
}


class FileJournal(Ledger):
    """The output and error files of one run, locked against any other run.

    Made by `FileJournal.open`; close it with `aclose`, or use it as an async context manager.

    Attributes:
        broken: set when writing failed; `append` then raises and the run should stop.
    """

    def __init__(
        self,
        requests: range,
        files: tuple[ResultFile, ResultFile],
        readers: tuple[ResultReader, ResultReader],
        *,
        retry_failed: bool,
    ) -> None:
        self._requests = requests
        self._files = files
        self._readers = readers
        # Nothing is changed before both files are known to be ours.
        for file, scan in zip(files, self._scan_files(), strict=True):
            mend_tail(file, scan)
        super().__init__(self._succeeded, self._failed, retry_failed=retry_failed)
        self._writer = WriteBehind(files)
        self.broken = self._writer.failed

    @classmethod
    def open(
        cls,
        plan: Plan,
        output: PathLike,
        errors: PathLike,
        *,
        fresh: bool = False,
        retry_failed: bool = False,
    ) -> FileJournal:
        """Lock both files, creating them when they are missing, and read what is done.

        `fresh` empties them first. `retry_failed` makes the lines of the error file, and only
        those, the ones to send. Raises JournalError when a file is in use, is not a regular
        file, holds anything but results of this very input, or cannot be read or written.
        """
        files: list[ResultFile] = []
        try:
            for name in (output, errors):
                _refuse_place(plan, name, files)
                files.append(open_result_file(name))
            for file in files:
                _refuse_place(plan, leftover_path(file.path), files)
                remove_leftover(file.path)
            if fresh:
                _start_over(files)
            readers = (
                ResultReader(files[_OUTPUT].name, plan, Role.SUCCESS),
                ResultReader(files[_ERRORS].name, plan, Role.FAILURE),
            )
            pair = (files[_OUTPUT], files[_ERRORS])
            return cls(plan.requests, pair, readers, retry_failed=retry_failed)
        except BaseException as error:
            for file in files:
                file.close(remove_if_empty=file.created)
            if isinstance(error, OSError):
                raise JournalError(f"{os.fspath(output)}: {error.strerror}") from error
            raise

    def _scan_files(self) -> tuple[Scan, Scan]:
        output, errors = (
            self._scan(file, reader)
            for file, reader in zip(self._files, self._readers, strict=True)
        )
        self._succeeded, self._failed = output.seen, errors.seen
        self._output, self._stale_output = output, output.repeated or output.damaged
        # A line that failed once and succeeded later leaves its old error behind.
        superseded = self._failed.subtract(self._succeeded)
        self._stale_errors = errors.repeated or errors.damaged or superseded > 0
        return output, errors

    def _scan(self, file: ResultFile, reader: ResultReader) -> Scan:
        if file.is_gone:
            return Scan(Bitmap(self._requests), end=file.size)
        return scan_results(file, reader, self._requests)

    async def append(self, index: int, line: bytes, ok: bool) -> None:
        """Record the result line (with line break) of request `index`.

        Returns when the line is in memory; it reaches the kernel within 50 ms and the device
        within a second. Waits while 8 MiB are unwritten. Raises JournalError once writing failed.
        """
        try:
            is_full = self._writer.put(_OUTPUT if ok else _ERRORS, line)
        except OSError as error:
            raise self._write_error(error) from error
        if ok:
            self._output.follow(index)
        if self.take(index, ok):
            self._stale_errors = True
        if is_full:
            await self._guarded(self._writer.wait_for_room)

    async def flush(self) -> None:
        """Return when every result so far is on the device. Raises JournalError."""
        await self._guarded(self._writer.flush)

    async def finish(self, *, ordered: bool = False) -> None:
        """Flush, and leave exactly one line for each request that has a result.

        A file is written anew, atomically, only when it needs it. `ordered` puts both into
        input order, once no request is without a result. Raises JournalError; what was
        recorded before is safe even then.
        """
        try:
            await self.flush()
            sort = ordered and self.without_result == 0
            await self._writer.between_syncs(partial(self._tidy, sort))
        except JournalError:
            # Lines that were only in memory are gone: count again what is really there.
            with contextlib.suppress(JournalError, OSError):
                await asyncio.to_thread(self._scan_files)
            raise

    def _check_files(self) -> None:
        try:
            for file in self._files:
                file.check()
        except OSError as error:
            raise self._write_error(error) from error

    def _tidy(self, sort: bool) -> None:
        self._check_files()
        output, errors = self._files
        jobs = (
            (output, self._succeeded, self._stale_output or (sort and not self._output.in_order)),
            (errors, self._failed, self._stale_errors or sort),
        )
        for place, (file, keep, needed) in enumerate(jobs):
            if not needed or not file.size:
                continue
            which = "first" if place == _OUTPUT else "last"
            try:
                reconcile(file, self._readers[place], keep, which)
            except TakenAwayError as error:
                raise self._write_error(error) from error
            except OSError as error:
                raise JournalError(
                    f"{file.name}: could not be written in its final form: {error.strerror}; every "
                    "result is safe in it, and the same command finishes the work"
                ) from error
        self._stale_output = self._stale_errors = False

    async def aclose(self) -> None:
        """Write what is left, unlock and close. Empty files that nobody needs are removed."""
        await self._writer.aclose()
        output, errors = self._files
        # An empty output beside errors still says "none succeeded"; without them it says nothing.
        output.close(remove_if_empty=output.created and errors.size == 0)
        # One that somebody made for us, as `mktemp` does, stays to be looked at.
        ours = errors.created or errors.had_content or output.had_content
        errors.close(remove_if_empty=ours)

    async def __aenter__(self) -> FileJournal:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _guarded(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> JournalError:
        name = error.filename or self._files[_OUTPUT].name
        if isinstance(error, TakenAwayError):
            return JournalError(f"{name}: {error.strerror}; {error.advice}")
        safe = sum(file.lines for file in self._files)
        kept = "1 result is safe" if safe == 1 else f"{safe:,} results are safe"
        cure = _CURES.get(error.errno or 0, "mend that")
        return JournalError(
            f"{name}: {error.strerror or error}; {kept}; {cure} and run the same command again"
        )


def _refuse_place(plan: Plan, name: PathLike, opened: list[ResultFile]) -> None:
    try:
        there = Path(name).stat()
    except OSError:
        return
    if plan.source.is_file(there):
        raise JournalError(f"{os.fspath(name)}: is the input itself; choose another output")
    if any(os.path.samestat(there, os.fstat(file.fd)) for file in opened):
        raise JournalError(f"{os.fspath(name)}: output and error file must be two files")


def _start_over(files: list[ResultFile]) -> None:
    for file in files:
        check_results(file)
    for file in files:
        file.cut(0)
