"""Frozen value objects that say how to reach a gateway; checked when they are made.

Nothing here reads the environment or a file except `api_key_env` and `api_key_file`, which are
read once, by `resolve_api_key`, when a client is built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from batch_gateway.client.layers.cache.policy import CacheConfig
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.coalesce.policy import CoalescePolicy
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.scheduling import SchedulingHints
from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_count,
    require_kinds,
    require_number,
    require_positive,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.http.base_url import DEFAULT_BASE_URL, checked_base_url
from batch_gateway.http.header_rules import check_headers
from batch_gateway.http.proxy_url import Proxy
from batch_gateway.http.redaction import is_credential
from batch_gateway.http.tls import TLSConfig
from batch_gateway.picker.config import EndpointPickerConfig
from batch_gateway.wire.sse import MAX_EVENT_BYTES

__all__ = [
    "DEFAULT_BASE_URL",
    "HTTPInferenceClientConfig",
    "RetryPolicy",
    "TLSConfig",
    "read_api_key_file",
    "resolve_api_key",
    "with_resolved_api_key",
]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a failed request is sent again.

    Attributes:
        max_retries: sendings after the first.
        initial_backoff: ceiling of the first random wait after a 5xx or a connection error.
        rate_limit_backoff: the same after a 429, where the gateway asked for room, and where an
            endpoint picker named a pod that cannot be reached.
        max_backoff: no computed wait is longer; it doubles up to here.
        max_retry_after: a longer Retry-After is cut to this.
        budget_ratio: retries allowed per first sending, over the whole client.
        budget_per_second: retries a second allowed on top, so that a quiet client may retry.
    """

    max_retries: int = 3
    initial_backoff: Duration = 0.5
    rate_limit_backoff: Duration = 2.0
    max_backoff: Duration = 60.0
    max_retry_after: Duration = 300.0
    budget_ratio: float = 0.5
    budget_per_second: float = 10.0

    def __post_init__(self) -> None:
        require_count("retry.max_retries", self.max_retries, minimum=0)
        for name in ("initial_backoff", "rate_limit_backoff", "max_backoff", "max_retry_after"):
            normalise_duration(self, name, prefix="retry.")
        for name in ("budget_ratio", "budget_per_second"):
            require_number(f"retry.{name}", getattr(self, name))


