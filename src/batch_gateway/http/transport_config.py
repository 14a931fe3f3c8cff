"""What the transport has to know of a gateway: where it is, how it is reached, within what limits.

Nothing here reads the environment or a file except `api_key_env` and `api_key_file`, which are
read by `resolved_api_key`, once, when a client is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_count,
    require_kinds,
    require_positive,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.http.api_key import (
    read_api_key_file,
    read_api_key_variable,
    require_sendable_key,
)
from batch_gateway.http.base_url import DEFAULT_BASE_URL, checked_base_url
from batch_gateway.http.header_rules import check_headers
from batch_gateway.http.proxy_url import Proxy
from batch_gateway.http.redaction import is_credential
from batch_gateway.http.tls import TLSConfig

__all__ = ["TransportConfig"]


@dataclass(frozen=True)
class TransportConfig:
    """How a gateway is reached. Durations are seconds or Go-style strings.

    Attributes:
        base_url: `http://` or `https://`, with or without the `/v1` that SDKs want, or with
            whatever a gateway has in its place, or with a prefix (`batch_gateway.http.base_url`
            has the rule); or `grpc://` or `grpcs://` for a GAIE endpoint picker, which is asked
            for each request where to send it. Kept in one spelling. No credentials in it: use
            `api_key`.
        timeout: the longest one attempt may take, from waiting for a connection to the last
            byte. A request's `deadline` covers all its attempts.
        connect_timeout: the longest that name look-up, TCP and TLS may take together.
        max_idle_connections: how many unused connections are kept.
        idle_timeout: how long an unused connection is kept.
        max_connections: how many connections there may be; None leaves it to the concurrency.
        api_key: sent as `Authorization: Bearer`. Or its source: `api_key_file` (the first line
            of a file), `api_key_env` (the name of an environment variable); at most one.
        renew_key_from: the file that `api_key` came from. It is read again when the gateway says
            401; set from `api_key_file` by itself.
        api_key_header: send the key as this header alone, without `Bearer`: Azure wants `api-key`.
        headers: sent with every request.
        tls: for `https://` and `grpcs://`.
        unix_socket: connect to this path; `base_url` gives only the Host header and prefix.
        proxy: an HTTP proxy by its URL (`http://` or `https://`, perhaps with a user and a
            password), or "env" for HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
        max_response_bytes: a longer body is an error.
    """

    base_url: str = DEFAULT_BASE_URL
    _: KW_ONLY
    timeout: Duration = 300.0
    connect_timeout: Duration = 10.0
    max_idle_connections: int = 100
    idle_timeout: Duration = 90.0
    max_connections: int | None = None
    api_key: str | None = field(default=None, repr=False)
    api_key_file: PathLike | None = None
    api_key_env: str | None = None
    renew_key_from: PathLike | None = field(default=None, repr=False)
    api_key_header: str | None = None
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default=(), repr=False)
    tls: TLSConfig = field(default_factory=TLSConfig)
    unix_socket: PathLike | None = None
    proxy: str | None = field(default=None, repr=False)
    max_response_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        require_kinds(self, but=("base_url", "headers"))
        object.__setattr__(self, "base_url", checked_base_url(self.base_url))
        for name in ("timeout", "connect_timeout", "idle_timeout"):
            normalise_duration(self, name)
        require_positive("timeout", seconds(self.timeout))
        require_positive("connect_timeout", seconds(self.connect_timeout))
        require_count("max_idle_connections", self.max_idle_connections, minimum=0)
        require_count("max_response_bytes", self.max_response_bytes, minimum=1)
        if self.max_connections is not None:
            require_count("max_connections", self.max_connections, minimum=1)
        # A tuple of pairs, so that configurations can be compared and hashed for pooling.
        object.__setattr__(self, "headers", check_headers("headers", self.headers))
        self._check_api_key()
        self._check_proxy()

    def _check_api_key(self) -> None:
        sources = {
            "api_key": self.api_key,
            "api_key_file": self.api_key_file,
            "api_key_env": self.api_key_env,
        }
        given = [name for name, value in sources.items() if value is not None]
        if len(given) > 1:
            raise ConfigError(given[1], f"{given[0]} is set too; keep one of them")
        if self.api_key is not None:
            require_sendable_key("api_key", self.api_key)
        if self.api_key_header is not None:
            check_headers("api_key_header", {self.api_key_header: ""})
            if not is_credential(self.api_key_header):
                raise ConfigError(
                    "api_key_header",
                    f"{self.api_key_header!r} does not say that it holds a key, so the key would"
                    " not be taken out of messages",
                )

    def _check_proxy(self) -> None:
        if self.proxy is None:
            return
        if self.unix_socket is not None:
            raise ConfigError("proxy", "a Unix socket is reached directly; drop one of the two")
        if self.proxy != "env":
            Proxy.parse(self.proxy)

    def with_base_url(self, base_url: str) -> Self:
        """The same settings for another gateway."""
        return replace(self, base_url=base_url)

    @property
    def url(self) -> SplitResult:
        """`base_url`, apart into its parts."""
        return urlsplit(self.base_url)

    def header_pairs(self) -> tuple[tuple[str, str], ...]:
        """`headers` in the form they were normalised to."""
        return check_headers("headers", self.headers)

    def resolved_api_key(self) -> str | None:
        """The API key from whichever source is named, or None.

        Raises ConfigError when the file or variable is missing or empty. Never shows the key.
        """
        if self.api_key_file is not None:
            return read_api_key_file(self.api_key_file)
        if self.api_key_env is not None:
            return read_api_key_variable(self.api_key_env)
        return self.api_key or None

    def with_resolved_api_key(self) -> Self:
        """The same settings with the key itself in place of its source.

        A source may be a pipe, which gives the key once. A file is kept as `renew_key_from`.
        Raises as `resolved_api_key` does.
        """
        if self.api_key_file is None and self.api_key_env is None:
            return self
        key, path = self.resolved_api_key(), self.api_key_file
        renewable = path if path is not None and Path(path).is_file() else None
        return replace(
            self, api_key=key, api_key_file=None, api_key_env=None, renew_key_from=renewable
        )
