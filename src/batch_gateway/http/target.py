"""Where a gateway is: host, port or Unix socket, and how requests and messages name it."""

from __future__ import annotations

import os

import msgspec

from batch_gateway.http.base_url import ApiPath
from batch_gateway.http.transport_config import TransportConfig

__all__ = ["Target"]

# The last two are those of GAIE's endpoint picker.
_DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 9002, "grpcs": 9002}


class Target(msgspec.Struct, frozen=True):
    """One gateway as a socket and a request line see it.

    Attributes:
        host: a name or an IP address without brackets; also what its certificate must name.
        port: a TCP port.
        tls: whether to speak TLS.
        unix_socket: a path to connect to instead of host and port, or None.
        host_header: for the Host header: brackets for IPv6, no default port.
        api: where the paths of requests are.
        name: for messages, e.g. "localhost:8000" or "unix:/run/gateway.sock".
    """

    host: str
    port: int
    tls: bool
    unix_socket: str | None
    host_header: str
    api: ApiPath
    name: str

    def url(self, path: str) -> str:
        """What is asked for, in full, when a request says `path`."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.host_header}{self.api.target(path)}"

    @classmethod
    def of(cls, config: TransportConfig) -> Target:
        url = config.url
        host = url.hostname or ""
        default_port = _DEFAULT_PORTS[url.scheme]
        port = url.port or default_port
        shown_host = f"[{host}]" if ":" in host else host
        path = None if config.unix_socket is None else os.fspath(config.unix_socket)
        return cls(
            host=host,
            port=port,
            tls=url.scheme in ("https", "grpcs"),
            unix_socket=path,
            host_header=shown_host if port == default_port else f"{shown_host}:{port}",
            api=ApiPath.of(url),
            name=f"{shown_host}:{port}" if path is None else f"unix:{path}",
        )