@dataclass(frozen=True)
class HTTPInferenceClientConfig:
    """Everything about one gateway. Durations are seconds or Go-style strings.

    Equal configurations share one connection pool where several are given for several models.

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
        transport: there is one transport, which is called "native" or "auto" where a configuration
            names it. Not kept; "aiohttp", which there once was beside it, is refused.
        max_response_bytes: a longer body is an error.
        stream_upstream: ask the gateway to stream its answers to `generate` and put them
            together here. `timeout` is then that of the first byte.
        stream_idle_timeout: how long a streamed answer may stand still once it has begun.
        max_event_bytes: a larger event of a stream is an error, and so is one that is larger
            than `max_response_bytes`.
        cache: where exact answers are kept; None keeps none.
        coalesce: how single prompts and inputs are sent together; None sends each alone.
        retry: the policy, or None to send everything once.
        circuit_breaker: when to stop sending to a gateway that fails; None never does.
        rate_limit: requests and tokens a minute; None for no limit.
        concurrency: how many attempts may be under way: a fixed number, or one that is found by
            measuring; None leaves it to the caller.
        scheduling: what llm-d and GAIE are told about each request; None for nothing.
        endpoint_picker: for `grpc://` and `grpcs://`; None for the defaults.
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
    transport: InitVar[str] = "native"
    max_response_bytes: int = 64 * 1024 * 1024
    stream_upstream: bool = False
    stream_idle_timeout: Duration = 60.0
    max_event_bytes: int = MAX_EVENT_BYTES
    cache: CacheConfig | None = None
    coalesce: CoalescePolicy | None = None
    retry: RetryPolicy | None = field(default_factory=RetryPolicy)
    circuit_breaker: CircuitBreakerPolicy | None = None
    rate_limit: RateLimit | None = None
    concurrency: AdaptiveConcurrency | FixedConcurrency | None = None
    scheduling: SchedulingHints | None = None
    endpoint_picker: EndpointPickerConfig | None = None

    def __post_init__(self, transport: str) -> None:
        _check_transport(transport)
        require_kinds(self, but=("base_url", "headers"))
        object.__setattr__(self, "base_url", checked_base_url(self.base_url))
        for name in ("timeout", "connect_timeout", "idle_timeout", "stream_idle_timeout"):
            normalise_duration(self, name)
        require_positive("stream_idle_timeout", seconds(self.stream_idle_timeout))
        require_positive("timeout", seconds(self.timeout))
        require_positive("connect_timeout", seconds(self.connect_timeout))
        require_count("max_idle_connections", self.max_idle_connections, minimum=0)
        require_count("max_response_bytes", self.max_response_bytes, minimum=1)
        require_count("max_event_bytes", self.max_event_bytes, minimum=1)
        if self.max_connections is not None:
            require_count("max_connections", self.max_connections, minimum=1)
        # A tuple of pairs, so that configurations can be compared and hashed for pooling.
        object.__setattr__(self, "headers", check_headers("headers", self.headers))
        self._check_api_key()
        self._check_route()

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
            _require_sendable_key("api_key", self.api_key)
        if self.api_key_header is not None:
            check_headers("api_key_header", {self.api_key_header: ""})
            if not is_credential(self.api_key_header):
                raise ConfigError(
                    "api_key_header",
                    f"{self.api_key_header!r} does not say that it holds a key, so the key would"
                    " not be taken out of messages",
                )

    def _check_route(self) -> None:
        if self.uses_endpoint_picker:
            self._check_picker_route()
        if self.proxy is None:
            return
        if self.unix_socket is not None:
            raise ConfigError("proxy", "a Unix socket is reached directly; drop one of the two")
        if self.proxy != "env":
            Proxy.parse(self.proxy)

    def _check_picker_route(self) -> None:
        if self.proxy is not None:
            raise ConfigError("proxy", "an endpoint picker and its pods are reached directly")
        if self.unix_socket is not None:
            raise ConfigError("unix_socket", "an endpoint picker is reached by its address alone")

    def with_base_url(self, base_url: str) -> HTTPInferenceClientConfig:
        """The same settings for another gateway."""
        return replace(self, base_url=base_url)

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.base_url)

    @property
    def uses_endpoint_picker(self) -> bool:
        return self.url.scheme in ("grpc", "grpcs")

    def header_pairs(self) -> tuple[tuple[str, str], ...]:
        """`headers` in the form they were normalised to."""
        return check_headers("headers", self.headers)


def _check_transport(name: str) -> None:
    if name == "aiohttp":
        raise ConfigError(
            "transport",
            "there is no aiohttp any more, nor an extra of that name: leave this setting out. The"
            " one transport goes through proxies and reads odd answers as well",
        )
    if name not in ("auto", "native"):
        raise ConfigError("transport", f"{name!r} is none; there is one, so leave this setting out")


def resolve_api_key(config: HTTPInferenceClientConfig) -> str | None:
    """The API key from whichever source the configuration names, or None.

    Raises ConfigError when the file or variable is missing or empty. Never shows the key.
    """
    if config.api_key_file is not None:
        return read_api_key_file(config.api_key_file)
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env, "").strip()
        if not key:
            raise ConfigError("api_key_env", f"the variable {config.api_key_env} is not set")
        return _require_sendable_key("api_key_env", key)
    return config.api_key or None


def with_resolved_api_key(config: HTTPInferenceClientConfig) -> HTTPInferenceClientConfig:
    """The configuration with the key itself in place of its source.

    A source may be a pipe, which gives the key once. A file is kept as `renew_key_from`. Raises as
    `resolve_api_key` does.
    """
    if config.api_key_file is None and config.api_key_env is None:
        return config
    key, path = resolve_api_key(config), config.api_key_file
    renewable = path if path is not None and Path(path).is_file() else None
    return replace(
        config, api_key=key, api_key_file=None, api_key_env=None, renew_key_from=renewable
    )


def read_api_key_file(path: PathLike) -> str:
    """The key in the first line of a file. Raises ConfigError, which never shows it."""
    return _require_sendable_key("api_key_file", _key_from_file(path))


def _key_from_file(path: PathLike) -> str:
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError("api_key_file", f"{os.fspath(path)}: {reason}") from error
    if not text:
        raise ConfigError("api_key_file", f"{os.fspath(path)} is empty")
    return text.splitlines()[0].strip()


def _require_sendable_key(field_name: str, key: str) -> str:
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(
            field_name, "the key has a space, a line break or a character that is not ASCII"
        )
    return key
