"""Failed lines of a batch for people: grouped by what went wrong, with the first of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from batch_gateway.engine.result_line import Role
from batch_gateway.errors import NotStoredError
from batch_gateway.report.causes import kind_of_message
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import object_name
from batch_gateway.service.job_records import list_parts
from batch_gateway.service.parts import role_of_part
from batch_gateway.storage.protocol import Storage
from batch_gateway.wire.lines import parse_line_id

__all__ = ["FailureGroup", "find_failures", "group_failures"]

READ_BYTES: Final = 128 * 1024
"""So much of the failed lines is looked at, from their beginning."""

_MOST_GROUPS = 10
_EXAMPLES = 3


class _Error(msgspec.Struct):
    code: Any = None
    message: Any = None
    type: Any = None


class _Body(msgspec.Struct):
    error: _Error | str | None = None


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _FailedLine(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


_decode_line = msgspec.json.Decoder(_FailedLine).decode
_decode_body = msgspec.json.Decoder(_Body).decode


@dataclass(slots=True)
class FailureGroup:
    """Failures of one kind.

    Attributes:
        what: its code, or the status of the answer.
        message: of the first.
        count: of those that were looked at.
        examples: (number of the request in the input, from 1, and its `custom_id`).
    """

    what: str
    message: str
    count: int = 0
    examples: list[tuple[int | None, str]] = field(default_factory=list[tuple[int | None, str]])


async def find_failures(
    database: Database, storage: Storage, batch: BatchRecord
) -> Sequence[FailureGroup]:
    """Of the error file, or before there is one of what the processor has written so far."""
    if not batch.failed:
        return []
    if batch.error_file_id is not None:
        names = [object_name(batch.error_file_id)]
    else:
        parts = await database.read(lambda connection: list_parts(connection, batch.id))
        every = [part.name for _, part in parts]
        names = [name for name in every if role_of_part(name) is Role.FAILURE]
    lines: list[bytes] = []
    left = READ_BYTES
    for name in names:
        if left <= 0:
            break
        try:
            data = await storage.read(name, 0, left)
        except NotStoredError:
            # Deleted, expired, or put together to the error file just now.
            continue
        lines += data.splitlines(keepends=True)
        left -= len(data)
    return group_failures(lines)


def group_failures(lines: Sequence[bytes]) -> Sequence[FailureGroup]:
    """The most frequent first; lines that are cut short are left out."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    for line in lines:
        try:
            failed = _decode_line(line)
        except (msgspec.DecodeError, RecursionError):
            continue
        what, message = _words(failed)
        group = groups.setdefault((what, kind_of_message(message)), FailureGroup(what, message))
        group.count += 1
        if len(group.examples) < _EXAMPLES:
            place = parse_line_id(failed.id)
            group.examples.append((None if place is None else place[1] + 1, failed.custom_id))
    return sorted(groups.values(), key=lambda group: -group.count)[:_MOST_GROUPS]


def _words(line: _FailedLine) -> tuple[str, str]:
    if line.error is not None:
        return str(line.error.code or "error"), str(line.error.message or "")
    if line.response is None:
        return "error", ""
    status = f"HTTP {line.response.status_code}"
    try:
        error = _decode_body(line.response.body).error
    except (msgspec.DecodeError, RecursionError):
        return status, ""
    if isinstance(error, _Error):
        return status, str(error.message or error.code or error.type or "")
    return status, error or ""
