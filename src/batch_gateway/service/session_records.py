"""Who signed in on the page: known to every process, and to nobody who reads the records.

A session is a random secret that its browser keeps, and here its digest and the API key that opened
it: a key that is revoked, or a session that is ended, opens nothing from then on.
"""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, literal, select

from batch_gateway.service.api_keys import digest_of
from batch_gateway.service.database import Database, database_now
from batch_gateway.service.tables import api_keys, sessions

__all__ = [
    "SESSION_SECONDS",
    "begin_session",
    "end_session",
    "forget_old_sessions",
    "tenant_of_session",
]

SESSION_SECONDS: Final = 12 * 3600

_LOOK_UP: Final = (
    select(api_keys.c.tenant)
    .join_from(sessions, api_keys, api_keys.c.id == sessions.c.key_id)
    .where(sessions.c.digest == bindparam("digest"))
    .where(sessions.c.expires_at > database_now(), api_keys.c.revoked_at.is_(None))
)


def begin_session(connection: Connection, key: str) -> str:
    """The secret of a new session of whoever has that API key, if it opens anything."""
    secret = secrets.token_urlsafe(32)
    its_key = select(
        literal(digest_of(secret)), api_keys.c.id, database_now() + SESSION_SECONDS
    ).where(api_keys.c.digest == digest_of(key))
    connection.execute(insert(sessions).from_select(["digest", "key_id", "expires_at"], its_key))
    return secret


def end_session(connection: Connection, secret: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.digest == digest_of(secret)))


def forget_old_sessions(connection: Connection) -> None:
    """Those that are over are of no more use."""
    connection.execute(delete(sessions).where(sessions.c.expires_at <= database_now()))


async def tenant_of_session(database: Database, secret: str) -> str | None:
    """Whose session it is, or None."""
    found = await database.poll(_LOOK_UP, digest_of(secret))
    return found[0] if found else None
