"""The database of the service: transactions in threads, so that the event loop waits for none.

An action is a plain function of a connection. It either happens as a whole or raises, and may be
run by any number of processes at once.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Float, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from batch_gateway.errors import RecordsError, RecordsFullError
from batch_gateway.service.migrate import bring_up_to_date

__all__ = ["Database", "database_now"]

_Result = TypeVar("_Result")

_READERS = 4
_BUSY_SECONDS = 30.0
_READING = "reading"


class database_now(FunctionElement[float]):  # noqa: N801 - it is called as SQL's functions are
    """The time of the database's clock, in seconds since the epoch: who else may decide what is
    stale, where processes are many?"""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _now_of_sqlite(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    # Its `unixepoch('subsec')` is NULL before 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _now_of_postgresql(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


class Database:
    """An SQLite file, made or brought up to date when it is opened. Close it with `aclose`.

    Attributes:
        trouble: why it takes no writes just now, such as for want of room; else None.
    """

    def __init__(self, path: Path) -> None:
        self.trouble: str | None = None
        self._engine = _engine(path)
        self._polls = _bare_connection(path)
        # SQLite has one writer at a time anyway; here nobody waits by trying again and again.
        self._writer = ThreadPoolExecutor(1, "records-write")
        self._readers = ThreadPoolExecutor(_READERS, "records-read")

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Database:
        """Raises RecordsError when the file cannot be made, is none of ours, or is newer."""
        return await asyncio.to_thread(cls._open, Path(path))

    @classmethod
    def _open(cls, path: Path) -> Database:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            engine = _engine(path)
            try:
                bring_up_to_date(engine, path)
            finally:
                engine.dispose()
            return cls(path)
        except OSError as error:
            raise RecordsError(f"{path}: {error.strerror}") from error
        except (DBAPIError, sqlite3.Error) as error:
            raise _records_error(error, path) from error

    async def write(self, action: Callable[[Connection], _Result]) -> _Result:
        """`action` in a transaction that nobody else writes beside. Raises RecordsError, and what
        the action raises; in both cases nothing has changed."""
        try:
            result = await self._run(self._writer, partial(self._transact, self._engine, action))
        except RecordsError as error:
            if isinstance(error.__cause__, OperationalError):
                self.trouble = str(error)
            raise
        self.trouble = None
        return result

    async def read(self, action: Callable[[Connection], _Result]) -> _Result:
        """`action`, which sees one state of all tables and changes none. Raises RecordsError."""
        reading = self._engine.execution_options(**{_READING: True})
        return await self._run(self._readers, partial(self._transact, reading, action))

    def poll(self, statement: str, *values: str | int | bytes) -> tuple[Any, ...] | None:
        """The one row of a look-up by key, at once: 0.02 ms, where a thread costs 0.2.

        For what is asked for thousands of times a second. Raises RecordsError.
        """
        try:
            return self._polls.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise _records_error(error) from error

    async def aclose(self) -> None:
        """Return when all transactions have ended."""
        await asyncio.to_thread(self._shut_down)
        self._polls.close()

    def _shut_down(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

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
    return RecordsError(f"{name}: {cause}")
