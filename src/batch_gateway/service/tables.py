"""The tables of the service, for SQLite and PostgreSQL alike.

Times are seconds since the Unix epoch. Ids of files and batches sort in the order of their making,
which pages of lists follow. `migrations` holds the way to here from every earlier form.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

__all__ = [
    "api_keys",
    "batches",
    "courses",
    "files",
    "fleets",
    "jobs",
    "metadata",
    "model_lines",
    "parts",
    "sessions",
    "workers",
]

metadata: Final = MetaData()


class Words(TypeDecorator[str]):
    """Text that people and models write. PostgreSQL takes no zero bytes, and UTF-8 no half
    characters: what has them is kept without."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


files: Final = Table(
    "files",
    metadata,
    Column("id", Words, primary_key=True),
    Column("tenant", Words, nullable=False),
    Column("filename", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    # What users are told: uploaded or processed.
    Column("status", Words, nullable=False),
    # Whether the bytes are in the store: see FileState.
    Column("state", Words, nullable=False),
    Index("files_of_tenant", "tenant", "state", "id"),
    Index("files_to_expire", "expires_at"),
    # Hardly any: those that a collector looks for.
    Index("files_not_stored", "state", "created_at", postgresql_where=text("state <> 'stored'")),
)

batches: Final = Table(
    "batches",
    metadata,
    Column("id", Words, primary_key=True),
    Column("tenant", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("endpoint", Words, nullable=False),
    Column("input_file_id", Words, nullable=False),
    Column("completion_window", Words, nullable=False),
    # When the window is over: what urgency is counted from.
    Column("due_at", Float, nullable=False),
    # JSON, as the API shows it.
    Column("metadata", Words),
    Column("errors", Words),
    # The one model of its lines, or NULL when there are several.
    Column("model", Words),
    # Why it does not go on just now, for people to read.
    Column("notice", Words),
    # Headers to pass on to the gateway, encrypted.
    Column("headers", LargeBinary),
    # How long its result files are kept, from their making.
    Column("output_seconds", BigInteger),
    Column("output_file_id", Words),
    Column("error_file_id", Words),
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
    Index("batches_by_age", "created_at"),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("batch_id", Words, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Words, primary_key=True),
    Column("number", Integer, primary_key=True),
    # Of a shard: a byte range of whole lines, and the number and index of its first line.
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("first_line", BigInteger, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("state", Words, nullable=False),
    # The fence: who takes the job makes it one more, and writes only while it is theirs.
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("owner", Words),
    # By the clock of the database.
    Column("beat", Float, nullable=False, server_default=text("0")),
    Index("jobs_by_state", "state", "beat"),
)

parts: Final = Table(
    "parts",
    metadata,
    Column("batch_id", Words, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("name", Words, primary_key=True),
    # That of the shard when the part was registered, be it written in an earlier one.
    Column("epoch", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    # CRC-32 of its bytes; NULL of parts that an earlier version registered.
    Column("checksum", BigInteger),
    # JSON: its lines by model, where the batch has several.
    Column("models", Words),
    # What the tokens of its lines added to those of the batch.
    _count("input_tokens"),
    _count("cached_tokens"),
    _count("output_tokens"),
    _count("reasoning_tokens"),
)

model_lines: Final = Table(
    "model_lines",
    metadata,
    Column("batch_id", Words, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # Of a batch of several models.
    Column("model", Words, primary_key=True),
    Column("total", BigInteger, nullable=False),
    _count("finished"),
)

courses: Final = Table(
    "courses",
    metadata,
    Column("batch_id", Words, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # The process that saw it.
    Column("owner", Words, primary_key=True),
    Column("course", LargeBinary, nullable=False),
)

workers: Final = Table(
    "workers",
    metadata,
    # What its jobs call it.
    Column("owner", Words, primary_key=True),
    # By the clock of the database.
    Column("beat", Float, nullable=False),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Words, primary_key=True),
    Column("tenant", Words, nullable=False),
    # What a person calls it.
    Column("label", Words, nullable=False),
    # SHA-256 of the key, which is random and long enough to need nothing slower.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

sessions: Final = Table(
    "sessions",
    metadata,
    # SHA-256 of the secret that a browser has.
    Column("digest", LargeBinary, primary_key=True),
    Column("key_id", Words, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
    # By the clock of the database.
    Column("expires_at", Float, nullable=False),
    Index("sessions_to_expire", "expires_at"),
)

fleets: Final = Table(
    "fleets",
    metadata,
    # There is one: all processes that share the database.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", Words, nullable=False),
    # What its store says of itself, and what people call it; NULL before the first start.
    Column("store", Words),
    Column("place", Words),
)
