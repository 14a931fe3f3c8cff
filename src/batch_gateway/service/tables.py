"""The tables of the service, for SQLite and PostgreSQL alike.

Times are seconds since the Unix epoch. Ids of files and batches sort in the order of their making,
which pages of lists follow. `migrations` holds the way to here from every earlier form.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

__all__ = [
    "api_keys",
    "batches",
    "courses",
    "files",
    "jobs",
    "metadata",
    "model_lines",
    "parts",
    "workers",
]

metadata: Final = MetaData()


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


files: Final = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    # What users are told: uploaded or processed.
    Column("status", Text, nullable=False),
    # Whether the bytes are in the store: see FileState.
    Column("state", Text, nullable=False),
    Index("files_of_tenant", "tenant", "state", "id"),
    Index("files_to_expire", "expires_at"),
)

batches: Final = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("input_file_id", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    # When the window is over: what urgency is counted from.
    Column("due_at", Float, nullable=False),
    # JSON, as the API shows it.
    Column("metadata", Text),
    Column("errors", Text),
    # The one model of its lines, or NULL when there are several.
    Column("model", Text),
    # Why it does not go on just now, for people to read.
    Column("notice", Text),
    # Headers to pass on to the gateway, encrypted.
    Column("headers", LargeBinary),
    # How long its result files are kept, from their making.
    Column("output_seconds", BigInteger),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("in_progress_at", BigInteger),
    Column("finalizing_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("failed_at", BigInteger),
    Column("cancelling_at", BigInteger),
    Column("cancelled_at", BigInteger),
    Column("expired_at", BigInteger),
    _count("total"),
    _count("completed"),
    _count("failed"),
    _count("input_tokens"),
    _count("cached_tokens"),
    _count("output_tokens"),
    _count("reasoning_tokens"),
    Index("batches_of_tenant", "tenant", "id"),
    Index("batches_by_status", "status", "due_at"),
    Index("batches_by_input", "input_file_id"),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("batch_id", Text, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    # Of a shard: a byte range of whole lines, and the number and index of its first line.
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("first_line", BigInteger, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    # The fence: who takes the job makes it one more, and writes only while it is theirs.
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("owner", Text),
    # By the clock of the database.
    Column("beat", Float, nullable=False, server_default=text("0")),
    Index("jobs_by_state", "state", "beat"),
)

parts: Final = Table(
    "parts",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    # That of the shard when the part was registered, be it written in an earlier one.
    Column("epoch", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    # CRC-32 of its bytes; NULL of parts that an earlier version registered.
    Column("checksum", BigInteger),
    # JSON: its lines by model, where the batch has several.
    Column("models", Text),
    # What the tokens of its lines added to those of the batch.
    _count("input_tokens"),
    _count("cached_tokens"),
    _count("output_tokens"),
    _count("reasoning_tokens"),
)

model_lines: Final = Table(
    "model_lines",
    metadata,
    Column("batch_id", Text, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # Of a batch of several models.
    Column("model", Text, primary_key=True),
    Column("total", BigInteger, nullable=False),
    _count("finished"),
)

courses: Final = Table(
    "courses",
    metadata,
    Column("batch_id", Text, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # The process that saw it.
    Column("owner", Text, primary_key=True),
    Column("course", LargeBinary, nullable=False),
)

workers: Final = Table(
    "workers",
    metadata,
    # What its jobs call it.
    Column("owner", Text, primary_key=True),
    # By the clock of the database.
    Column("beat", Float, nullable=False),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    # What a person calls it.
    Column("label", Text, nullable=False),
    # SHA-256 of the key, which is random and long enough to need nothing slower.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)
