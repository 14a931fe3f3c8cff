"""Who looks at the page: an API key that was typed in once, kept in a cookie that only this process
can read.

The cookie holds the key encrypted with a secret that ends with the process, and each request looks
the key up again: a key that is revoked opens nothing from then on, and nothing is kept here.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import Request
from starlette.types import Scope

__all__ = ["Sessions", "key_of_form"]

_COOKIE: Final = "batch_gateway_session"
_SECONDS: Final = 12 * 3600
_AUTHORIZATION = b"authorization"


class Sessions:
    """Those who signed in."""

    def __init__(self) -> None:
        self._fernet = Fernet(Fernet.generate_key())

    def begin(self, key: str, scope: Scope) -> str:
        """A cookie for somebody who has proven to have `key`."""
        return _cookie(self._fernet.encrypt(key.encode()).decode(), _SECONDS, scope)

    def end(self, scope: Scope) -> str:
        """A cookie that takes the place of the other."""
        return _cookie("", 0, scope)

    def signed_in(self, scope: Scope) -> Scope:
        """`scope` as of a request that brings the key of its cookie, if it has one and brings
        no key by itself."""
        request = Request(scope)
        key = self._key(request.cookies.get(_COOKIE, ""))
        if key is None or "authorization" in request.headers:
            return scope
        return {**scope, "headers": [*scope["headers"], (_AUTHORIZATION, b"Bearer " + key)]}

    def _key(self, cookie: str) -> bytes | None:
        try:
            return self._fernet.decrypt(cookie.encode("latin-1"), ttl=_SECONDS)
        except InvalidToken:
            return None


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
