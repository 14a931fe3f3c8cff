"""Whose request it is: by a header that a proxy in front of the API sets, or by an API key."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.api_keys import tenant_of_key
from batch_gateway.service.database import Database
from batch_gateway.service.session_records import tenant_of_session

__all__ = ["SESSION", "tenant_of"]

SESSION: Final = "batch_gateway.session"
"""Where the scope of a request has the secret of its session, if it comes from the page."""

_DEFAULT = "default"
_LONGEST = 256


async def tenant_of(request: Request, config: ServerConfig, database: Database) -> str:
    """The tenant. Raises ApiError: 401 without a valid key, 400 for a name that is none."""
    if config.api_keys:
        return await _by_key(request, database)
    values = request.headers.getlist(config.tenant_header)
    # Each proxy adds its own at the end, so that the last is the one of the nearest.
    tenant = values[-1].strip() if values else ""
    if len(tenant) > _LONGEST:
        raise ApiError(400, f"{config.tenant_header} exceeds {_LONGEST} characters")
    return tenant or _DEFAULT


async def _by_key(request: Request, database: Database) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    tenant: str | None = None
    if session := request.scope.get(SESSION):
        tenant = await tenant_of_session(database, session)
    elif scheme.lower() == "bearer":
        tenant = await tenant_of_key(database, key.strip())
    if tenant is None:
        raise ApiError(
            401,
            "a valid API key is needed: send it as 'Authorization: Bearer KEY'",
            {"www-authenticate": "Bearer"},
        )
    return tenant
