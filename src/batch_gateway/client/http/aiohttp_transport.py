"""The second HTTP transport, on aiohttp: for proxies, odd servers and conservative users.

aiohttp itself sends nothing twice: it resends idempotent methods on a broken connection, and POST
is none. Where it differs from the native transport:

- An idle connection is never reused after `idle_timeout`, but is closed only between one and
  two times that long.
- `max_idle_connections` is not a limit here, except that 0 turns reuse off.
- More than 128 response headers are refused; natively more than 1,000.
- A header value outside ASCII is sent as UTF-8; natively as Latin-1.
- A stale connection is told by the connection having been reused; a reset in the middle of a
  head on a reused connection counts as one too.
- A client certificate refused after a TLS 1.3 handshake may look like a broken connection.
- An early answer to an upload may be lost when the server resets the connection behind it.
- When a request is cancelled while the server has stopped reading its body, the socket stays
  open until the server reads what is already buffered, or closes.
- TLS over a Unix socket is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.header_rules import check_headers
from batch_gateway.client.http.aiohttp_attempt import UNDER_WAY, Attempt, attempt_tracing
from batch_gateway.client.http.aiohttp_connectors import (
    CheckingTCPConnector,
    CheckingUnixConnector,
)
from batch_gateway.client.http.aiohttp_errors import exchange_error, is_cut_refusal
from batch_gateway.client.http.aiohttp_stream import AiohttpStream
from batch_gateway.client.http.connection_errors import (
    closed_error,
    dial_error,
    require_unread,
    too_large,
    too_large_error,
)
from batch_gateway.client.http.content_coding import unpacked
from batch_gateway.client.http.exchange import HTTPResponse
from batch_gateway.client.http.origin_headers import merge_headers, origin_headers
from batch_gateway.client.http.proxies import proxy_of
from batch_gateway.client.http.reuse import Reuse
from batch_gateway.client.http.target import Target
from batch_gateway.durations import seconds
from batch_gateway.errors import (
    BadResponseError,
    ConfigError,
    GatewayConnectionError,
    InferenceError,
    InvalidRequestError,
    StaleConnectionError,
)
from batch_gateway.wire.headers import Headers

__all__ = ["AiohttpExchanger"]

T = TypeVar("T")

_PATH = re.compile(r"/[!-~]*")
# Of one header line. The number of headers is bounded by aiohttp itself.
_MAX_HEADER_BYTES = 64 * 1024
# aiohttp warns of larger `bytes` because it writes them in one go; a file is written in pieces.
_LARGEST_SINGLE_WRITE = 512 * 1024
_SKIPPED_AUTO_HEADERS = ("Accept-Encoding", "Accept", "User-Agent", "Content-Type")
# `Attempt` keeps time instead.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class AiohttpExchanger:
    """An `HTTPExchanger` on an aiohttp session, which is opened by the first request.

    Belongs to the event loop of that first request. Raises ConfigError at construction when the
    API key, a certificate or the proxy cannot be used.
    """

    def __init__(self, config: HTTPInferenceClientConfig) -> None:
        if config.unix_socket is not None and config.url.scheme == "https":
            raise ConfigError("unix_socket", "TLS over a Unix socket needs transport='native'")
        self._config = config
        # A compressed answer would only cost both sides time; whoever wants one can say so.
        identity = (("Accept-Encoding", "identity"),)
        self._headers = merge_headers(identity, origin_headers(config))
        self._target = Target.of(config)
        self._ssl = config.tls.ssl_context() if self._target.tls else None
        if self._ssl is not None:
            self._ssl.set_alpn_protocols(["http/1.1"])
        proxy = proxy_of(config)
        self._proxy = None if proxy is None else proxy.url
        self._check_proxy_tls()
        name = self._target.name
        self._dialled = name if self._proxy is None else f"the proxy for {name}"
        self._connect_timeout = seconds(config.connect_timeout)
        self._reuse = Reuse()
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[Attempt] = set()
        self._streams: set[AiohttpStream] = set()
        self._closed = False

    async def post(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
    ) -> HTTPResponse:
        session = self._open_session()
        attempt = Attempt(self._target.name, self._connect_timeout, deadline)
        over = _checked(path, headers)
        return await self._timed(attempt, self._post(session, attempt, path, over, body))

    @contextlib.asynccontextmanager
    async def stream(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
    ) -> AsyncGenerator[AiohttpStream]:
        session = self._open_session()
        head_by = min(deadline, begin_by)
        attempt = Attempt(self._target.name, self._connect_timeout, head_by)
        over = _checked(path, headers)
        opening = self._open(session, attempt, path, over, body)
        response = await self._timed(attempt, opening)
        try:
            self._require_http(response)
            stream = AiohttpStream(
                response,
                self._target.name,
                self._stream_error,
                deadline=deadline,
                begin_by=begin_by,
                idle_timeout=idle_timeout,
            )
            self._streams.add(stream)
            try:
                yield stream
            finally:
                self._streams.discard(stream)
        finally:
            # Does nothing once the body was read to its end: the connection is free by then.
            response.close()

    def _stream_error(self, error: Exception) -> InferenceError:
        if self._closed:
            return closed_error()
        return exchange_error(error, self._target.name, reused=False)

    async def connect(self, *, deadline: float) -> None:
        """Open one connection of its own and close it again; with a proxy, to the proxy."""
        self._require_open()
        attempt = Attempt(self._target.name, self._connect_timeout, deadline)
        await self._timed(attempt, self._connect(attempt))

    async def aclose(self) -> None:
        self._closed = True
        for one in (*self._under_way, *self._streams):
            one.end_now()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(
        self,
        session: aiohttp.ClientSession,
        attempt: Attempt,
        path: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
    ) -> HTTPResponse:
        async with await self._open(session, attempt, path, headers, body) as response:
            return await self._read(response)

    async def _open(
        self,
        session: aiohttp.ClientSession,
        attempt: Attempt,
        path: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
    ) -> aiohttp.ClientResponse:
        UNDER_WAY.set(attempt)
        try:
            response = await self._send(session, attempt, path, headers, body)
        except aiohttp.ClientError as error:
            self._require_unread(error, attempt)
        else:
            self._reuse.answered(attempt.served + 1)
            return response
        attempt.wants_new = True
        return await self._send(session, attempt, path, headers, body)

    def _require_unread(self, error: aiohttp.ClientError, attempt: Attempt) -> None:
        """Raises `error`, unless a kept-alive connection was closed under the request so early that
        it most probably was not read.
        """
        if self._closed or not attempt.served:
            raise error
        stale = exchange_error(error, self._target.name, reused=True)
        if not isinstance(stale, StaleConnectionError):
            raise error
        now = time.monotonic()
        require_unread(stale, now - attempt.sent_at)
        self._reuse.lost(attempt.served, attempt.made, now)

    async def _send(
        self,
        session: aiohttp.ClientSession,
        attempt: Attempt,
        path: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
    ) -> aiohttp.ClientResponse:
        return await session.post(
            # Already a valid URL; quoting it anew could change what a signature covers.
            URL(self._target.url(path), encoded=True),
            data=body if len(body) <= _LARGEST_SINGLE_WRITE else io.BytesIO(body),
            headers=CIMultiDict(merge_headers(self._headers, headers)),
            proxy=self._proxy,
            allow_redirects=False,
            trace_request_ctx=attempt,
        )

    async def _connect(self, attempt: Attempt) -> None:
        attempt.starts_connecting()
        writer = await self._dial()
        attempt.connected()
        writer.close()
        # A peer that resets the farewell was reached all the same.
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _dial(self) -> asyncio.StreamWriter:
        if self._target.unix_socket is not None:
            _, writer = await asyncio.open_unix_connection(self._target.unix_socket)
            return writer
        host, port, context = self._target.host, self._target.port, self._ssl
        if self._proxy is not None:
            proxy = urlsplit(self._proxy)
            secure = proxy.scheme == "https"
            host, port = proxy.hostname or "", proxy.port or (443 if secure else 80)
            context = self._config.tls.ssl_context() if secure else None
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        return writer

    def _require_http(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 101:
            raise BadResponseError(f"{self._target.name} switched protocols, unasked")

    async def _read(self, response: aiohttp.ClientResponse) -> HTTPResponse:
        self._require_http(response)
        connection = response.connection
        protocol = None if connection is None else connection.protocol
        body = await self._read_body(response)
        status, headers = response.status, Headers(response.raw_headers)
        limit = self._config.max_response_bytes
        if body is None:
            response.close()
            if 200 <= status <= 299:
                raise too_large_error(f"the response of {self._target.name}", limit, status)
            return HTTPResponse(status, headers, b"", undecodable=too_large(limit))
        # Without a length the body ends with the connection; aiohttp takes a reset for that end.
        if protocol is not None and isinstance(protocol.exception(), aiohttp.ClientOSError):
            raise GatewayConnectionError(
                f"{self._target.name} reset the connection during the response",
                cause=protocol.exception(),
            )
        # Undone here for the sake of the limit, which aiohttp's own decoding does not have.
        coding = ",".join(response.headers.getall("Content-Encoding", ()))
        packed = HTTPResponse(status, headers, body, coding)
        return await unpacked(packed, self._target.name, limit)

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes | None:
        """None when it is larger than the limit."""
        limit = self._config.max_response_bytes
        # Whatever the header says is refused before anything is read, and is never trusted.
        if response.content_length is not None and response.content_length > limit:
            return None
        # Not a list: a server that sends tiny chunks would use up far more than the limit.
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                if len(body) + len(chunk) > limit:
                    return None
                body += chunk
        except aiohttp.ClientPayloadError as error:
            if not is_cut_refusal(response.status, error):
                raise
        return bytes(body)

    async def _timed(self, attempt: Attempt, work: Coroutine[None, None, T]) -> T:
        """`work` within the attempt's time, its exceptions in this package's terms."""
        try:
            async with attempt.timer():
                self._under_way.add(attempt)
                try:
                    return await work
                finally:
                    self._under_way.discard(attempt)
        except InferenceError:
            raise
        except TimeoutError as error:
            raise (closed_error() if self._closed else attempt.timeout_error(error)) from error
        except aiohttp.ClientError as error:
            if self._closed:
                raise closed_error() from error
            raise exchange_error(error, self._target.name, reused=attempt.served > 0) from error
        except OSError as error:
            raise dial_error(error, self._dialled) from error
        except asyncio.CancelledError as error:
            # Closing the session cancels the futures of waiting requests, not their tasks.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise closed_error() from error
            raise

    def _open_session(self) -> aiohttp.ClientSession:
        self._require_open()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_TIMEOUT,
                skip_auto_headers=_SKIPPED_AUTO_HEADERS,
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
                trace_configs=[attempt_tracing()],
            )
        return self._session

    def _check_proxy_tls(self) -> None:
        if self._proxy is None or urlsplit(self._proxy).scheme != "https":
            return
        for name in ("pinned_certificate", "server_name"):
            if getattr(self._config.tls, name) is not None:
                raise ConfigError(
                    f"tls.{name}", "would be asked of an https:// proxy as well; drop one of them"
                )

    def _connector(self) -> aiohttp.BaseConnector:
        config = self._config
        limit = config.max_connections or 0
        idle = seconds(config.idle_timeout)
        keeps = config.max_idle_connections > 0 and idle > 0
        keepalive = idle if keeps else None
        if self._target.unix_socket is not None:
            return CheckingUnixConnector(
                self._reuse,
                path=self._target.unix_socket,
                force_close=not keeps,
                keepalive_timeout=keepalive,
                limit=limit,
            )
        return CheckingTCPConnector(
            self._reuse,
            ssl=self._ssl or True,
            force_close=not keeps,
            keepalive_timeout=keepalive,
            limit=limit,
        )

    def _require_open(self) -> None:
        if self._closed:
            raise closed_error()


def _checked(path: str, headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    if not _PATH.fullmatch(path):
        raise InvalidRequestError(f"{path!r} is not a path that a request can be sent to")
    try:
        return check_headers("headers", headers)
    except ConfigError as error:
        raise InvalidRequestError(str(error), cause=error) from error
