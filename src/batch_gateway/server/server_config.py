"""What the API offers, to whom, and within which limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from batch_gateway.byte_size import ByteSize, byte_count, parse_byte_size
from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_count,
    require_kinds,
    require_port,
    require_positive,
    require_readable_file,
)
from batch_gateway.durations import Duration
from batch_gateway.errors import ConfigError, InvalidRequestError
from batch_gateway.http.header_rules import check_headers
from batch_gateway.wire.endpoint import check_endpoint
from batch_gateway.wire.lines import BATCH_ENDPOINTS

__all__ = ["Role", "ServerConfig"]

_HEADER_KEY_HINT = (
    "is needed to keep the headers that are passed on encrypted: make one with "
    "`openssl rand -base64 32 | tr +/ -_`, and name its file or put it into the environment"
)
# Beside those of framing, which no configuration may set (RFC 9110 §7.6.1 and §8).
_OF_ONE_REQUEST = frozenset(
    {
        *("keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"),
        *("accept", "accept-encoding", "content-encoding", "content-type", "content-range"),
    }
)


class Role(StrEnum):
    """What a process does of all that a service does."""

    ALL = "all"
    """The API and the processor."""
    API = "api"
    """The API and the page: it asks no gateway."""
    WORKER = "worker"
    """The processor, with health and figures on the observability port."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Everything about the API. Durations are seconds or Go-style strings.

    Attributes:
        host, port: where the API listens; port 0 takes any.
        observability_port: where `/health`, `/ready` and `/metrics` are, on the same host.
        tls_certificate, tls_key: PEM files that make it https; both or neither.
        tenant_header: the header that names the tenant; without it the tenant is `default`.
        api_keys: tenants prove themselves by an API key, and the header counts for nothing.
        pass_through_headers: headers of the one who makes a batch, sent with its requests.
        header_keys: what they are encrypted with at rest: Fernet keys, the first for new ones.
        allow_paths: endpoints that a batch may ask for beside those of OpenAI's Batch API.
        max_completion_window: the longest window a batch may ask for.
        max_file_bytes, max_file_lines: of one upload; the lines are those of `batch` files.
        file_lifetime: how long an upload is kept when it does not say; None is for ever.
        batch_lifetime: how long a batch is shown after its end; None is for ever. Its result files
            live as long as they say.
        max_files, max_bytes, max_batches: of one tenant: files kept, their bytes, and batches that
            have not ended. None is no limit.
        max_header_bytes: of a request's head, beyond which it is 431.
        max_connections: beyond which a connection is told 503.
        read_header_timeout: the longest that a head may take.
        stall_timeout: the longest that an upload may stand still.
        read_timeout: the longest that a whole upload may take.
        write_stall_timeout: the longest that a download may stand still.
        idle_timeout: how long a connection may be idle between requests.
        shutdown_timeout: what requests under way get when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    observability_port: int = 8081
    tls_certificate: PathLike | None = None
    tls_key: PathLike | None = None
    tenant_header: str = "X-MaaS-Username"
    api_keys: bool = False
    pass_through_headers: Sequence[str] = ()
    header_keys: Sequence[str] = field(default=(), repr=False)
    allow_paths: Sequence[str] = ()
    max_completion_window: Duration = "720h"
    max_file_bytes: ByteSize = "200MiB"
    max_file_lines: int | None = 50_000
    file_lifetime: Duration | None = "2160h"
    batch_lifetime: Duration | None = None
    max_files: int | None = None
    max_bytes: ByteSize | None = None
    max_batches: int | None = None
    max_header_bytes: ByteSize = "64KiB"
    max_connections: int = 1000
    read_header_timeout: Duration = 10.0
    stall_timeout: Duration = 60.0
    read_timeout: Duration = 900.0
    write_stall_timeout: Duration = 600.0
    idle_timeout: Duration = 90.0
    shutdown_timeout: Duration = 25.0

    def __post_init__(self) -> None:
        require_kinds(self)
        self._check_listening()
        self._check_limits()
        for name in (
            *("max_completion_window", "read_header_timeout", "stall_timeout", "read_timeout"),
            *("write_stall_timeout", "idle_timeout", "shutdown_timeout"),
        ):
            normalise_duration(self, name)
            require_positive(name, getattr(self, name))
        for name in ("file_lifetime", "batch_lifetime"):
            if getattr(self, name) is not None:
                normalise_duration(self, name)
                require_positive(name, getattr(self, name))
        self._check_headers()
        for path in self.allow_paths:
            try:
                check_endpoint(path)
            except InvalidRequestError as error:
                raise ConfigError("allow_paths", error.message) from error

    @property
    def endpoints(self) -> Sequence[str]:
        """What a batch may ask for."""
        return (*BATCH_ENDPOINTS, *self.allow_paths)

    def _check_listening(self) -> None:
        # Which sockets take as every address of the machine.
        if not self.host.strip():
            raise ConfigError("host", "is empty: 127.0.0.1 is this machine alone, 0.0.0.0 everyone")
        require_port("port", self.port)
        require_port("observability_port", self.observability_port)
        if self.port and self.port == self.observability_port:
            raise ConfigError("observability_port", f"{self.port} is the port of the API itself")
        if (self.tls_certificate is None) is not (self.tls_key is None):
            raise ConfigError("tls_certificate", "needs tls_key beside it, and the other way round")
        require_readable_file("tls_certificate", self.tls_certificate)
        require_readable_file("tls_key", self.tls_key)

    def _check_limits(self) -> None:
        for name in ("max_file_bytes", "max_bytes", "max_header_bytes"):
            size = getattr(self, name)
            if size is not None:
                object.__setattr__(self, name, parse_byte_size(size, name))
                require_positive(name, getattr(self, name))
        for name in ("max_file_lines", "max_files", "max_batches", "max_connections"):
            if getattr(self, name) is not None or name == "max_connections":
                require_count(name, getattr(self, name), minimum=1)

    def _check_headers(self) -> None:
        check_headers("tenant_header", [(self.tenant_header, "x")])
        check_headers("pass_through_headers", [(name, "x") for name in self.pass_through_headers])
        if not self.pass_through_headers:
            return
        if not self.header_keys:
            raise ConfigError("header_keys", _HEADER_KEY_HINT)
        names = {name.lower() for name in self.pass_through_headers}
        if others := sorted(names & _OF_ONE_REQUEST):
            raise ConfigError(
                f"pass_through_headers[{others[0]!r}]",
                "is about the connection or the body that it comes with, not about who asks",
            )
        if self.api_keys and "authorization" in names:
            raise ConfigError(
                "pass_through_headers",
                "Authorization holds the API key of this server: it cannot be passed on as well",
            )

    @property
    def file_bytes(self) -> int:
        """`max_file_bytes` as a number."""
        return byte_count(self.max_file_bytes)
