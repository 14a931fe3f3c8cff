"""What a server says of a batch, taken as leniently as servers differ."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

__all__ = ["ENDED", "RemoteBatch", "RemoteFile", "RemotePage", "RequestCounts"]

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""Statuses behind which nothing comes; whatever else there is, is under way."""

# Ids stand in messages and in commands to be typed: nothing in one may look like anything else.
_Id = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]+\Z")]
_IdOrNone = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]*\Z")]


class RequestCounts(msgspec.Struct, frozen=True):
    """Lines of a batch; all are 0 while the server has not looked at it."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchProblem(msgspec.Struct, frozen=True):
    """Why a batch was refused, of one line where it says which."""

    message: str | None = None
    code: str | None = None
    line: int | None = None


class _Problems(msgspec.Struct, frozen=True):
    data: list[BatchProblem] | None = None


class RemoteBatch(msgspec.Struct, frozen=True):
    """A batch at one moment. Times are seconds since the epoch.

    Attributes:
        status: one of `ENDED`, or else under way.
        notice: why it does not go on just now, of servers that say it.
    """

    id: _Id
    status: str
    endpoint: str | None = None
    input_file_id: str | None = None
    output_file_id: _IdOrNone | None = None
    error_file_id: _IdOrNone | None = None
    completion_window: str | None = None
    created_at: float | None = None
    in_progress_at: float | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    counts: RequestCounts | None = msgspec.field(name="request_counts", default=None)
    errors: _Problems | None = None
    usage: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    model: str | None = None
    notice: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def was_refused(self) -> bool:
        """Whether it failed before any of its requests was sent."""
        return self.status == "failed" and self.in_progress_at is None

    @property
    def requests(self) -> RequestCounts:
        return self.counts or RequestCounts()

    @property
    def problems(self) -> list[BatchProblem]:
        return (self.errors.data if self.errors else None) or []

    @property
    def tokens(self) -> int:
        """Those of its answers, prompts included, as far as the server says."""
        total = (self.usage or {}).get("total_tokens")
        return total if isinstance(total, int) else 0


class RemoteFile(msgspec.Struct, frozen=True):
    """A file that a server has taken."""

    id: _Id


class RemotePage(msgspec.Struct, frozen=True):
    """Some batches, newest first, each as JSON."""

    data: list[msgspec.Raw]
    has_more: bool | None = False
