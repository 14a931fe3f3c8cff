"""What other web sites may not do through the browser of somebody who reaches the service.

Without API keys whoever can connect is let in, and any page on the web can make a browser on the
same machine connect: by a form or `fetch` to 127.0.0.1 (cross-site request forgery), or under a
name of its own that it has made mean 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.server_config import ServerConfig

__all__ = ["NoOtherSites", "is_loopback", "require_own_page"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{0,5}))?")
# Nobody on the web can own a name below these (RFC 6761, RFC 6762, ICANN's reservation, Fedora's).
_PRIVATE_NAMES: Final = (".localhost", ".local", ".internal", ".localdomain")


class NoOtherSites:
    """An ASGI application around another, which it keeps other web sites away from.

    Programs are not browsers, and what they send is let through: only browsers say from which page
    a request comes, and no page can make them say something else. With API keys on there is nothing
    to do: a browser adds nobody's key by itself.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._has_keys = config.api_keys
        self._is_local = config.tls_certificate is None and is_loopback(config.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._has_keys:
            headers = Headers(scope=scope)
            if self._is_local and _is_rebound(headers, scope["server"][1]):
                raise ApiError(
                    403,
                    f"{headers['host']} is no name of this machine: ask 127.0.0.1 or localhost",
                )
            if scope["method"] not in _SAFE and _site(headers) == "other":
                raise ApiError(403, "other web sites may not ask for this")
        await self._app(scope, receive, send)


def require_own_page(scope: Scope) -> None:
    """Only the page itself may change anything: what is not known to come from it is refused.

    Raises ApiError (403).
    """
    if _site(Headers(scope=scope)) != "own":
        raise ApiError(403, "this can only be asked for from the page itself")


def _site(headers: Headers) -> str:
    """Of which site the page is that asks: `own`, `other`, or `none` when no page does.

    Browsers say it in Sec-Fetch-Site to https and to this machine, and in Origin to others.
    """
    told = headers.get("sec-fetch-site")
    if told is not None:
        return {"same-origin": "own", "none": "none"}.get(told, "other")
    origin = headers.get("origin")
    if origin is None:
        return "none"
    # A proxy in front may ask under another name; no page can give this header to other sites.
    names = (headers.get("host"), headers.get("x-forwarded-host"))
    return "own" if origin.partition("://")[2] in names else "other"


def _is_rebound(headers: Headers, port: int) -> bool:
    """Whether a server of this machine alone is asked under a name that somebody on the web owns.

    The browser of a rebound page asks at our port, where a proxy in front cannot listen, and to
    what is neither https nor local it sends no Sec-Fetch-Site.
    """
    found = _HOST.fullmatch(headers.get("host", ""))
    if found is None or "sec-fetch-site" in headers or int(found[2] or 80) != port:
        return False
    name = found[1].strip("[]").rstrip(".").lower()
    _, dot, last_label = name.rpartition(".")
    # One that ends with digits is an address.
    return bool(dot) and not last_label.isdigit() and not name.endswith(_PRIVATE_NAMES)


def is_loopback(host: str) -> bool:
    """Whether who listens there is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
