"""A page that is looked at again and again, such as a server's metrics."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from batch_gateway.config_checks import PathLike
from batch_gateway.errors import BadResponseError, GatewayConnectionError
from batch_gateway.http.connection import Connection
from batch_gateway.http.content_coding import unpacked
from batch_gateway.http.dial import Dialler
from batch_gateway.http.origin_headers import merge_headers
from batch_gateway.http.proxies import ProxyRoute, request_heads
from batch_gateway.http.target import Target
from batch_gateway.http.tls import TLSConfig
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.version import __version__

__all__ = ["WatchedPage"]

_HEADERS = (
    ("User-Agent", f"batch-gateway/{__version__}"),
    ("Accept", "text/plain;version=0.0.4, */*;q=0.5"),
    # A connection each time: between two looks an idle one may have been closed unseen.
    ("Connection", "close"),
)


class WatchedPage:
    """One URL, asked for with these headers and the bearer token that a file holds at the time.

    `proxy` is as a client's configuration has it. Raises ConfigError when a certificate or the
    proxy cannot be used.

    Attributes:
        name: the URL for messages, without a query, which may hold a secret.
    """

    def __init__(
        self,
        url: str,
        tls: TLSConfig,
        *,
        max_bytes: int,
        token_file: PathLike | None = None,
        headers: Sequence[tuple[str, str]] = (),
        proxy: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.name = parts._replace(query="").geturl()
        self._path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._token_file = token_file
        self._max_bytes = max_bytes
        config = TransportConfig(f"{parts.scheme}://{parts.netloc}", tls=tls, proxy=proxy)
        target = Target.of(config)
        route = ProxyRoute.of(config, target)
        self._peer = target.name if route is None else route.peer
        own = merge_headers(_HEADERS, tuple(headers))
        self._heads = request_heads(target, route, own)
        self._dialler = Dialler(
            target,
            tls.ssl_context() if target.tls else None,
            math.inf,  # the deadline of a look is limit enough
            partial(Connection, self._peer, max_bytes, _nobody_counts),
            route,
        )

    async def read(self, *, deadline: float) -> bytes:
        """The body of a 200, by `deadline` in `time.monotonic()` seconds.

        Raises GatewayConnectionError and its kinds, RequestTimeoutError, and BadResponseError for
        any other status or a body that is too large.
        """
        head = self._heads.build_get(self._path, self._token())
        connection = await self._dialler.dial(deadline)
        left = max(0.0, deadline - time.monotonic())
        expiry = asyncio.get_running_loop().call_later(left, connection.expire)
        try:
            response = await connection.post(head, b"", deadline)
            connection.close()
        except BaseException:
            connection.abort()
            raise
        finally:
            expiry.cancel()
            await connection.wait_lost()
        response = await unpacked(response, self._peer, self._max_bytes)
        if response.status_code != 200:
            hint = "; it asks for a token" if response.status_code in (401, 403) else ""
            raise BadResponseError(f"the answer was HTTP {response.status_code}{hint}")
        return response.body

    def _token(self) -> tuple[tuple[str, str], ...]:
        if self._token_file is None:
            return ()
        path = os.fspath(self._token_file)
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise GatewayConnectionError(f"the token in {path} cannot be read") from error
        token = lines[0].strip() if lines else ""
        if not token or not all("!" <= character <= "~" for character in token):
            raise GatewayConnectionError(f"{path} holds no token in its first line")
        return (("Authorization", f"Bearer {token}"),)

    def close(self) -> None:
        """Give up dialling. Cancel a look that is under way."""
        self._dialler.close()


def _nobody_counts(_: Connection) -> None:
    """Connections are made one at a time, and belong to no pool."""
