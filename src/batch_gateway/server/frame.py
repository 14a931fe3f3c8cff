"""What holds for every request: an id, security headers, figures, and JSON for any error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batch_gateway.errors import (
    RecordsError,
    RecordsFullError,
    RecordsUnavailableError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from batch_gateway.server.api_errors import ApiError, error_response
from batch_gateway.server.api_metrics import ApiMetrics
from batch_gateway.server.body_reader import ClientGoneError

__all__ = ["ROUTE", "SECURITY_HEADERS", "Frame"]

SECURITY_HEADERS: Final[Sequence[tuple[bytes, bytes]]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

ROUTE: Final = "batch_gateway.route"
"""Where the scope of a request has the path of its route, with names in place of ids."""

# A database or a store that moves to another machine takes some seconds.
_RETRY_SECONDS: Final = 5
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}")
_log = logging.getLogger("batch_gateway.server")


class Frame:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, send)
        self._metrics.began()
        began = time.monotonic()
        try:
            await exchange.answer(self._app, receive)
        finally:
            seconds = time.monotonic() - began
            self._metrics.ended(scope["method"], exchange.route, exchange.status, seconds)


class _Exchange:
    """One request and what has been answered to it; `status` is 499 when nobody listened."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.status = 0
        self._scope, self._send = scope, send
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        is_usable = bool(given) and _REQUEST_ID.fullmatch(given[-1])
        self._id = given[-1] if is_usable else str(uuid4()).encode()

    @property
    def route(self) -> str:
        return self._scope.get(ROUTE, "other")

    async def answer(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self._send_framed)
        except ClientGoneError:
            self.status = self.status or 499
        except asyncio.CancelledError:
            # The server stops, and has waited for as long as it was told to.
            await self._refuse(receive, ApiError(503, "the server is stopping"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the next request must not suffer
            await self._refuse(receive, self._told(error))

    def _told(self, error: Exception) -> ApiError:
        if isinstance(error, ApiError):
            return error
        where = f"{self._scope['method']} {self.route} ({self._id.decode()})"
        if isinstance(error, RecordsError | StorageError):
            # Of an outage it is told once.
            if not isinstance(error, RecordsUnavailableError | StorageUnavailableError):
                _log.error("%s: %s", where, error)
            if isinstance(error, RecordsFullError | StorageFullError):
                return ApiError(507, "the server has no room for more files and records")
            words = "the server cannot reach its records or files just now"
            return ApiError(503, words, {"retry-after": str(_RETRY_SECONDS)})
        if isinstance(error, TimeoutError):
            return ApiError(408, "the connection stood still for too long")
        _log.error("%s: %s: %s", where, type(error).__name__, error, exc_info=error)
        return ApiError(500, f"the server failed; its log has more under {self._id.decode()}")

    async def _refuse(self, receive: Receive, error: ApiError) -> None:
        if self.status:
            # Half an answer cannot be taken back: an end before its length says that it is broken.
            raise ConnectionAbortedError
        with contextlib.suppress(OSError):
            await error_response(error)(self._scope, receive, self._send_framed)

    async def _send_framed(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(b"x-request-id", self._id), *SECURITY_HEADERS]
            message = {**message, "headers": [*message["headers"], *own]}
        await self._send(message)
