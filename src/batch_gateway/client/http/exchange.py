"""The seam between the client's layers and whatever speaks HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from batch_gateway.wire.headers import Headers

__all__ = ["HTTPExchanger", "HTTPResponse"]


class HTTPResponse(msgspec.Struct, frozen=True):
    """A whole HTTP response, of any status."""

    status_code: int
    headers: Headers
    body: bytes


class HTTPExchanger(Protocol):
    """Posts bytes to one gateway and brings back the response, whatever its status.

    Built from an `HTTPInferenceClientConfig`: base URL, TLS, limits, timeouts and the headers
    that every request carries (Authorization, User-Agent, Content-Type, Accept) are its own.
    """

    async def post(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
    ) -> HTTPResponse:
        """POST `body` to base URL + `path`.

        `headers` are this request's own; they win over the configured ones of the same name.
        `deadline` is in `time.monotonic()` seconds and covers everything from waiting for a
        connection to the last byte.

        Raises GatewayConnectionError (and its kinds), RequestTimeoutError, BadResponseError.
        Cancelling the task aborts the request: the server sees the connection close.
        """
        ...

    async def connect(self, *, deadline: float) -> None:
        """Make sure that the gateway can be reached: name, TCP, TLS. Raises as `post` does."""
        ...

    async def aclose(self) -> None:
        """Close every connection; requests under way are aborted."""
        ...
