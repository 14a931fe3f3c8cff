"""Opening connections to PostgreSQL, be it directly or through a pooler such as PgBouncer.

A pooler may give each transaction another session of the server, in which nothing of the last one
holds: neither settings nor prepared statements. It is known by not taking, or not heeding, what is
asked for when a connection is opened; settings are then those of each transaction, and no statement
is prepared under a name.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from sqlalchemy import Connection

from batch_gateway.errors import ConfigError
from batch_gateway.extras import command_for

__all__ = ["APPLICATION", "STATEMENT_SECONDS", "Connections", "asyncpg"]

_missing = [name for name in ("asyncpg", "greenlet") if find_spec(name) is None]
if _missing:
    raise ConfigError(
        "database",
        f"PostgreSQL needs {' and '.join(_missing)}: install it with `{command_for('postgres')}`",
    )

# It has no types of its own.
asyncpg: Any = import_module("asyncpg")

_CONNECT_SECONDS = 5.0
# The server ends what takes longer; where it cannot be heard any more, so do we, a bit later.
STATEMENT_SECONDS: Final = 10
APPLICATION: Final = "batch-gateway"
_NAME: Final = {"application_name": APPLICATION}
_LIMITS: Final = {
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": f"{STATEMENT_SECONDS - 5}s",
    # A process that stands still in the middle of a transaction holds up nobody for longer.
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
    # It pays for queries of seconds.
    "jit": "off",
}
_KEEPING: Final = {
    "tcp_user_timeout": f"{2 * STATEMENT_SECONDS}s",
    # So that no firewall takes a connection for forgotten.
    "tcp_keepalives_idle": "30",
}
_LIMIT_TRANSACTION: Final = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in _LIMITS.items()
)
# Of what a pooler does not take, and of statements that another session has.
_OF_POOLERS: Final = frozenset({"08P01", "42P05", "26000"})


class Connections:
    """Opens connections to the database at `url`.

    Attributes:
        is_pooled: a pooler is in between, which `first` finds out.
    """

    def __init__(self, url: str) -> None:
        self.is_pooled = False
        self._url = url

    async def first(self) -> Any:
        """A connection, and whether there is a pooler. Raises what asyncpg does."""
        try:
            connection = await self.open()
            if await connection.fetchval("SHOW statement_timeout") == _LIMITS["statement_timeout"]:
                return connection
            connection.terminate()
        except asyncpg.PostgresError as error:
            if error.sqlstate not in _OF_POOLERS:
                raise
        self.is_pooled = True
        return await self.open()

    async def open(self) -> Any:
        """A bare connection. Raises what asyncpg does."""
        if self.is_pooled:
            return await asyncpg.connect(
                self._url, timeout=_CONNECT_SECONDS, server_settings=_NAME, statement_cache_size=0
            )
        settings = _NAME | _LIMITS | _KEEPING
        return await asyncpg.connect(self._url, timeout=_CONNECT_SECONDS, server_settings=settings)

    def open_for(self, dialect: Any) -> Any:
        """One for the pool of SQLAlchemy."""
        nameless: dict[str, Any] = {
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
        }
        return dialect.dbapi.connect(
            async_creator_fn=self.open, **(nameless if self.is_pooled else {})
        )

    def limit(self, connection: Connection) -> None:
        """Called when a transaction begins: its limits, where the session has none."""
        if self.is_pooled:
            connection.exec_driver_sql(_LIMIT_TRANSACTION)
