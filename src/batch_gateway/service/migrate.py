"""Bringing the tables up to date, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from batch_gateway.errors import RecordsError
from batch_gateway.service.database import in_turn

__all__ = ["NEWEST", "bring_up_to_date", "bring_up_to_date_together"]

NEWEST: Final = "0008"
"""The form of the tables that this version of the package makes.

A form of four digits is the one before and more. A step that does anything but add begins forms
with names of another kind, which are those of the steps after it, too.
"""

_ADDED_TO = re.compile(r"[0-9]{4}")

_MIGRATIONS = Path(__file__).parent / "migrations"


def bring_up_to_date(engine: Engine, path: Path) -> None:
    """Make or change the tables of the SQLite file at `path`.

    Others wait meanwhile, and then find nothing to do. A process that is killed leaves the tables
    as they were. What a newer version has only added to is left as it is. Raises RecordsError when
    the tables are not ours, or newer and no longer those that this version knows.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whose things they are is for nobody else of the machine to read; SQLite gives the files
        # beside it the same rights.
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with engine.begin() as connection:
            _upgrade(connection, path)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            # By one process alone: it may fail as locked without waiting.
            connection.execute("PRAGMA journal_mode = WAL")
    finally:
        os.close(lock)


def bring_up_to_date_together(connection: Connection, name: str) -> None:
    """The same of a PostgreSQL database called `name`."""
    if _is_known(_version(connection, name)):
        return
    # Others wait for as long as it takes, and it takes as long as the tables are large.
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(text(f"SET LOCAL {limit} = 0"))
    in_turn(connection, "batch_gateway tables")
    _upgrade(connection, name)


def _upgrade(connection: Connection, name: str | Path) -> None:
    found = _version(connection, name)
    if _is_known(found):
        return
    # A fifth of a second, which only a change of the tables is worth.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", os.fspath(_MIGRATIONS).replace("%", "%%"))
    steps = ScriptDirectory.from_config(config).walk_revisions()
    if found is not None and found not in {step.revision for step in steps}:
        raise RecordsError(
            f"{name} was written by a newer version of batch-gateway, which changed what was there"
            f" (its tables are '{found}', this version knows up to '{NEWEST}'): upgrade, or name"
            " another one"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, NEWEST)


def _is_known(found: str | None) -> bool:
    """Whether everything is there that this version knows, and means what it knows of it."""
    return found is not None and bool(_ADDED_TO.fullmatch(found)) and found >= NEWEST


def _version(connection: Connection, name: str | Path) -> str | None:
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise RecordsError(f"{name} is a database of something else: name another one")
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
