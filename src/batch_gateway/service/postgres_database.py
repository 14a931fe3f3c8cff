"""Records in a PostgreSQL database that any number of processes share."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from batch_gateway.errors import ConfigError, RecordsError, RecordsFullError
from batch_gateway.extras import command_for
from batch_gateway.service.database import Database
from batch_gateway.service.migrate import bring_up_to_date_together
from batch_gateway.service.postgres_url import shown_url

__all__ = ["PostgresDatabase", "open_postgres"]

_missing = [name for name in ("asyncpg", "greenlet") if find_spec(name) is None]
if _missing:
    raise ConfigError(
        "database",
        f"PostgreSQL needs {' and '.join(_missing)}: install it with `{command_for('postgres')}`",
    )

_log = logging.getLogger("batch_gateway.processor")

_Result = TypeVar("_Result")
# It has no types of its own.
_asyncpg: Any = import_module("asyncpg")

_POOLED, _AT_MOST = 4, 8
_POLLING = 2
_CONNECT_SECONDS = 5.0
# The server ends what takes longer; where it cannot be heard any more, so do we, a bit later.
_STATEMENT_SECONDS = 10
_TRANSACTION_SECONDS = _STATEMENT_SECONDS + 5.0
_POLL_SECONDS = 5.0
_APPLICATION: Final = "batch-gateway"
_SETTINGS: Final = {
    "application_name": _APPLICATION,
    "statement_timeout": f"{_STATEMENT_SECONDS}s",
    "lock_timeout": f"{_STATEMENT_SECONDS - 5}s",
    # A process that stands still in the middle of a transaction holds up nobody for longer.
    "idle_in_transaction_session_timeout": f"{_STATEMENT_SECONDS}s",
    "tcp_user_timeout": f"{2 * _STATEMENT_SECONDS}s",
    "tcp_keepalives_idle": "30",
    # It pays for queries of seconds.
    "jit": "off",
}
# The server's own limit for an idle transaction leaves out a session whose client is gone between
# the messages of one statement: it would keep its locks for as long as its connection seems whole.
_END_STANDING: Final = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = $1 AND usename = current_user AND datname = current_database()
AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
AND state_change < now() - make_interval(secs => $2)
"""
_FAILURES: Final[tuple[type[Exception], ...]] = (
    SQLAlchemyError,
    _asyncpg.PostgresError,
    _asyncpg.InterfaceError,
    # Of a connection that ended in the middle of something.
    _asyncpg.InternalClientError,
    OSError,
)
_SERIALIZATION, _DEADLOCK, _DISK_FULL, _LOCK_TIMEOUT = "40001", "40P01", "53100", "55P03"
_MOST_TRIES = 5


async def open_postgres(url: str) -> PostgresDatabase:
    """Raises ConfigError for a URL that is none, and RecordsError when its database cannot be
    reached or used, is none of ours, or is newer."""
    database = PostgresDatabase(url)
    try:
        await database.bring_up_to_date()
    except BaseException:
        await database.aclose()
        raise
    return database


