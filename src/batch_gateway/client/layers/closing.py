"""Ending whatever is under way, wherever in the client it waits, when the client is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.errors import GatewayConnectionError
from batch_gateway.http.connection_errors import closed_error

__all__ = ["ClosingTransport"]


class ClosingTransport:
    """A layer above all that wait: when `aclose` returns, no request waits in one of them.

    A request may be with the gateway, or wait for its turn, for a retry, or for a reader of its
    chunks. The task that sends it is cancelled, and the cancellation becomes a
    GatewayConnectionError here, unless somebody else cancels that task as well.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._closed = False
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._cancelled: set[asyncio.Task[Any] | None] = set()
        self._all_ended = asyncio.Event()

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        if self._closed:
            raise _closed(request)
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            return await self._inner.send(request)
        except asyncio.CancelledError:
            if task is None or task not in self._cancelled or task.cancelling() > 1:
                raise
            raise _closed(request) from None
        finally:
            self._tasks.discard(task)
            if self._closed:
                self._left(task)

    def _left(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None and task in self._cancelled:
            self._cancelled.discard(task)
            task.uncancel()
        if not self._cancelled:
            self._all_ended.set()

    async def aclose(self) -> None:
        self._closed = True
        # A client may be closed after the loop that it was used in has ended, and in a request.
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        for task in self._tasks - self._cancelled:
            if task is not None and task is not this and task.get_loop() is loop:
                self._cancelled.add(task)
                task.cancel()
        if self._cancelled:
            await self._all_ended.wait()
        await self._inner.aclose()


def _closed(request: PreparedRequest) -> GatewayConnectionError:
    error = closed_error()
    error.request_id = request.request_id
    return error
