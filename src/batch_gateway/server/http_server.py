"""uvicorn in an event loop that is not its own: started and stopped as part of a larger whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Generator
from functools import partial
from typing import Any, Self, cast

import uvicorn
from starlette.types import ASGIApp

from batch_gateway.config_checks import PathLike
from batch_gateway.errors import ConfigError
from batch_gateway.server.bounded_protocol import ConnectionLimits, protocol_of

__all__ = ["HttpServer"]

_BACKLOG = 1024


class HttpServer:
    """An application on a port, from `start` to `stop`.

    Attributes:
        url: where it is, with the port that was chosen if 0 was asked for.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        limits: ConnectionLimits,
        *,
        idle_seconds: float,
        shutdown_seconds: float,
        tls: tuple[PathLike, PathLike] | None = None,
        field: str = "port",
    ) -> None:
        self._socket = _listening(host, port, field)
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{shown}:{self._socket.getsockname()[1]}"
        certificate, key = tls or (None, None)
        config = uvicorn.Config(
            app,
            http=cast("Any", partial(protocol_of, limits)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=cast("int", idle_seconds),
            timeout_graceful_shutdown=cast("int", shutdown_seconds),
            ssl_certfile=certificate,
            ssl_keyfile=None if key is None else os.fspath(key),
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConfigError("tls_certificate", f"cannot be loaded: {error}") from error
        # What it says of itself is not for those who run a service: ours is said elsewhere.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = _QuietServer(config)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Return when connections are accepted."""
        self._running = asyncio.create_task(self._server.serve([self._socket]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._running, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._running.done():
            self._running.result()
        return self

    async def stop(self) -> None:
        """Accept nothing more, let requests under way end within their time, and end the others."""
        self._server.should_exit = True
        self._server.stopping.set()
        if self._running is None:
            self._socket.close()
            return
        await self._running
        state = self._server.server_state
        if state.tasks:
            await asyncio.wait(state.tasks)
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


class _QuietServer(uvicorn.Server):
    """Leaves signals to whoever runs the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Renews the date of its answers every second, and ends as soon as it is asked to."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 1.0)


def _listening(host: str, port: int, field: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        is_of_port = getattr(error, "errno", None) in {errno.EADDRINUSE, errno.EACCES}
        raise ConfigError(
            field if is_of_port else "host",
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
        ) from error
