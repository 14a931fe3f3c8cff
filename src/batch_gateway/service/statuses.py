"""The life of a batch: its statuses, what may happen to it, and where that leads.

validating ─► in_progress ─► finalizing ─► completed
    │ │ │         │   └────► cancelling ─► cancelled
    │ │ │         ├────────► expiring ───► expired
    │ │ │         └────────► failing ────► failed
    └─┴─┴──────────────────► failed, cancelled, expired

finalizing ─► in_progress when results are found to be lost. What cannot be ended in any other way
ends as failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

__all__ = [
    "ENDED",
    "ENDING",
    "OPEN",
    "SHOWN",
    "TRANSITIONS",
    "UNSEEN",
    "BatchEvent",
    "BatchStatus",
    "following",
]


class BatchStatus(StrEnum):
    """Where a batch is. All but `EXPIRING` and `FAILING` are statuses of the OpenAI Batch API."""

    VALIDATING = "validating"
    """It waits for the first look at its input, or is having it."""
    IN_PROGRESS = "in_progress"
    """Its input is good, and its requests are being sent or wait for their turn."""
    FINALIZING = "finalizing"
    """Every line has a result; the result files are being put together."""
    COMPLETED = "completed"
    """The result files are there, be all their lines failures."""
    FAILING = "failing"
    """It cannot go on; as `cancelling`. Users see `in_progress`."""
    FAILED = "failed"
    """The input cannot be run, and nothing was sent; or it could not go on. `errors` say why."""
    CANCELLING = "cancelling"
    """It was told to stop; requests under way are aborted, and the result files written."""
    CANCELLED = "cancelled"
    """It was stopped; what had a result before has it in the result files."""
    EXPIRING = "expiring"
    """Its window is over; as `cancelling`. Users see `in_progress`."""
    EXPIRED = "expired"
    """Its window was over before its requests were; as `cancelled`."""


class BatchEvent(StrEnum):
    """What happens to a batch."""

    VALID = "valid"
    """The first look found nothing wrong, and the batch is divided into shards."""
    INVALID = "invalid"
    """The first look found problems."""
    ALL_DONE = "all_done"
    """The last shard has ended."""
    WRITTEN = "written"
    """The result files are complete."""
    CANCEL = "cancel"
    """Somebody asks for its end; a second time changes nothing."""
    EXPIRE = "expire"
    """The completion window is over."""
    LOST = "lost"
    """Some results are not there any more, and their requests are to be sent again."""
    GIVE_UP = "give_up"
    """Something that keeps it from going on did so however often it was tried."""


TRANSITIONS: Final[Mapping[BatchStatus, Mapping[BatchEvent, BatchStatus]]] = {
    BatchStatus.VALIDATING: {
        BatchEvent.VALID: BatchStatus.IN_PROGRESS,
        BatchEvent.INVALID: BatchStatus.FAILED,
        BatchEvent.CANCEL: BatchStatus.CANCELLED,
        BatchEvent.EXPIRE: BatchStatus.EXPIRED,
        BatchEvent.GIVE_UP: BatchStatus.FAILED,
    },
    BatchStatus.IN_PROGRESS: {
        BatchEvent.ALL_DONE: BatchStatus.FINALIZING,
        BatchEvent.CANCEL: BatchStatus.CANCELLING,
        BatchEvent.EXPIRE: BatchStatus.EXPIRING,
        BatchEvent.GIVE_UP: BatchStatus.FAILING,
    },
    BatchStatus.FINALIZING: {
        BatchEvent.WRITTEN: BatchStatus.COMPLETED,
        # Every line has its result: the window is kept.
        BatchEvent.EXPIRE: BatchStatus.FINALIZING,
        BatchEvent.LOST: BatchStatus.IN_PROGRESS,
        BatchEvent.GIVE_UP: BatchStatus.FAILED,
    },
    BatchStatus.CANCELLING: {
        BatchEvent.ALL_DONE: BatchStatus.CANCELLING,
        BatchEvent.WRITTEN: BatchStatus.CANCELLED,
        BatchEvent.CANCEL: BatchStatus.CANCELLING,
        BatchEvent.EXPIRE: BatchStatus.CANCELLING,
        BatchEvent.LOST: BatchStatus.CANCELLING,
        BatchEvent.GIVE_UP: BatchStatus.FAILED,
    },
    BatchStatus.EXPIRING: {
        BatchEvent.ALL_DONE: BatchStatus.EXPIRING,
        BatchEvent.WRITTEN: BatchStatus.EXPIRED,
        # It is ending already, for another reason.
        BatchEvent.CANCEL: BatchStatus.EXPIRING,
        BatchEvent.EXPIRE: BatchStatus.EXPIRING,
        BatchEvent.LOST: BatchStatus.EXPIRING,
        BatchEvent.GIVE_UP: BatchStatus.FAILED,
    },
    BatchStatus.FAILING: {
        BatchEvent.ALL_DONE: BatchStatus.FAILING,
        BatchEvent.WRITTEN: BatchStatus.FAILED,
        BatchEvent.CANCEL: BatchStatus.FAILING,
        BatchEvent.EXPIRE: BatchStatus.FAILING,
        BatchEvent.LOST: BatchStatus.FAILING,
        BatchEvent.GIVE_UP: BatchStatus.FAILED,
    },
    BatchStatus.COMPLETED: {},
    BatchStatus.FAILED: {},
    BatchStatus.CANCELLED: {BatchEvent.CANCEL: BatchStatus.CANCELLED},
    BatchStatus.EXPIRED: {},
}
"""What each event makes of each status; an event that is not there is refused."""

ENDED: Final = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.CANCELLED, BatchStatus.EXPIRED}
)
"""Statuses that a batch never leaves."""

OPEN: Final = frozenset(BatchStatus) - ENDED
"""All others. A database has an index for batches that are in one of these, but none for those that
are not in one of the rest."""

ENDING: Final = frozenset({BatchStatus.CANCELLING, BatchStatus.EXPIRING, BatchStatus.FAILING})
"""Statuses in which nothing more is sent, and what has no result yet gets an error."""

UNSEEN: Final = frozenset({BatchStatus.EXPIRING, BatchStatus.FAILING})
"""Statuses that OpenAI's clients do not know; only their end is told."""

SHOWN: Final[Mapping[BatchStatus, str]] = {
    status: (BatchStatus.IN_PROGRESS if status in UNSEEN else status).value
    for status in BatchStatus
}
"""What users are told."""


def following(status: BatchStatus, event: BatchEvent) -> BatchStatus | None:
    """The status after `event`, which may be the same one; None when the event is refused."""
    return TRANSITIONS[status].get(event)
