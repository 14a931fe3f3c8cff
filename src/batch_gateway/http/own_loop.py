"""The one event loop that a transport's connections belong to."""

from __future__ import annotations

import asyncio

from batch_gateway.errors import InvalidRequestError
from batch_gateway.http.connection_errors import closed_error

__all__ = ["own_loop"]


def own_loop(bound: asyncio.AbstractEventLoop | None, *, closed: bool) -> asyncio.AbstractEventLoop:
    """The running loop, for a transport that is `bound` to it or to none yet.

    Raises GatewayConnectionError when the transport was closed, and InvalidRequestError when it
    is bound to another loop.
    """
    if closed:
        raise closed_error()
    loop = asyncio.get_running_loop()
    if bound is not None and bound is not loop:
        raise InvalidRequestError(
            "this client was used in another event loop, to which its connections belong;"
            " make a client in each loop"
        )
    return loop
