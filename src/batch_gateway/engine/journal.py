"""Where a run records its results, and what it knows of earlier ones: the seam, and its counts."""

from __future__ import annotations

import asyncio
from typing import Protocol

from batch_gateway.engine.bitmap import Bitmap

__all__ = ["Journal", "Ledger"]


class Journal(Protocol):
    """The record of a run's results, which says what is done.

    Attributes:
        broken: set when nothing can be recorded any more; `append` then raises, and the run stops.
    """

    broken: asyncio.Event

    @property
    def succeeded(self) -> int:
        """Requests with a success line, of this run and of earlier ones."""
        ...

    @property
    def failed(self) -> int:
        """Requests with an error line and no success line."""
        ...

    @property
    def without_result(self) -> int:
        """Requests that have neither."""
        ...

    @property
    def still_to_retry(self) -> int:
        """Of the failed requests that are to be sent again, those without a new result."""
        ...

    @property
    def was_untouched(self) -> bool:
        """Whether no request is done, as `is_done` has it. Asked when a run begins."""
        ...

    def is_done(self, index: int) -> bool:
        """Whether request `index` is not to be sent in this run."""
        ...

    def has_result(self, index: int) -> bool:
        """Whether request `index` has a line, be it one of an earlier run."""
        ...

    async def append(self, index: int, line: bytes, ok: bool) -> None:
        """Record the result line (with line break) of request `index`; waits while it must.

        Raises JournalError once nothing can be recorded.
        """
        ...

    async def flush(self) -> None:
        """Return when every result so far is safe. Raises JournalError."""
        ...

    async def finish(self, *, ordered: bool = False) -> None:
        """Flush, and bring the record into its final form; `ordered`, into input order.

        Called at the end of each run. Raises JournalError; what was recorded before is safe even
        then.
        """
        ...


class Ledger:
    """Which requests of a batch have a result: what a `Journal` counts, apart from its lines.

    `retry_failed` makes the failed ones, and only those, the ones to send.
    """

    def __init__(self, succeeded: Bitmap, failed: Bitmap, *, retry_failed: bool = False) -> None:
        self._succeeded, self._failed = succeeded, failed
        self._retry = failed.copy() if retry_failed else None

    @property
    def succeeded(self) -> int:
        """How many requests have a response."""
        return len(self._succeeded)

    @property
    def failed(self) -> int:
        """How many requests failed for good."""
        return len(self._failed)

    @property
    def without_result(self) -> int:
        """How many requests have neither a response nor an error."""
        return len(self._succeeded.range) - len(self._succeeded) - len(self._failed)

    @property
    def still_to_retry(self) -> int:
        """How many of the failed requests are to be sent again."""
        return 0 if self._retry is None else len(self._retry)

    @property
    def was_untouched(self) -> bool:
        """Whether no request has a result, and none is to be sent again."""
        return self._retry is None and not self._succeeded and not self._failed

    def is_done(self, index: int) -> bool:
        """Whether the request of this index is not to be sent."""
        return self.has_result(index) if self._retry is None else index not in self._retry

    def has_result(self, index: int) -> bool:
        """Whether the request of this index has a response or an error."""
        return index in self._succeeded or index in self._failed

    def take(self, index: int, ok: bool) -> bool:
        """One more result; whether request `index` had another line, which now counts for less."""
        if self._retry is not None:
            self._retry.discard(index)
        if not ok:
            return not self._failed.add(index)
        self._succeeded.add(index)
        return self._failed.discard(index)
