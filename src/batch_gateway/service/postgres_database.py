"""Records in a PostgreSQL database that any number of processes share."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from batch_gateway.errors import RecordsError, RecordsFullError, RecordsUnavailableError
from batch_gateway.service.database import WORK_CHANNEL, Database
from batch_gateway.service.migrate import bring_up_to_date_together
from batch_gateway.service.postgres_connections import (
    APPLICATION,
    STATEMENT_SECONDS,
    Connections,
    asyncpg,
)
from batch_gateway.service.postgres_listening import listen
from batch_gateway.service.postgres_url import shown_url

__all__ = ["PostgresDatabase", "open_postgres"]

_log = logging.getLogger("batch_gateway.records")

_Result = TypeVar("_Result")

# With one that listens, ten.
_POOLED, _AT_MOST = 4, 7
_POLLING = 2
_TRANSACTION_SECONDS = STATEMENT_SECONDS + 5.0
_POLL_SECONDS = 5.0
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
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Of a connection that ended in the middle of something.
    asyncpg.InternalClientError,
    OSError,
)
_SERIALIZATION, _DEADLOCK, _DISK_FULL, _LOCK_TIMEOUT = "40001", "40P01", "53100", "55P03"
_TOO_MANY_CONNECTIONS, _STARTING_UP, _READ_ONLY = "53300", "57P03", "25006"
# By whoever runs the server.
_ENDED = frozenset({_READ_ONLY, "57P01", "57P02"})
_CURES: Final = {
    _TOO_MANY_CONNECTIONS: " (each process takes up to ten: see max_connections of the server)",
    "42501": " (the user has to read and write all tables; another may make them, by"
    " `batch-gateway migrate`)",
}
# One trouble, which the server tells of with the words of each statement that meets it.
_WORDS: Final = {_READ_ONLY: "it takes no writes now, only read-only transactions"}
# Where others have to be done first.
_WAITED_FOR = frozenset({_SERIALIZATION, _DEADLOCK, _TOO_MANY_CONNECTIONS})
# What is there, and takes nobody in for a moment yet.
_NOT_YET = frozenset({_TOO_MANY_CONNECTIONS, _STARTING_UP})
_MOST_TRIES = 5
_START_SECONDS = 60.0
# What an action does wrong, and not the database.
_OF_THE_ACTION = (DataError, IntegrityError, ProgrammingError)


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
        self._name = shown_url(url)
        super().__init__(asyncpg_dialect(), self._name)
        self._connections = Connections(url)
        self._idle: list[Any] = []
        self._engine = self._new_engine()
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._may_poll = asyncio.Semaphore(_POLLING)

    def _new_engine(self) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            creator=lambda: self._connections.open_for(engine.dialect),
            pool_size=_POOLED,
            max_overflow=_AT_MOST - _POOLED,
        )
        event.listen(engine.sync_engine, "begin", self._connections.limit)
        event.listen(engine.sync_engine, "handle_error", self._leave)
        return engine

    def _leave(self, context: ExceptionContext) -> None:
        """Called of each error: where one connection is lost, or is to a server that has become
        another's copy, none of the others is tried before a new one."""
        if _state(context.original_exception) == _READ_ONLY:
            context.is_disconnect = True
        context.invalidate_pool_on_disconnect = True
        if context.is_disconnect:
            self._forget_idle()

    async def bring_up_to_date(self) -> None:
        """Make or change the tables; others that begin at once wait. Raises RecordsError.

        A server that is there, and takes nobody in yet, is waited for.
        """
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                await self._bring_up_to_date()
            except _FAILURES as error:
                told = self._records_error(error)
                if _state(error) not in _NOT_YET or time.monotonic() >= until:
                    raise told from error
                self._outage.met(str(told))
            else:
                self._outage.over()
                return
            await asyncio.sleep(random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    async def _bring_up_to_date(self) -> None:
        if not self._idle:
            self._idle.append(await self._connections.first())
        async with self._engine.begin() as connection:
            await connection.run_sync(bring_up_to_date_together, self._name)

    async def listen(self, heard: Callable[[], None]) -> None:
        await listen(self._connections, WORK_CHANNEL, heard)

    async def aclose(self) -> None:
        self._forget_idle()
        await self._engine.dispose()

    def _forget_idle(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    async def _read(self, action: Callable[[Connection], _Result]) -> _Result:
        return await self._transact(self._reading, action)

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
                await asyncio.sleep(_pause(error, tried))
        raise AssertionError

    async def _end_standing(self) -> bool:
        """End the sessions of ours that stand still in a transaction; whether there were any."""
        try:
            async with self._polling() as connection:
                ended = await connection.fetchval(
                    _END_STANDING, APPLICATION, float(STATEMENT_SECONDS)
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
                self._forget_idle()
                if not _is_worth_another_try(error, tried):
                    raise self._records_error(error) from error
                await asyncio.sleep(_pause(error, tried))
        raise AssertionError

    @asynccontextmanager
    async def _polling(self) -> AsyncGenerator[Any]:
        """A bare connection: a transaction and SQLAlchemy would cost five times as much."""
        async with asyncio.timeout(_POLL_SECONDS), self._may_poll:
            connection = self._idle.pop() if self._idle else await self._connections.open()
            try:
                yield connection
            except BaseException:
                # Whoever waits for it to be ended properly may wait for ever.
                connection.terminate()
                raise
            self._idle.append(connection)

    def _records_error(self, error: Exception) -> RecordsError:
        name, state = self._name, _state(error)
        if isinstance(error, TimeoutError):
            return RecordsUnavailableError(f"{name} does not answer")
        if isinstance(error, OSError):
            return RecordsUnavailableError(f"{name} cannot be reached: {_words_of(error)}")
        if state == _DISK_FULL:
            return RecordsFullError(f"{name}: no room left on the disk")
        cause = _cause(error)
        # Neither the statement nor its values, which details have.
        told = _WORDS.get(state) or getattr(cause, "message", None) or str(cause).partition("\n")[0]
        kind = RecordsError if isinstance(error, _OF_THE_ACTION) else RecordsUnavailableError
        return kind(f"{name}: {told}{_CURES.get(state, '')}")


def _pause(error: Exception, tried: int) -> float:
    """Before the next try, in seconds: those that got into each other's way do not meet again."""
    longest = (0.1 if _state(error) == _TOO_MANY_CONNECTIONS else 0.01) * 2.0**tried
    return random.uniform(0, longest)  # noqa: S311 - no secret


def _is_worth_another_try(error: Exception, tried: int, *, is_committing: bool = False) -> bool:
    """Whether the transaction has surely not happened, and may succeed when it is begun anew."""
    state = _state(error)
    if state in _WAITED_FOR:
        return tried < _MOST_TRIES
    # A connection of the pool that the server, or something between, has closed long ago, or that
    # is to a server which is another's copy now.
    is_stale = (
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        or state in _ENDED
        or isinstance(
            error,
            asyncpg.InterfaceError | asyncpg.InternalClientError | asyncpg.PostgresConnectionError,
        )
    )
    return is_stale and tried == 1 and not is_committing


def _words_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason})"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket, or no file that sslrootcert, sslcert or sslkey names"
    # asyncio's own are for programmers.
    known = error.errno is not None and 0 < error.errno < 200
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error."""
    while isinstance(error, DBAPIError) or not isinstance(
        error, asyncpg.PostgresError | asyncpg.InterfaceError
    ):
        inner = error.orig if isinstance(error, DBAPIError) else error.__cause__
        if inner is None:
            break
        error = inner
    return error


def _state(error: BaseException) -> str:
    """PostgreSQL's five letters for what is wrong (its appendix A); empty of what is not its."""
    return getattr(_cause(error), "sqlstate", None) or ""
