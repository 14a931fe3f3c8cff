"""What the page says of a batch, in words and numbers: made from its record and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from batch_gateway.service.batch_records import BatchProblem, BatchRecord
from batch_gateway.service.statuses import (
    ENDED,
    SHOWN,
    BatchEvent,
    BatchStatus,
    following,
)

__all__ = ["BatchView", "Moment", "metadata_of", "moments_of", "problems_of", "view_of"]

_TONES: Final[Mapping[BatchStatus, str]] = {
    BatchStatus.COMPLETED: "good",
    BatchStatus.FAILED: "bad",
    BatchStatus.FAILING: "bad",
    BatchStatus.EXPIRED: "bad",
    BatchStatus.EXPIRING: "bad",
    BatchStatus.CANCELLED: "mixed",
    BatchStatus.CANCELLING: "mixed",
}
_STEPS = (
    ("Created", "created_at"),
    ("Started", "in_progress_at"),
    ("Finalizing since", "finalizing_at"),
    ("Cancelled by a request at", "cancelling_at"),
    ("Completed", "completed_at"),
    ("Failed", "failed_at"),
    ("Cancelled", "cancelled_at"),
    ("Expired", "expired_at"),
)
_decode_problems = msgspec.json.Decoder(list[BatchProblem]).decode
_decode_metadata = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """One batch as it is shown now; two that are equal look the same.

    Attributes:
        left: how long it takes yet at the pace so far; "" where nobody can tell.
        window: how long its window is open yet; "" when that is past or does not matter any more.
    """

    id: str
    state: str
    tone: str
    is_ended: bool
    may_be_cancelled: bool
    endpoint: str
    model: str | None
    created: Moment
    due: Moment
    total: int
    completed: int
    failed: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    left: str
    window: str
    notice: str | None
    has_problems: bool
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None

    @property
    def done(self) -> int:
        return self.completed + self.failed

    @property
    def percent(self) -> int:
        """Never 100 before all is done."""
        return self.done * 100 // self.total if self.total else 0


class Moment(NamedTuple):
    """A time for programs (ISO 8601) and for people."""

    exact: str
    shown: str


def view_of(batch: BatchRecord, now: float) -> BatchView:
    status = BatchStatus(batch.status)
    is_ended = status in ENDED
    return BatchView(
        id=batch.id,
        state=SHOWN[status].replace("_", " "),
        tone=_TONES.get(status, "going"),
        is_ended=is_ended,
        may_be_cancelled=following(status, BatchEvent.CANCEL) not in {None, status},
        endpoint=batch.endpoint,
        model=batch.model,
        created=_moment(batch.created_at),
        due=_moment(batch.expires_at),
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        input_tokens=batch.input_tokens,
        cached_tokens=batch.cached_tokens,
        output_tokens=batch.output_tokens,
        reasoning_tokens=batch.reasoning_tokens,
        left=_left(batch, now) if status is BatchStatus.IN_PROGRESS else "",
        window="" if is_ended or batch.due_at <= now else _span(batch.due_at - now),
        notice=batch.notice,
        has_problems=batch.errors is not None,
        input_file_id=batch.input_file_id,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
    )


def problems_of(batch: BatchRecord) -> Sequence[BatchProblem]:
    """Why its input cannot be run; none when it can."""
    return [] if batch.errors is None else _decode_problems(batch.errors)


def metadata_of(batch: BatchRecord) -> Sequence[tuple[str, str]]:
    """What its maker noted of it."""
    if batch.metadata is None:
        return []
    return [(key, str(value)) for key, value in _decode_metadata(batch.metadata).items()]


def moments_of(batch: BatchRecord) -> Sequence[tuple[str, Moment]]:
    """When it came to each state that it has seen."""
    seen = [(name, getattr(batch, column)) for name, column in _STEPS]
    return [(name, _moment(at)) for name, at in seen if at is not None]


def _left(batch: BatchRecord, now: float) -> str:
    done = batch.completed + batch.failed
    if not done or batch.in_progress_at is None or batch.notice is not None:
        return ""
    return _span((batch.total - done) * max(now - batch.in_progress_at, 0.0) / done)


def _span(seconds: float) -> str:
    """So coarse that it does not change with every look."""
    minutes = int(seconds // 60) + 1
    if minutes == 1:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def _moment(at: int) -> Moment:
    when = datetime.fromtimestamp(at, UTC)
    return Moment(when.isoformat(), when.strftime("%Y-%m-%d %H:%M:%S UTC"))
