"""The objects that the API shows, key by key: made from records, with nothing secret in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.file_records import FileRecord
from batch_gateway.service.paging import Page
from batch_gateway.service.statuses import SHOWN, BatchStatus

__all__ = ["batch_object", "deleted_file", "file_object", "list_object"]

_Record = TypeVar("_Record", FileRecord, BatchRecord)


def file_object(file: FileRecord) -> dict[str, Any]:
    return {
        "id": file.id,
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "object": "file",
        "purpose": file.purpose,
        "status": file.status,
    }


def deleted_file(file_id: str) -> dict[str, Any]:
    return {"id": file_id, "object": "file", "deleted": True}


def batch_object(batch: BatchRecord) -> dict[str, Any]:
    """All keys always, but for `model`, which several models do not have, and `notice`, which says
    why a batch does not go on just now."""
    shown = {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "metadata": _json(batch.metadata),
        "created_at": batch.created_at,
        "status": SHOWN[BatchStatus(batch.status)],
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "cancelled_at": batch.cancelled_at,
        "cancelling_at": batch.cancelling_at,
        "completed_at": batch.completed_at,
        "expired_at": batch.expired_at,
        "expires_at": batch.expires_at,
        "failed_at": batch.failed_at,
        "finalizing_at": batch.finalizing_at,
        "in_progress_at": batch.in_progress_at,
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "errors": _errors(batch),
        "usage": _usage(batch),
    }
    if batch.model is not None:
        shown["model"] = batch.model
    if batch.notice is not None:
        shown["notice"] = batch.notice
    return shown


def list_object(
    page: Page[_Record], shape: Callable[[_Record], dict[str, Any]], *, no_id: str | None
) -> dict[str, Any]:
    """A page as a list; an empty one has `no_id` for its ids."""
    data: Sequence[dict[str, Any]] = [shape(item) for item in page.items]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else no_id,
        "last_id": data[-1]["id"] if data else no_id,
        "has_more": page.has_more,
    }


def _json(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def _errors(batch: BatchRecord) -> dict[str, Any] | None:
    return None if batch.errors is None else {"object": "list", "data": _json(batch.errors)}


def _usage(batch: BatchRecord) -> dict[str, Any] | None:
    # Nothing has been used before the first request, and nothing is known before the first shard.
    if batch.in_progress_at is None:
        return None
    return {
        "input_tokens": batch.input_tokens,
        "input_tokens_details": {"cached_tokens": batch.cached_tokens},
        "output_tokens": batch.output_tokens,
        "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
        "total_tokens": batch.input_tokens + batch.output_tokens,
    }
