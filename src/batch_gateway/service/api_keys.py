"""API keys of tenants: made once, shown once, and kept as a digest."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from batch_gateway.service.database import Database
from batch_gateway.service.tables import api_keys

__all__ = [
    "ApiKey",
    "create_api_key",
    "digest_of",
    "list_api_keys",
    "revoke_api_key",
    "tenant_of_key",
]

# 256 random bits: there is nothing to guess, so that a fast digest is as good as a slow one.
_KEY_BYTES = 32
_LOOK_UP: Final = select(api_keys.c.tenant, api_keys.c.digest).where(
    api_keys.c.digest == bindparam("digest"), api_keys.c.revoked_at.is_(None)
)


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key. Times are seconds since the epoch; a revoked one opens nothing."""

    id: str
    tenant: str
    label: str
    created_at: int
    revoked_at: int | None = None


_COLUMNS: Final = tuple(api_keys.c[name] for name in ApiKey.__struct_fields__)


def create_api_key(
    connection: Connection, tenant: str, label: str, now: float
) -> tuple[ApiKey, str]:
    """A new key and its secret, which nobody can show again."""
    secret = f"bgw_{secrets.token_urlsafe(_KEY_BYTES)}"
    key = ApiKey(id=f"key_{secrets.token_hex(6)}", tenant=tenant, label=label, created_at=int(now))
    values = msgspec.structs.asdict(key) | {"digest": digest_of(secret)}
    connection.execute(api_keys.insert().values(values))
    return key, secret


def list_api_keys(connection: Connection) -> Sequence[ApiKey]:
    """All keys, revoked ones too: by tenant and age."""
    chosen = select(*_COLUMNS).order_by(api_keys.c.tenant, api_keys.c.created_at, api_keys.c.id)
    return [ApiKey(**row) for row in connection.execute(chosen).mappings()]


def revoke_api_key(connection: Connection, key_id: str, now: float) -> bool:
    """From now on the key opens nothing; False when no key that did has that id."""
    live = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    return connection.execute(live.values(revoked_at=int(now))).rowcount == 1


async def tenant_of_key(database: Database, secret: str) -> str | None:
    """Whose key it is, or None."""
    digest = digest_of(secret)
    found = await database.poll(_LOOK_UP, digest)
    # The index compares digests and not keys, whose bytes its time tells nothing about.
    return found[0] if found and hmac.compare_digest(found[1], digest) else None


def digest_of(secret: str) -> bytes:
    """What is kept of a random secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