class PostgresDatabase(Database):
    """A database that need not be up to date yet."""

    def __init__(self, url: str) -> None:
        super().__init__(asyncpg_dialect())
        self._url, self._name = url, shown_url(url)
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=_POOLED,
            max_overflow=_AT_MOST - _POOLED,
        )
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._idle: list[Any] = []
        self._may_poll = asyncio.Semaphore(_POLLING)

    async def bring_up_to_date(self) -> None:
        """Make or change the tables; others that begin at once wait. Raises RecordsError."""
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(bring_up_to_date_together, self._name)
        except _FAILURES as error:
            raise self._records_error(error) from error

    async def read(self, action: Callable[[Connection], _Result]) -> _Result:
        return await self._transact(self._reading, action)

    async def aclose(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()
        await self._engine.dispose()

    async def _write(self, action: Callable[[Connection], _Result]) -> _Result:
        return await self._transact(self._engine, action)

    async def _transact(
        self, engine: AsyncEngine, action: Callable[[Connection], _Result]
    ) -> _Result:
        for tried in count(1):
            results: list[_Result] = []
            try:
                async with asyncio.timeout(_TRANSACTION_SECONDS), engine.begin() as connection:
                    results.append(await connection.run_sync(action))
                return results[0]
            except _FAILURES as error:
                if not (
                    _is_worth_another_try(error, tried, is_committing=bool(results))
                    or (_state(error) == _LOCK_TIMEOUT and await self._end_standing())
                ):
                    raise self._records_error(error) from error
            await asyncio.sleep(random.uniform(0, 0.01 * 2**tried))  # noqa: S311 - no secret
        raise AssertionError

    async def _end_standing(self) -> bool:
        """End the sessions of ours that stand still in a transaction; whether there were any."""
        try:
            async with self._polling() as connection:
                ended = await connection.fetchval(
                    _END_STANDING, _APPLICATION, float(_STATEMENT_SECONDS)
                )
        except _FAILURES:
            return False
        if ended:
            _log.warning("%s: sessions that stood still with locks: %d, ended", self._name, ended)
        return ended > 0

    async def _poll(self, text: str, values: tuple[str | bytes, ...]) -> tuple[Any, ...] | None:
        for tried in count(1):
            try:
                async with self._polling() as connection:
                    row = await connection.fetchrow(text, *values)
                return None if row is None else tuple(row)
            except _FAILURES as error:
                if not _is_worth_another_try(error, tried):
                    raise self._records_error(error) from error
        raise AssertionError

    @asynccontextmanager
    async def _polling(self) -> AsyncGenerator[Any]:
        """A bare connection: a transaction and SQLAlchemy would cost five times as much."""
        async with asyncio.timeout(_POLL_SECONDS), self._may_poll:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                yield connection
            except BaseException:
                # Whoever waits for it to be ended properly may wait for ever.
                connection.terminate()
                raise
            self._idle.append(connection)

    async def _connect(self) -> Any:
        return await _asyncpg.connect(
            self._url, timeout=_CONNECT_SECONDS, server_settings=_SETTINGS
        )

    def _records_error(self, error: Exception) -> RecordsError:
        name = self._name
        if isinstance(error, TimeoutError):
            return RecordsError(f"{name} does not answer")
        if isinstance(error, OSError):
            return RecordsError(f"{name} cannot be reached: {_words_of(error)}")
        cause = _cause(error)
        # Neither the statement nor its values, which details have.
        told = getattr(cause, "message", None) or str(cause).partition("\n")[0]
        if _state(error) == _DISK_FULL:
            return RecordsFullError(f"{name}: no room left on the disk")
        return RecordsError(f"{name}: {told}")


def _is_worth_another_try(error: Exception, tried: int, *, is_committing: bool = False) -> bool:
    """Whether the transaction has surely not happened, and may succeed when it is begun anew."""
    if _state(error) in {_SERIALIZATION, _DEADLOCK}:
        return tried < _MOST_TRIES
    # A connection of the pool that the server, or something between, has closed long ago.
    is_stale = (isinstance(error, DBAPIError) and error.connection_invalidated) or isinstance(
        error,
        _asyncpg.InterfaceError | _asyncpg.InternalClientError | _asyncpg.PostgresConnectionError,
    )
    return is_stale and tried == 1 and not is_committing


def _words_of(error: OSError) -> str:
    # asyncio's own are for programmers.
    known = error.errno is not None and 0 < error.errno < 200
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error."""
    while isinstance(error, DBAPIError) or not isinstance(
        error, _asyncpg.PostgresError | _asyncpg.InterfaceError
    ):
        inner = error.orig if isinstance(error, DBAPIError) else error.__cause__
        if inner is None:
            break
        error = inner
    return error


def _state(error: BaseException) -> str:
    """PostgreSQL's five letters for what is wrong (its appendix A); empty of what is not its."""
    return getattr(_cause(error), "sqlstate", None) or ""
