"""The URL of a PostgreSQL database, as libpq writes it, and what may be shown of it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from batch_gateway.errors import ConfigError

__all__ = ["shown_url", "with_password"]

_WANTED = "must be such as postgresql://USER@HOST:5432/DATABASE"
_ENCODED = "has characters in its password that must be percent-encoded, such as %2F for /"


def shown_url(url: str) -> str:
    """The URL without password and parameters. Raises ConfigError for one that is none, which
    does not show it either."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"} or "://" not in url:
        raise ConfigError("database", _WANTED)
    if "@" in parts.path + parts.query + parts.fragment:
        raise ConfigError("database", _ENCODED)
    user, at, hosts = parts.netloc.rpartition("@")
    for host in hosts.split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isdecimal() and int(port) < 65536):
            raise ConfigError("database", _ENCODED if ":" in user + port else _WANTED)
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + hosts, parts.path, "", ""))


def with_password(url: str, password: str) -> str:
    """The URL with a password that was given apart. Raises ConfigError when it has one already."""
    shown_url(url)
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if not at or ":" in user:
        raise ConfigError("database", "must have a user, and no password beside that of the file")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{hosts}"))
