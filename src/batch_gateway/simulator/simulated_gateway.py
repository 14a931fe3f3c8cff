"""The simulated gateway as a server: start, stop, change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batch_gateway.config_checks import PathLike, require_kind, require_port
from batch_gateway.errors import ConfigError
from batch_gateway.simulator.listening import stop_listening
from batch_gateway.simulator.request_journal import Journal
from batch_gateway.simulator.server_connection import ServerConnection
from batch_gateway.simulator.server_tls import server_context
from batch_gateway.simulator.simulator_config import SimulatorConfig
from batch_gateway.simulator.site import SimulatedSite

__all__ = ["SimulatedGateway", "reachable_address", "serve"]

_BACKLOG = 8192
_CLOSE_SECONDS = 5.0


class SimulatedGateway:
    """An OpenAI-compatible gateway on 127.0.0.1, or wherever it is told.

        async with SimulatedGateway(SimulatorConfig.instant()) as gateway:
            ...  # gateway.url, gateway.journal

    Args:
        config: how it behaves; one small GPU by default.
        host, port: where it listens. Port 0 takes a free one, and keeps it over a restart.
        unix_socket: a path to listen on instead.
        tls: a server context, instead of the certificate files in `config`.

    Raises ConfigError for what cannot be any of these.
    """

    def __init__(
        self,
        config: SimulatorConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        unix_socket: PathLike | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        require_kind("config", config, SimulatorConfig | None)
        require_kind("host", host, str)
        require_port("port", port)
        require_kind("unix_socket", unix_socket, PathLike | None)
        require_kind("tls", tls, ssl.SSLContext | None)
        self._config = config or SimulatorConfig()
        self._host = host
        self._port = port
        self.unix_socket = None if unix_socket is None else os.fspath(unix_socket)
        self._tls = tls or server_context(
            self._config.tls_certificate, self._config.tls_key, self._config.tls_client_ca
        )
        self._site: SimulatedSite | None = None
        self._server: asyncio.Server | None = None

    # -- life ------------------------------------------------------------------------------

    async def __aenter__(self) -> SimulatedGateway:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        if self._site is None:
            self._site = SimulatedSite(loop, self._config)
        site = self._site

        def connection() -> ServerConnection:
            return ServerConnection(site, loop)

        if self.unix_socket is not None:
            self._server = await loop.create_unix_server(
                connection, self.unix_socket, ssl=self._tls, backlog=_BACKLOG
            )
            return
        self._server = await loop.create_server(
            connection, self._host, self._port, ssl=self._tls, backlog=_BACKLOG
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break every connection off. The journal stays readable."""
        server, self._server = self._server, None
        if server is None:
            return
        await stop_listening(server)
        site = self._running_site
        for connection in tuple(site.connections):
            connection.reset()
        await site.all_closed()
        site.pacing.stop()
        # A handshake that somebody left half done is no connection of ours yet.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), _CLOSE_SECONDS)
        if self.unix_socket is not None:
            _remove(self.unix_socket)

    # -- where it is, what it saw ----------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on; 0 before its first start and on a Unix socket."""
        return 0 if self.unix_socket is not None else self._port

    @property
    def url(self) -> str:
        """The base URL for clients. On a Unix socket it gives only the scheme and host."""
        scheme = "http" if self._tls is None else "https"
        if self.unix_socket is not None:
            return f"{scheme}://localhost"
        return f"{scheme}://{self.address}"

    @property
    def address(self) -> str:
        """ "host:port" that reaches it from this machine, as an endpoint picker names it."""
        return reachable_address(self._host, self._port)

    @property
    def journal(self) -> Journal:
        """What it received and answered, by X-Request-ID."""
        return self._running_site.journal

    @property
    def running(self) -> int:
        """Requests that have their seats now."""
        return self._running_site.pacing.running

    @property
    def waiting(self) -> int:
        """Requests in its queue now."""
        return self._running_site.pacing.waiting

    @property
    def kv_usage(self) -> float:
        """Share of its KV cache in use, 0 to 1."""
        return self._running_site.pacing.kv_usage

    def add_page(self, path: str, content: Callable[[], object]) -> None:
        """Answer GETs of this path with what `content` returns, as JSON."""
        self._running_site.add_page(path, content)

    @property
    def _running_site(self) -> SimulatedSite:
        if self._site is None:
            raise RuntimeError("the simulated gateway was not started")
        return self._site

    # -- changes ---------------------------------------------------------------------------

    @property
    def config(self) -> SimulatorConfig:
        return self._config

    def configure(self, **changes: Any) -> None:
        """Change settings while it runs; requests under way feel the new capacity too.

        Raises ConfigError. Certificates cannot be changed this way.
        """
        fixed = sorted(name for name in changes if name.startswith("tls_"))
        if fixed:
            raise ConfigError(fixed[0], "cannot change while the gateway runs")
        self._config = self._config.with_changes(**changes)
        if self._site is not None:
            self._site.configure(self._config)

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace the probabilities of faults; {} ends them all."""
        self.configure(faults=faults)


def reachable_address(host: str, port: int) -> str:
    """ "host:port" for clients on this machine of a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def serve(
    config: SimulatorConfig, host: str, port: int, ready: Callable[[str], None]
) -> None:
    """Run a gateway until the task is cancelled. `ready` is called with its URL."""
    async with SimulatedGateway(config, host=host, port=port) as gateway:
        ready(gateway.url)
        await asyncio.get_running_loop().create_future()
