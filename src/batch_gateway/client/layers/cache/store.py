"""Answers in an SQLite file: one thread, plain calls, errors of SQLite passed on.

SQLite in WAL mode: readers and a writer of several processes do not block each other, a process
that is killed loses nothing it committed, and a power failure loses recent answers but leaves the
file sound (https://www.sqlite.org/wal.html, `synchronous=NORMAL`).
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import msgspec

from batch_gateway.client.layers.cache.place import APPLICATION_ID, occupy, vacate

__all__ = ["AnswerStore", "StoredAnswer", "is_busy", "is_damage"]

_VERSION = 1
_BUSY_SECONDS = 0.2
_ROW_OVERHEAD = 160
_CANDIDATES = 500
# Many in one statement, since each gives up Python's lock and waits to get it back; but no more
# than 999 values, which is where older versions of SQLite end.
_KEYS_AT_ONCE = 256
_ROWS_AT_ONCE = 128
_WAL_BYTES = 16 * 2**20
_PAGE_CACHE_KIB = 8 * 1024

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    created REAL NOT NULL,
    used REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_use ON answers (used);
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (created);
"""
_INSERT = (
    "INSERT OR REPLACE INTO answers (key, content_type, body, checksum, created, used) VALUES "
)
_COLUMNS = "key, body, content_type, created, checksum"
_ROW = "(?, ?, ?, ?, ?, ?)"


class StoredAnswer(msgspec.Struct, frozen=True):
    """What is kept of a response whose status was 200. `created` is Unix time."""

    body: bytes
    content_type: str
    created: float


class AnswerStore:
    """One connection to the file, for the thread that made it.

    Raises sqlite3.Error from every method; see `is_damage` and `is_busy`.
    """

    def __init__(self, path: Path, max_bytes: int, max_age: float, now: float) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self.file = occupy(path)
        try:
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        except BaseException:
            vacate(self.file)
            raise
        try:
            self._prepare()
            self._drop_expired(now)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        # Less often than by default, so that a page that changes many times is copied once.
        run(f"PRAGMA wal_autocheckpoint = {_WAL_BYTES // 4096}")
        run(f"PRAGMA cache_size = -{_PAGE_CACHE_KIB}")
        if run("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            if run("PRAGMA user_version").fetchone()[0] == _VERSION:
                return
            run("DROP TABLE IF EXISTS answers")
        run("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            run(statement)
        run(f"PRAGMA application_id = {APPLICATION_ID}")
        run(f"PRAGMA user_version = {_VERSION}")
        run("COMMIT")

    def get(self, key: bytes, now: float) -> StoredAnswer | None:
        """The answer, unless there is none, it is too old, or its bytes have changed."""
        return self.find((key,), now).get(key)

    def find(self, keys: Sequence[bytes], now: float) -> dict[bytes, StoredAnswer]:
        """What `get` gives for each of the keys that have an answer."""
        found: dict[bytes, StoredAnswer] = {}
        for some, places in _in_lots(keys):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM answers WHERE key IN ({places})",  # noqa: S608 - "?,?"
                some,
            )
            for key, body, content_type, created, checksum in rows:
                if now - created <= self._max_age and zlib.crc32(body) == checksum:
                    found[key] = StoredAnswer(body, content_type, created)
        return found

    def write(
        self, answers: Mapping[bytes, StoredAnswer], used: Collection[bytes], now: float
    ) -> None:
        """Keep `answers`, note which keys were `used`, and make room; all or nothing."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            self._touch(used, now)
            kept = {
                key: answer
                for key, answer in answers.items()
                if _size(answer) <= self._max_bytes // 4
            }
            self._make_room(sum(map(_size, kept.values())), now)
            self._insert(kept, now)
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise

    def _touch(self, used: Collection[bytes], now: float) -> None:
        for keys, places in _in_lots(sorted(used)):
            self._connection.execute(
                f"UPDATE answers SET used = ? WHERE used < ? AND key IN ({places})",  # noqa: S608
                (now, now, *keys),
            )

    def _insert(self, answers: Mapping[bytes, StoredAnswer], now: float) -> None:
        # In the order of their keys, so that neighbours in the index are written together.
        rows = [
            (key, a.content_type, a.body, zlib.crc32(a.body), a.created, now)
            for key, a in sorted(answers.items(), key=itemgetter(0))
        ]
        size, start = _ROWS_AT_ONCE, 0
        while start < len(rows):
            # Halved for what is left, so that few statements are prepared.
            while size > len(rows) - start:
                size //= 2
            some = tuple(chain.from_iterable(rows[start : start + size]))
            self._connection.execute(_INSERT + ", ".join([_ROW] * size), some)
            start += size

    def _make_room(self, incoming: int, now: float) -> None:
        """Drop what is too old and then what was used longest ago, until `incoming` bytes fit."""
        if self._excess(incoming) > 0:
            self._drop_expired(now)
        while (excess := self._excess(incoming)) > 0:
            oldest = self._connection.execute(
                "SELECT id, length(body) FROM answers ORDER BY used, id LIMIT ?", (_CANDIDATES,)
            ).fetchall()
            if not oldest:
                return
            dropped: list[tuple[int]] = []
            for row, length in oldest:
                if excess <= 0:
                    break
                dropped.append((row,))
                excess -= length + _ROW_OVERHEAD
            self._connection.executemany("DELETE FROM answers WHERE id = ?", dropped)

    def _excess(self, incoming: int) -> int:
        read = self._connection.execute
        pages: int = read("PRAGMA page_count").fetchone()[0]
        free: int = read("PRAGMA freelist_count").fetchone()[0]
        size: int = read("PRAGMA page_size").fetchone()[0]
        return (pages - free) * size + incoming - self._max_bytes

    def _drop_expired(self, now: float) -> None:
        self._connection.execute("DELETE FROM answers WHERE created < ?", (now - self._max_age,))

    def close(self) -> None:
        self._connection.close()
        vacate(self.file)


def _in_lots(keys: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], str]]:
    """The keys, some at a time, with as many question marks.

    Lots come in few sizes, so that few statements are prepared; to fill one a key is repeated.
    """
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        size = 1 << (len(some) - 1).bit_length()
        yield (*some, *[some[-1]] * (size - len(some))), ",".join("?" * size)


def _size(answer: StoredAnswer) -> int:
    # With what a page loses at its end, roughly.
    return len(answer.body) + _ROW_OVERHEAD


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process is writing just now."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.Error) -> int:
    # The low byte is the kind, the rest details.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
