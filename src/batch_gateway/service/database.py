"""The records of the service: transactions on SQLite or PostgreSQL that make no event loop wait.

An action is a plain function of a connection. It either happens as a whole or raises, may be run
by any number of processes at once, and is run again where the database asks for that.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Dialect, Float, Text, cast, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from batch_gateway.errors import RecordsFullError, RecordsUnavailableError
from batch_gateway.storage.outage_log import OutageLog

__all__ = ["WORK_CHANNEL", "Database", "announce_work", "database_now", "in_turn"]

WORK_CHANNEL: Final = "batch_gateway_work"
"""On which processes that share a database tell each other of work."""

_Result = TypeVar("_Result")

_log = logging.getLogger("batch_gateway.records")


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


def in_turn(connection: Connection, name: str) -> None:
    """Let no other transaction that names the same go on before this one has ended: for what no
    lock of a row can hold, such as how many rows there are."""
    # SQLite has one writer at a time anyway.
    if connection.dialect.name == "postgresql":
        key = func.hashtextextended(cast(name, Text), 0)
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def announce_work(connection: Connection) -> None:
    """Who listens is told, once this transaction is committed, that there is something to do."""
    # Whoever is alone with its records knows what it writes there.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(WORK_CHANNEL, "")))


class Database(ABC):
    """The records; `open_database` makes or updates their tables. Close it with `aclose`.

    Attributes:
        trouble: why it takes no writes just now, such as for want of room; else None.
    """

    def __init__(self, dialect: Dialect, name: str) -> None:
        self.trouble: str | None = None
        self._outage = OutageLog(name, _log)
        self._dialect = dialect
        self._texts: dict[ClauseElement, str] = {}

    async def write(self, action: Callable[[Connection], _Result]) -> _Result:
        """`action` in a transaction. Raises RecordsError, and what the action raises; in both cases
        nothing has changed.

        Where several write at once, a statement sees what others have committed before it began:
        who decides by what was read takes the lock of a row first.
        """
        try:
            result = await self._told(self._write(action))
        except (RecordsUnavailableError, RecordsFullError) as error:
            self.trouble = str(error)
            raise
        self.trouble = None
        return result

    async def read(self, action: Callable[[Connection], _Result]) -> _Result:
        """`action`, which sees one state of all tables and changes none. Raises RecordsError."""
        return await self._told(self._read(action))

    async def poll(self, statement: ClauseElement, *values: str | bytes) -> tuple[Any, ...] | None:
        """The one row of a look-up by key, without a transaction around it: the cost of a status.

        `values` are those of the statement's parameters, in their order. Raises RecordsError.
        """
        text = self._texts.get(statement)
        if text is None:
            text = self._texts[statement] = str(statement.compile(dialect=self._dialect))
        return await self._told(self._poll(text, values))

    async def listen(self, heard: Callable[[], None]) -> None:  # noqa: B027 - of one process nobody else tells
        """Call `heard` when another process has announced work, until cancelled.

        Nobody may rely on it: what is announced while there is no connection is not heard.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Return when all transactions have ended."""

    async def _told(self, asking: Awaitable[_Result]) -> _Result:
        try:
            result = await asking
        except RecordsUnavailableError as error:
            self._outage.met(str(error))
            raise
        self._outage.over()
        return result

    @abstractmethod
    async def _read(self, action: Callable[[Connection], _Result]) -> _Result: ...

    @abstractmethod
    async def _write(self, action: Callable[[Connection], _Result]) -> _Result: ...

    @abstractmethod
    async def _poll(self, text: str, values: tuple[str | bytes, ...]) -> tuple[Any, ...] | None: ...
