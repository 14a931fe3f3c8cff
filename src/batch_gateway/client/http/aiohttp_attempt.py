"""The clock of one exchange through aiohttp, told by its tracing hooks what is going on."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from types import SimpleNamespace

import aiohttp

from batch_gateway.durations import format_duration
from batch_gateway.errors import RequestTimeoutError

__all__ = ["UNDER_WAY", "Attempt", "attempt_tracing"]


class Attempt:
    """Keeps an exchange within its deadline, and the making of a connection within its own.

    aiohttp's timeouts do not fit: they round up to whole seconds past five of them, and count
    the wait for a free connection as connecting.

    Attributes:
        wants_new: whether the request may only go out on a new connection.
        served: how many answers its connection has brought; 0 when it is a new one.
        made: when its connection was, in monotonic seconds.
        sent_at: when it was handed that connection.

    Raises RequestTimeoutError at construction when `deadline` (`time.monotonic()` seconds) has
    passed: aiohttp may send before it gives a timer the chance to run.
    """

    def __init__(self, peer: str, connect_timeout: float, deadline: float) -> None:
        self.wants_new = False
        self.served = 0
        self.made = self.sent_at = 0.0
        self._peer = peer
        self._connect_timeout = connect_timeout
        self._connecting = False
        self._ends: float | None = None
        if deadline != float("inf"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise RequestTimeoutError("the deadline passed before the request was sent")
            # The loop's clock need not be the one that deadlines are told in.
            self._ends = asyncio.get_running_loop().time() + left
        self._connect_ends: float | None = None
        self._timer = asyncio.timeout_at(self._ends)

    def timer(self) -> asyncio.Timeout:
        """The block that ends in TimeoutError when time is up; enter it once."""
        return self._timer

    def end_now(self) -> None:
        """End the block, which must have been entered, at the next chance."""
        if not self._timer.expired():
            self._timer.reschedule(0.0)

    def starts_connecting(self) -> None:
        self._connecting = True
        ends = self._connect_ends = asyncio.get_running_loop().time() + self._connect_timeout
        self._timer.reschedule(ends if self._ends is None else min(ends, self._ends))

    def connected(self) -> None:
        self._connecting = False
        self._timer.reschedule(self._ends)

    def timeout_error(self, cause: TimeoutError) -> RequestTimeoutError:
        """What the end of the block means."""
        message = f"{self._peer} did not answer in time"
        if self._connecting:
            message = f"the deadline passed while connecting to {self._peer}"
            if self._ends is None or (self._connect_ends or 0.0) < self._ends:
                limit = format_duration(self._connect_timeout)
                message = (
                    f"connecting to {self._peer} took longer than {limit}"
                    " (connect_timeout, --connect-timeout)"
                )
        return RequestTimeoutError(message, cause=cause)


UNDER_WAY: ContextVar[Attempt] = ContextVar("UNDER_WAY")
"""The attempt of this task, for the connector."""


def attempt_tracing() -> aiohttp.TraceConfig:
    """Hooks for a session whose requests carry their `Attempt` as `trace_request_ctx`."""

    async def starts(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.starts_connecting()

    async def ends(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connected()

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(starts)
    tracing.on_connection_create_end.append(ends)
    return tracing
