"""Records as tests need them: valid, and different only in what the test is about."""

from __future__ import annotations

from typing import Any

from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.file_records import FileRecord
from batch_gateway.service.ids import new_id
from batch_gateway.service.job_records import Job, JobKind

NOW = 1_800_000_000


def a_file(**different: Any) -> FileRecord:
    usual: dict[str, Any] = {
        "id": new_id("file"),
        "tenant": "t",
        "filename": "in.jsonl",
        "purpose": "batch",
        "bytes": 10,
        "created_at": NOW,
        "expires_at": None,
        "status": "uploaded",
    }
    return FileRecord(**(usual | different))


def a_batch(**different: Any) -> BatchRecord:
    usual: dict[str, Any] = {
        "id": new_id("batch"),
        "tenant": "t",
        "status": "validating",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file_x",
        "completion_window": "24h",
        "due_at": NOW + 86400.0,
        "created_at": NOW,
        "expires_at": NOW + 86400,
    }
    return BatchRecord(**(usual | different))


def a_shard(batch_id: str, number: int = 0) -> Job:
    return Job(
        batch_id=batch_id,
        kind=JobKind.RUN,
        number=number,
        start=number * 100,
        end=number * 100 + 100,
        first_line=number * 10 + 1,
        first_index=number * 10,
        lines=10,
    )
