"""Records in an SQLite file: transactions in threads, one writer at a time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from batch_gateway.errors import RecordsError, RecordsFullError, RecordsUnavailableError
from batch_gateway.service.database import Database
from batch_gateway.service.migrate import bring_up_to_date

__all__ = ["SqliteDatabase", "open_sqlite"]

_Result = TypeVar("_Result")

_READERS = 4
_BUSY_SECONDS = 30.0
_READING = "reading"
# What an action does wrong, and not the database.
_OF_THE_ACTION = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.ProgrammingError)


async def open_sqlite(path: str | os.PathLike[str]) -> SqliteDatabase:
    """Raises RecordsError when the file cannot be made, is none of ours, or is newer."""
    return await asyncio.to_thread(_open, Path(path))


def _open(path: Path) -> SqliteDatabase:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = _engine(path)
        try:
            bring_up_to_date(engine, path)
        finally:
            engine.dispose()
        return SqliteDatabase(path)
    except OSError as error:
        raise RecordsError(f"{path}: {error.strerror}") from error
    except (DBAPIError, sqlite3.Error) as error:
        raise _records_error(error, path) from error


class SqliteDatabase(Database):
    """A file that is up to date."""

    def __init__(self, path: Path) -> None:
        super().__init__(sqlite.dialect(paramstyle="qmark"), os.fspath(path))
        self._engine = _engine(path)
        self._polls = _bare_connection(path)
        # SQLite has one writer at a time anyway; here nobody waits by trying again and again.
        self._writer = ThreadPoolExecutor(1, "records-write")
        self._readers = ThreadPoolExecutor(_READERS, "records-read")

    async def _read(self, action: Callable[[Connection], _Result]) -> _Result:
        reading = self._engine.execution_options(**{_READING: True})
        return await self._run(self._readers, partial(self._transact, reading, action))

    async def aclose(self) -> None:
        await asyncio.to_thread(self._shut_down)
        self._polls.close()

    def _shut_down(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

    async def _write(self, action: Callable[[Connection], _Result]) -> _Result:
        return await self._run(self._writer, partial(self._transact, self._engine, action))

    async def _poll(self, text: str, values: tuple[str | bytes, ...]) -> tuple[Any, ...] | None:
        # At once: 0.02 ms, where a thread costs 0.2.
        try:
            return self._polls.execute(text, values).fetchone()
        except sqlite3.Error as error:
            raise _records_error(error) from error

    @staticmethod
    def _transact(engine: Engine, action: Callable[[Connection], _Result]) -> _Result:
        with engine.begin() as connection:
            return action(connection)

    async def _run(self, threads: ThreadPoolExecutor, job: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, job)
        except DBAPIError as error:
            raise _records_error(error) from error


def _engine(path: Path) -> Engine:
    url = URL.create("sqlite", database=os.fspath(path))
    engine = create_engine(
        url,
        pool_size=_READERS + 1,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sqlite3.Connection, record: object) -> None:
    # The driver would begin by itself, and without `IMMEDIATE` a transaction that writes after it
    # has read fails as locked, whatever the timeout.
    connection.isolation_level = None
    # What was answered outlives a loss of power.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _bare_connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=0.1, isolation_level=None, check_same_thread=False, cached_statements=32
    )


def _records_error(error: Exception, path: Path | None = None) -> RecordsError:
    # Not SQLAlchemy's text, which has the statement and its values in it.
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = path or "the database"
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return RecordsFullError(f"{name}: no room left on the disk")
    kind = RecordsError if isinstance(cause, _OF_THE_ACTION) else RecordsUnavailableError
    return kind(f"{name}: {cause}")
