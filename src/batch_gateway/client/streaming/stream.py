"""`client.stream(request)`: the chunks of an answer as an async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable
from types import AsyncGeneratorType
from typing import Any, Self, cast

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
        self._request_id = request.request_id
        self._reading = reading = _Reading()
        # Refers to everything but this object, so that nothing keeps it that nobody reads.
        chunks = reading.chunks(stack, msgspec.structs.replace(request, sink=reading))
        self._chunks = cast("AsyncGeneratorType[Chunk, None]", chunks)

    @property
    def request_id(self) -> str:
        """The one that is sent."""
        return self._request_id

    @property
    def response(self) -> InferenceResponse | None:
        """The whole answer, as `generate` gives it, once the iteration has come to its end."""
        task = self._reading.task
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

    def __aiter__(self) -> AsyncIterator[Chunk]:
        # Not this object: a method in Python for each chunk costs more than the chunk.
        self._require_reader()
        return self._chunks

    def __anext__(self) -> Coroutine[Any, Any, Chunk]:
        self._require_reader()
        return anext(self._chunks)

    def _require_reader(self) -> None:
        reading = self._reading
        if reading.closed or reading.loop is None:
            return
        if reading.loop is not asyncio.get_running_loop():
            raise InvalidRequestError(
                "this stream was read in another event loop, to which its connection belongs;"
                " read all of it in one",
                request_id=self._request_id,
            )
        if self._chunks.ag_running:
            raise RuntimeError("another task is reading this stream; iterate over it once")

    async def aclose(self) -> None:
        """Close the request if it is still under way; nothing more is read."""
        await self._reading.close()
        if not self._chunks.ag_running:
            await self._chunks.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


class _Reading:
    """Chunks on their way from the request to its reader; a `ChunkSink`.

    Attributes:
        task: the request, once the first chunk was asked for, and `loop` the loop that it is in.
        closed: nothing more is read.
    """

    __slots__ = (
        "_batches",
        "_over",
        "_reader",
        "_waiting",
        "_writer",
        "begun",
        "closed",
        "is_full",
        "loop",
        "task",
    )

    def __init__(self) -> None:
        self.task: asyncio.Task[InferenceResponse] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.begun = self.closed = self.is_full = self._over = False
        self._batches: list[Iterable[Chunk]] = []
        # How many chunks were put since all had been read.
        self._waiting = 0
        # What whoever reads waits for, and what the request does.
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    # --- the request's side ---

    def put(self, chunks: Iterable[Chunk], count: int) -> None:
        self.begun = True
        self._batches.append(chunks)
        self._waiting += count
        if self._waiting >= _MOST_WAITING:
            self.is_full = True
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def room(self) -> None:
        while self.is_full:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def _ended(self, task: asyncio.Task[InferenceResponse]) -> None:
        self._over = True
        if not task.cancelled():
            # Marks it as seen: a reader that has left will not look.
            task.exception()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- the reader's side ---

    async def chunks(self, stack: Transport, request: PreparedRequest) -> AsyncGenerator[Chunk]:
        """Send the request, and give its chunks. Raises the error that it ends with."""
        loop = self.loop = asyncio.get_running_loop()
        task = self.task = loop.create_task(stack.send(request))
        task.add_done_callback(self._ended)
        batches = self._batches
        try:
            while True:
                # More may come while they are read.
                for batch in batches:
                    for chunk in batch:
                        yield chunk
                batches.clear()
                self._waiting = 0
                if self.is_full:
                    self._go_on()
                if self._over:
                    break
                self._reader = loop.create_future()
                await self._reader
            if not self.closed:
                task.result()
        finally:
            await self.close()

    def _go_on(self) -> None:
        self.is_full = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    async def close(self) -> None:
        self.closed = True
        self._batches.clear()
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])
