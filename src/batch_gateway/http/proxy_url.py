"""An HTTP proxy as its URL names it: where it is, and what it is told to let us through."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from batch_gateway.errors import ConfigError

__all__ = ["Proxy"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "http://proxy:3128"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One HTTP proxy.

    Attributes:
        url: as it was given; it may hold a password.
        host: a name or an IP address without brackets; also what its certificate must name.
        port: a TCP port.
        tls: whether it is spoken to over TLS (`https://`).
        authorization: the value of `Proxy-Authorization` (Basic, RFC 7617), or empty.
        place: where it was given, for messages, e.g. "proxy, --proxy" or "HTTPS_PROXY".
    """

    url: str = field(repr=False)
    host: str
    port: int
    tls: bool
    authorization: str = field(repr=False)
    place: str

    @classmethod
    def parse(cls, url: str, place: str = "") -> Proxy:
        """Without a `place` it is the setting's own.

        Raises ConfigError for what is no URL of an HTTP proxy; it never shows the URL, which may
        hold a password.
        """
        parts, port = _split(url)
        wrong = f"{place} is not the URL of an HTTP proxy" if place else "must be 'env' or a URL"
        if parts is not None and parts.scheme.startswith("socks"):
            raise ConfigError(
                "proxy",
                f"{wrong} such as {_EXAMPLE}: SOCKS proxies are not spoken to; give an HTTP one,"
                " perhaps one that goes on through SOCKS",
            )
        if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not port:
            hint = "; write @ : / # in a password as %40 %3A %2F %23" if "@" in url else ""
            raise ConfigError("proxy", f"{wrong} such as {_EXAMPLE}{hint}")
        return cls(
            url=url,
            host=parts.hostname,
            port=port,
            tls=parts.scheme == "https",
            authorization=_basic(parts.netloc.rpartition("@")[0]),
            place=place or "proxy, --proxy",
        )

    @property
    def address(self) -> str:
        """For messages, without credentials: "corp:3128"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def credentials_cure(self, schemes: Collection[str] = ()) -> str:
        """What to do when it answers 407 and offers these schemes of authentication."""
        if schemes and "basic" not in schemes:
            return (
                f"it asks for {' or '.join(schemes)} authentication, and only Basic is spoken"
                " here; a local proxy that speaks it can be put in between"
            )
        if self.authorization:
            return "it does not accept the user name and password in its URL"
        scheme = "https" if self.tls else "http"
        return f"it wants a user name and a password: {scheme}://user:password@{self.address}"

    @property
    def way_around(self) -> str:
        """How to connect without it, said to whoever gave it."""
        return "name the gateway in NO_PROXY" if "_" in self.place else "leave the proxy out"


def _split(url: str) -> tuple[SplitResult | None, int | None]:
    """The URL and its port; None for what is none, or has no port that can be."""
    try:
        url.encode(errors="surrogateescape")
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # half a character, a port that is no number, brackets that do not close
        return None, None
    if not all("!" <= sign <= "~" for sign in parts.hostname or ""):
        return None, None
    # Behind the host, an @ is the end of credentials whose own / ? or # was not escaped.
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return None, None
    return parts, _DEFAULT_PORTS.get(parts.scheme) if port is None else port


def _basic(user_info: str) -> str:
    if not user_info:
        return ""
    # An environment variable may hold bytes that are not UTF-8.
    user, _, password = user_info.encode(errors="surrogateescape").partition(b":")
    plain = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return "Basic " + base64.b64encode(plain).decode("ascii")
