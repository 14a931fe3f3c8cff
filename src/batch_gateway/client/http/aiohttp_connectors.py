"""aiohttp's connectors with a second look at each kept-alive connection before it is reused.

On its own aiohttp hands out any idle connection that it has not yet seen closing. Bytes that
arrived unasked while it was idle would then be read as the answer to the next request, and a
close that the kernel knows but the event loop does not would cost that request.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

__all__ = ["CheckingTCPConnector", "CheckingUnixConnector"]


class _CheckingConnector(aiohttp.BaseConnector):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Those that have been handed out before. A new one is never spoilt, though TLS may
        # already have left something of its own to read on it.
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A new connection, or a kept-alive one that is known to be good a moment before use."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                break
            if not _is_spoilt(protocol):
                return connection
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
        return connection


class CheckingTCPConnector(_CheckingConnector, aiohttp.TCPConnector):
    """`aiohttp.TCPConnector`, checking."""


class CheckingUnixConnector(_CheckingConnector, aiohttp.UnixConnector):
    """`aiohttp.UnixConnector`, checking."""


def _is_spoilt(protocol: ResponseHandler) -> bool:
    """Whether a connection that should be silent has something to read: data, or its end."""
    transport = protocol.transport
    return protocol.should_close or transport is None or _is_readable(transport)


def _is_readable(transport: asyncio.BaseTransport) -> bool:
    sock = transport.get_extra_info("socket")
    handle = -1 if sock is None else sock.fileno()
    if handle < 0:  # closed, which is what the end of a connection reads as
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([handle], [], [], 0)[0])
    poll = select.poll()
    # Errors and hang-ups are reported whatever one registers for.
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))
