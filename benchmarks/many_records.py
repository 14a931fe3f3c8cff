"""Tables that many have used for long: rows by the million, and what the service asks of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from string import Template
from typing import Final, NamedTuple

from sqlalchemy import Connection

from batch_gateway.service.backlog import backlog
from batch_gateway.service.batch_records import (
    batches_under_way,
    expired_batches,
    find_batch,
    list_batches,
    remove_ended_before,
    sealed_headers,
)
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import (
    find_file,
    give_up_abandoned,
    leftovers,
    list_files,
    tenant_use,
)
from batch_gateway.service.job_records import list_parts, shards_left
from batch_gateway.service.paging import Paging
from batch_gateway.service.worker_records import free_jobs_and_share

__all__ = ["NOW", "QUESTIONS", "Records", "batch_id", "fill", "open_all"]

NOW: Final = 1_800_000_000.5
"""When the tables are looked at, in seconds since the epoch."""

_TENANT: Final = "tenant-7"
_DAY: Final = 86_400
# A transaction that takes long is ended.
_FILES_AT_ONCE: Final = 50_000


class Records(NamedTuple):
    """How many there are of each; `open` of the batches are under way, each with a shard that waits
    and 49 that are done."""

    tenants: int
    batches: int
    files: int
    open: int


# Oldest first, as ids are; those of each tenant are spread over all of the time.
_FILES: Final = """
INSERT INTO files (id, tenant, filename, purpose, bytes, created_at, expires_at, status, state)
SELECT 'file_' || lpad(i::text, 12, '0'), 'tenant-' || i % $tenants, 'input.jsonl',
    CASE WHEN i / $tenants % 10 = 0 THEN 'batch_output' ELSE 'batch' END, 20000000,
    $now - ($files - i), CASE WHEN i % 2 = 0 THEN $now + 86400 + i END, 'processed', 'stored'
FROM generate_series($start, $end - 1) AS i
"""
_BATCHES: Final = """
INSERT INTO batches (id, tenant, status, endpoint, input_file_id, completion_window, due_at,
    created_at, expires_at, completed_at, model, total, completed, input_tokens, output_tokens)
SELECT 'batch_' || lpad(i::text, 12, '0'), 'tenant-' || i % $tenants,
    CASE WHEN i < $batches - $open THEN 'completed' ELSE 'in_progress' END, '/v1/chat/completions',
    'file_' || lpad((i * ($files / $batches))::text, 12, '0'), '24h', $now + 86400.0 + i,
    $now - ($batches - i), $now + 86400 + i, CASE WHEN i < $batches - $open THEN $now END,
    'model', 50000, 49000, 10000000, 10000000
FROM generate_series(0, $batches - 1) AS i
"""
_JOBS: Final = """
INSERT INTO jobs (batch_id, kind, number, start, "end", first_line, first_index, lines, state)
SELECT id, 'run', n, n * 1000, (n + 1) * 1000, n * 1000 + 1, n * 1000, 1000,
    CASE WHEN n = 49 THEN 'waiting' ELSE 'done' END
FROM batches, generate_series(0, 49) AS n WHERE status = 'in_progress'
"""
_PARTS: Final = """
INSERT INTO parts (batch_id, shard, name, epoch, bytes, lines)
SELECT batch_id, number, 'output-1', 1, 1000000, 1000 FROM jobs WHERE state = 'done'
"""
_OPEN_ALL: Final = """
INSERT INTO jobs (batch_id, kind, number, start, "end", first_line, first_index, lines, state)
SELECT id, 'run', 49, 0, 1000, 1, 0, 1000, 'waiting' FROM batches WHERE status = 'completed';
UPDATE batches SET status = 'in_progress', completed_at = NULL WHERE status = 'completed'
"""

QUESTIONS: Final[Mapping[str, Callable[[Connection], object]]] = {
    "list of files, first page": lambda c: list_files(c, _TENANT, Paging(), NOW),
    "list of files, deep page": lambda c: list_files(
        c, _TENANT, Paging(after=_file_id(_FEWEST_FILES // 2)), NOW
    ),
    "list of files of a purpose": lambda c: list_files(c, _TENANT, Paging(), NOW, "batch_output"),
    "list of files of a purpose that none has": lambda c: list_files(
        c, _TENANT, Paging(), NOW, "user_data"
    ),
    "list of batches, first page": lambda c: list_batches(c, _TENANT, Paging()),
    "list of batches, deep page": lambda c: list_batches(
        c, _TENANT, Paging(after=batch_id(_FEWEST_BATCHES // 2))
    ),
    "a file": lambda c: find_file(c, _TENANT, _file_id(7), NOW),
    "a batch": lambda c: find_batch(c, batch_id(7), _TENANT),
    "jobs that are free, and the share": lambda c: free_jobs_and_share(c, "worker", 30.0),
    "shards that are left": lambda c: shards_left(c, batch_id(7)),
    "parts of a batch": lambda c: list_parts(c, batch_id(7)),
    "what a tenant has stored": lambda c: tenant_use(c, _TENANT),
    "batches of a tenant under way": lambda c: batches_under_way(c, _TENANT),
    "headers that are to be passed on": sealed_headers,
    "batches whose window is over": lambda c: expired_batches(c, NOW),
    "files that are left over": lambda c: leftovers(c, NOW),
    "files that were abandoned": lambda c: give_up_abandoned(c, NOW - 3600.0),
    "batches that are to be forgotten": partial(remove_ended_before, moment=NOW - 30 * _DAY),
    "the backlog": backlog,
}
"""What the API, workers and collectors ask all the time, by what it is about."""

_FEWEST_FILES: Final = 10_000
_FEWEST_BATCHES: Final = 100


def batch_id(number: int) -> str:
    """That of one of `fill`."""
    return f"batch_{number:012}"


def _file_id(number: int) -> str:
    return f"file_{number:012}"


async def fill(database: Database, records: Records) -> None:
    """Fill the tables of a PostgreSQL database in which there is nothing yet."""
    numbers = records._asdict() | {"now": int(NOW)}
    for start in range(0, records.files, _FILES_AT_ONCE):
        end = min(start + _FILES_AT_ONCE, records.files)
        await _execute(database, Template(_FILES).substitute(numbers, start=start, end=end))
    for statement in (_BATCHES, _JOBS, _PARTS, "ANALYZE"):
        await _execute(database, Template(statement).substitute(numbers))


async def open_all(database: Database) -> None:
    """Let a shard of every batch wait for a worker."""
    for statement in (*_OPEN_ALL.split(";"), "ANALYZE"):
        await _execute(database, statement)


async def _execute(database: Database, statement: str) -> None:
    await database.write(lambda connection: connection.exec_driver_sql(statement))
