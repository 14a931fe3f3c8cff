"""Opening the records, wherever they are."""

from __future__ import annotations

import os

from batch_gateway.service.database import Database
from batch_gateway.service.postgres_url import shown_url

__all__ = ["is_postgres", "open_database", "shown_place"]


def is_postgres(place: str | os.PathLike[str]) -> bool:
    """Whether a database is named by the URL of a PostgreSQL server, and not by a path."""
    return isinstance(place, str) and place.startswith(("postgresql:", "postgres:"))


def shown_place(place: str | os.PathLike[str]) -> str:
    """What may be shown of it. Raises ConfigError for a URL that is none."""
    return shown_url(str(place)) if is_postgres(place) else os.fspath(place)


async def open_database(place: str | os.PathLike[str]) -> Database:
    """`place` is the path of an SQLite file, or the URL of a PostgreSQL database.

    Raises RecordsError when it cannot be made or reached, is none of ours, or is newer; and
    ConfigError for a URL that is none, and where the driver of PostgreSQL is not installed.
    """
    # Only the one that is asked for is loaded.
    if is_postgres(place):
        from batch_gateway.service.postgres_database import open_postgres  # noqa: PLC0415

        return await open_postgres(str(place))
    from batch_gateway.service.sqlite_database import open_sqlite  # noqa: PLC0415

    return await open_sqlite(place)
