"""Asking a proxy for a tunnel to a gateway, and what its refusal means (RFC 9110 §9.3.6)."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import cast

from batch_gateway.errors import GatewayConnectionError, InferenceError, is_retryable_status
from batch_gateway.http.connection_errors import dial_error
from batch_gateway.http.content_coding import unpacked
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.proxies import ProxyRoute
from batch_gateway.http.response_reader import ResponseReader
from batch_gateway.wire.error_body import parse_error_body, short_text
from batch_gateway.wire.headers import Headers

__all__ = ["Tunnel"]

# Of the page that comes with a refusal.
_MOST_WORDS = 64 * 1024
# The status of a refusal decides; its page only adds words, and may have no end.
_WORDS_SECONDS = 1.0

# What a web server says that is no proxy, and a proxy for plain requests alone.
_NO_TUNNELS = frozenset({400, 404, 405, 501})

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
# Not a parameter of one, which has an equals sign (RFC 9110 §11.6.1).
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)(?=\s*(?:,|$)|\s+[^\s=,])")


class Tunnel(asyncio.Protocol):
    """A connection to a proxy until TLS with the gateway begins in it.

    A success has no body whatever its head says: what follows is the gateway's.
    """

    def __init__(self, route: ProxyRoute) -> None:
        self._route = route
        self._loop = asyncio.get_running_loop()
        self._reader = ResponseReader(route.first_hop, _MOST_WORDS)
        self._reader.begin(self)
        self._status = 0
        self._headers = Headers()
        self._words = bytearray()
        self._patience: asyncio.TimerHandle | None = None
        self._answered: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None

    async def open(self, request: bytes) -> asyncio.Transport:
        """Ask; returns what TLS may begin on.

        Raises GatewayConnectionError when the proxy refuses or leaves, or something else than TLS
        is at the other end, and BadResponseError when it answers in no HTTP.
        """
        transport = self._transport
        assert transport is not None  # noqa: S101 - the event loop has made the connection
        try:
            transport.write(request)
            await self._answered
        except BaseException:
            transport.abort()
            raise
        finally:
            self._forget()
        if 200 <= self._status <= 299 and not self._words:
            return transport
        transport.abort()
        raise await self._refusal()

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of it, so this cannot be checked.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answered.done():
            return
        try:
            is_whole = self._reader.feed(data) is not None
        except InferenceError as error:
            self._settle(error)
            return
        if is_whole or 200 <= self._status <= 299:
            self._settle()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status:
            self._settle()
            return
        if isinstance(exc, ssl.SSLError):
            # A TLS 1.3 proxy says what it thinks of us behind the handshake.
            self._settle(dial_error(exc, self._route.first_hop))
            return
        how = "closed" if exc is None else "reset"
        self._settle(
            GatewayConnectionError(
                f"{self._route.first_hop} {how} the connection instead of opening a tunnel",
                # It is as if the gateway could not be connected to.
                cause=ConnectionRefusedError(str(exc or "closed")),
            )
        )

    # --- called by the reader ---

    def head_received(self, status_code: int, headers: Headers) -> None:
        self._status, self._headers = status_code, headers
        self._patience = self._loop.call_later(_WORDS_SECONDS, self._settle)

    def body_received(self, data: bytes) -> None:
        self._words += data[: _MOST_WORDS - len(self._words)]

    # --- how it ends ---

    def _settle(self, error: InferenceError | None = None) -> None:
        if self._answered.done():
            return
        if error is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(error)
            # Marks it as seen: a task that is cancelled in this very moment will not look.
            self._answered.exception()
        if self._transport is not None and not self._transport.is_closing():
            # What comes now is for whoever takes over.
            self._transport.pause_reading()

    def _forget(self) -> None:
        """Let go of the reader, which holds this object as well as its own parser."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._reader.begin()
        self._reader.close()

    async def _refusal(self) -> InferenceError:
        route = self._route
        if 200 <= self._status <= 299:
            said = short_text(self._words.decode("utf-8", "replace"), 60)
            return GatewayConnectionError(
                f"{route.peer} said {said!r} before TLS began; it seems to speak no TLS here"
            )
        coding = self._headers.get("content-encoding", "")
        packed = HTTPResponse(self._status, self._headers, bytes(self._words), coding)
        return _refusal_error(await unpacked(packed, route.first_hop, _MOST_WORDS), route)


def _refusal_error(response: HTTPResponse, route: ProxyRoute) -> InferenceError:
    """What it means that a proxy did not open a tunnel.

    One that cannot get through is like a gateway that cannot be reached, and tried again; one that
    does not want to will not want to the next time.
    """
    status, headers = response.status_code, response.headers
    words = parse_error_body(status, b"" if response.undecodable else response.body).message
    words = words.removeprefix(f"{status} ")  # nginx and tinyproxy repeat it
    if 300 <= status <= 399:
        words = f"it redirects to {short_text(headers.get('location', 'nowhere'), 100)}"
    squid = headers.get("x-squid-error")  # its page is the same for all of them
    cure = _cure(response, route)
    message = (
        f"{route.first_hop} refused the tunnel: HTTP {status}: {words}"
        f"{f' [{short_text(squid, 60)}]' if squid else ''}{f'; {cure}' if cure else ''}"
    )
    if is_retryable_status(status):
        return GatewayConnectionError(message, cause=ConnectionRefusedError(f"HTTP {status}"))
    return GatewayConnectionError(message, is_retryable=False, status_code=status)


def _cure(response: HTTPResponse, route: ProxyRoute) -> str:
    status, proxy = response.status_code, route.proxy
    if status in (401, 407):  # tinyproxy says the first of a wrong password
        return proxy.credentials_cure(_schemes(response.headers))
    if status in _NO_TUNNELS:
        return "is it an HTTP proxy that lets TLS through (CONNECT)?"
    if 400 <= status <= 499 and status != 429:
        return f"ask whoever runs it to let {route.gateway} through, or {proxy.way_around}"
    return ""


def _schemes(headers: Headers) -> list[str]:
    """The authentication schemes that a 407 offers, in lower case."""
    offered = _QUOTED.sub("", headers.get("proxy-authenticate", ""))
    return [scheme.lower() for scheme in _SCHEME.findall(offered)]
