"""Who looks at the page: an API key that was typed in once, and a cookie from then on.

The cookie is good at every process of a fleet, and what it says is looked up with each request: see
`session_records`.
"""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import Scope

from batch_gateway.server.tenants import SESSION
from batch_gateway.service.database import Database
from batch_gateway.service.session_records import SESSION_SECONDS, begin_session, end_session

__all__ = ["key_of_form", "sign_in", "sign_out", "signed_in"]

_COOKIE: Final = "batch_gateway_session"


async def sign_in(database: Database, key: str, scope: Scope) -> str:
    """A cookie for somebody who has proven to have `key`. Raises RecordsError."""
    secret = await database.write(partial(begin_session, key=key))
    return _cookie(secret, SESSION_SECONDS, scope)


async def sign_out(database: Database, scope: Scope) -> str:
    """A cookie that takes the place of the other, which opens nothing any more. Raises
    RecordsError."""
    if secret := scope.get(SESSION):
        await database.write(partial(end_session, secret=secret))
    return _cookie("", 0, scope)


def signed_in(scope: Scope) -> Scope:
    """`scope` as of a request in the session of its cookie, if it has one and brings no key by
    itself."""
    request = Request(scope)
    secret = request.cookies.get(_COOKIE)
    if not secret or "authorization" in request.headers:
        return scope
    return {**scope, SESSION: secret}


def _cookie(value: str, seconds: int, scope: Scope) -> str:
    secure = "; Secure" if scope["scheme"] == "https" else ""
    return f"{_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def key_of_form(body: bytes) -> str:
    """What was typed in, which may be no key at all."""
    try:
        typed = parse_qs(body.decode("ascii"), max_num_fields=4, errors="strict").get("key", [""])
    except ValueError:
        return ""
    key = typed[0].strip()
    return key if key.isascii() and key.isprintable() else ""
