"""`client.stream(request)`: the chunks of an answer as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Self

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.errors import InvalidRequestError
from batch_gateway.wire.chunks import Chunk
from batch_gateway.wire.usage import Usage

__all__ = ["InferenceStream"]

# As many chunks as may wait for a reader that is behind; then the gateway has to wait.
_MOST_WAITING = 16


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    status: str | None = None


_decode = msgspec.json.Decoder(_Body).decode


class InferenceStream:
    """The answer to one request while it is being generated; iterate over it once.

    The request is sent when the first chunk is asked for. The iteration ends when the answer is
    complete, and raises InferenceError otherwise: an error before the first chunk was retried as
    the configuration says, one after it is not, but says with `is_retryable` whether the whole
    request is worth sending again.

    One task reads it, in one event loop: another that reads it at the same time gets a
    RuntimeError, another loop an InvalidRequestError.

    Leaving the loop, cancelling the task that reads, and `aclose` close the request, so that the
    server can stop generating. Use it as an async context manager to be sure of it at once.
    """

    def __init__(self, stack: Transport, request: PreparedRequest) -> None:
        self._stack = stack
        self._channel = _Channel()
        self._chunks = self._channel.chunks
        self._request = msgspec.structs.replace(request, sink=self._channel)
        self._task: asyncio.Task[InferenceResponse] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def request_id(self) -> str:
        """The one that is sent."""
        return self._request.request_id

    @property
    def response(self) -> InferenceResponse | None:
        """The whole answer, as `generate` gives it, once the iteration has come to its end."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the iteration has come to its end; None if the gateway sent none."""
        return None if self.response is None else self.response.usage

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended ("stop", "length", "tool_calls", …), at the end."""
        return self.finish_reasons.get(0)

    @property
    def finish_reasons(self) -> dict[int, str]:
        """The same for every choice, by its index; of `/v1/responses` its status, as number 0."""
        if self.response is None:
            return {}
        try:
            body = _decode(self.response.body)
        except msgspec.DecodeError:
            return {}
        if body.status is not None:
            return {0: body.status}
        reasons = ((choice.index, choice.finish_reason) for choice in body.choices)
        return {index: reason for index, reason in reasons if reason is not None}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        chunks, channel, loop = self._chunks, self._channel, asyncio.get_running_loop()
        if chunks and loop is self._loop and not self._closed:
            if channel.writer is not None:
                _wake(channel.writer)
            return chunks.popleft()
        if self._closed:
            raise StopAsyncIteration
        if self._task is None or loop is not self._loop or channel.is_waited_for:
            self._begin_or_refuse(loop)
        try:
            while not chunks and not channel.over:
                channel.reader = loop.create_future()
                await channel.reader
        except BaseException:
            await self.aclose()
            raise
        if chunks:
            return chunks.popleft()
        self._closed = True
        if self._task is not None:
            # Raises what the request ended with, if not with an answer.
            self._task.result()
        raise StopAsyncIteration

    def _begin_or_refuse(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._task is None:
            self._loop, self._task = loop, loop.create_task(self._stack.send(self._request))
            self._task.add_done_callback(self._channel.ended)
        elif loop is not self._loop:
            raise InvalidRequestError(
                "this stream was read in another event loop, to which its connection belongs;"
                " read all of it in one",
                request_id=self.request_id,
            )
        else:
            raise RuntimeError("another task is reading this stream; iterate over it once")

    async def aclose(self) -> None:
        """Close the request if it is still under way; nothing more is read."""
        self._closed = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Left in the middle by a `break`: nobody will read the rest. The collector may run in
        # any thread, and after the loop.
        task = self._task
        if task is not None and not task.done() and not task.get_loop().is_closed():
            task.get_loop().call_soon_threadsafe(task.cancel)


class _Channel:
    """Chunks on their way from the request to its reader; a `ChunkSink`.

    Attributes:
        chunks: those that have not been read.
        over: no more will come.
        reader: what whoever reads waits for, `writer`: what the request does.
    """

    __slots__ = ("begun", "chunks", "over", "reader", "writer")

    def __init__(self) -> None:
        self.begun = False
        self.chunks: deque[Chunk] = deque()
        self.over = False
        self.reader: asyncio.Future[None] | None = None
        self.writer: asyncio.Future[None] | None = None

    @property
    def is_waited_for(self) -> bool:
        return self.reader is not None and not self.reader.done()

    @property
    def is_full(self) -> bool:
        return len(self.chunks) >= _MOST_WAITING

    def put(self, chunks: Iterable[Chunk]) -> None:
        self.begun = True
        self.chunks.extend(chunks)
        _wake(self.reader)

    async def room(self) -> None:
        while self.is_full:
            self.writer = asyncio.get_running_loop().create_future()
            await self.writer
            self.writer = None

    def ended(self, task: asyncio.Task[InferenceResponse]) -> None:
        self.over = True
        if not task.cancelled():
            # Marks it as seen: a reader that has left will not look.
            task.exception()
        _wake(self.reader)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
