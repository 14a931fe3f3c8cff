"""Whose request it is: by a header that a proxy in front of the API sets, or by an API key."""

from __future__ import annotations

from starlette.requests import Request

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.api_keys import tenant_of_key
from batch_gateway.service.database import Database

__all__ = ["tenant_of"]

_DEFAULT = "default"
_LONGEST = 256


async def tenant_of(request: Request, config: ServerConfig, database: Database) -> str:
    """The tenant. Raises ApiError: 401 without a valid key, 400 for a name that is none."""
    if config.api_keys:
        return await _by_key(request.headers.get("authorization", ""), database)
    values = request.headers.getlist(config.tenant_header)
    # Each proxy adds its own at the end, so that the last is the one of the nearest.
    tenant = values[-1].strip() if values else ""
    if len(tenant) > _LONGEST:
        raise ApiError(400, f"{config.tenant_header} exceeds {_LONGEST} characters")
    return tenant or _DEFAULT


async def _by_key(authorization: str, database: Database) -> str:
    scheme, _, key = authorization.partition(" ")
    is_bearer = scheme.lower() == "bearer"
    tenant = await tenant_of_key(database, key.strip()) if is_bearer else None
    if tenant is None:
        raise ApiError(
            401,
            "a valid API key is needed: send it as 'Authorization: Bearer KEY'",
            {"www-authenticate": "Bearer"},
        )
    return tenant
