"""aiohttp's connectors with a second look at each kept-alive connection before it is reused.

They also tell the attempt under way what it was given, and give it a new one when it wants that
or when the server is known to close its connections after so many answers.

On its own aiohttp hands out any idle connection that it has not yet seen closing. Bytes that
arrived unasked while it was idle would then be read as the answer to the next request, and a
close that the kernel knows but the event loop does not would cost that request.
"""

from __future__ import annotations

import asyncio
import select
import time
import weakref
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from batch_gateway.client.http.aiohttp_attempt import UNDER_WAY, Attempt
from batch_gateway.client.http.reuse import Reuse

__all__ = ["CheckingTCPConnector", "CheckingUnixConnector"]


class _Past:
    """What a connection has done."""

    def __init__(self) -> None:
        self.made = time.monotonic()
        self.handed_out = 0


class _CheckingConnector(aiohttp.BaseConnector):
    def __init__(self, reuse: Reuse, **settings: Any) -> None:
        super().__init__(**settings)
        self._reuse = reuse
        self._known: weakref.WeakKeyDictionary[ResponseHandler, _Past] = weakref.WeakKeyDictionary()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A new connection, or a kept-alive one that is known to be good a moment before use."""
        attempt = UNDER_WAY.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None:
                return connection
            past = self._known.get(protocol)
            # A new one is never spoilt, though TLS may already have left something of its own to
            # read on it.
            if past is None or self._is_good(protocol, past, attempt):
                break
            connection.close()
        past = self._known.setdefault(protocol, past or _Past())
        attempt.served, attempt.made = past.handed_out, past.made
        attempt.sent_at = time.monotonic()
        past.handed_out += 1
        return connection

    def _is_good(self, protocol: ResponseHandler, past: _Past, attempt: Attempt) -> bool:
        """Whether a kept-alive connection may be used."""
        worth_it = self._reuse.keeps(past.handed_out, time.monotonic())
        return worth_it and not attempt.wants_new and not _is_spoilt(protocol)


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
