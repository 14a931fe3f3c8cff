"""Ending whatever is under way, wherever in the client it waits, when the client is closed."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.errors import GatewayConnectionError
from batch_gateway.http.connection_errors import closed_error

__all__ = ["ClosingTransport"]

_Task = asyncio.Task[Any] | None


class ClosingTransport:
    """The outermost layer: when `aclose` returns, no request waits in one of those below.

    A request may be with the gateway, or wait for its turn, for a retry, or for a reader of its
    chunks. The task that sends it is cancelled, and the cancellation becomes a
    GatewayConnectionError here, unless somebody else cancels that task as well.

    Attributes:
        pass_on: the `send` of the layer below, for who calls `begin` and `end` himself: each
            coroutine more costs every request time, and memory while it waits.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.pass_on = inner.send
        self._closed = False
        self._tasks: set[_Task] = set()
        self._cancelled: set[_Task] = set()
        self._all_ended = asyncio.Event()

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        task = self.begin(request, asyncio.get_running_loop())
        try:
            return await self.pass_on(request)
        finally:
            self.end(task, request)

    def begin(self, request: PreparedRequest, loop: asyncio.AbstractEventLoop) -> _Task:
        """This task, of the running `loop`, sends a request.

        Raises GatewayConnectionError once the client is closed.
        """
        if self._closed:
            raise _closed(request)
        task = asyncio.current_task(loop)
        self._tasks.add(task)
        return task

    def end(self, task: _Task, request: PreparedRequest) -> None:
        """To be called in a `finally`.

        Raises GatewayConnectionError instead of a cancellation that was the closing's.
        """
        self._tasks.discard(task)
        if self._closed:
            self._left(task, request)

    def _left(self, task: _Task, request: PreparedRequest) -> None:
        is_ours = task is not None and task in self._cancelled
        self._cancelled.discard(task)
        if not self._cancelled:
            self._all_ended.set()
        if task is None or not is_ours:
            return
        if not task.uncancel() and isinstance(sys.exception(), asyncio.CancelledError):
            raise _closed(request) from None

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
