"""Fuzzing of streamed answers from a connection's bytes on, with all shortcuts and without any.

    python -m fuzz.targets --seconds 300 stream_reads

An input is a recipe, as for `quick_reader`: it makes answers that one gateway sends one after
another, how the bytes of each are framed and cut into reads, and when these come. They are read
twice, in a time of their own: as a client reads them, by forms and past the HTTP parser, and in the
general way alone. The answers, their chunks, errors and times must be the same, and so must be what
is left of the connection for the next answer.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.gateway_habits import GatewayHabits
from batch_gateway.client.streaming.known_forms import KnownForms
from batch_gateway.client.streaming.quick_reader import QuickReader
from batch_gateway.client.streaming.receive import Reception, StreamReader
from batch_gateway.client.streaming.repeats import Put
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.errors import InferenceError
from batch_gateway.http import connection as connection_module
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.connection import Connection
from batch_gateway.http.redaction import Redactor
from batch_gateway.http.usual_response import usual_stream
from batch_gateway.wire.chunks import Chunk
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.transfer_chunks import whole_chunks
from fuzz.engine import run
from fuzz.gateway_recipes import IDLE, Answer, answers
from fuzz.quick_reader import seen

__all__ = ["SEEDS", "WORDS", "check"]

SEEDS = Path(__file__).parent / "seeds" / "stream_reads"

_BEGIN, _DEADLINE = 15.0, 60.0
# So many turns of the loop let whoever reads come to a rest.
_TURNS = 12

WORDS = tuple("".join(map(chr, word)) for word in ((0,) * 9, (0, 1, 2, 3) * 3, (100,) * 6, (60,)))


class _GeneralReader(QuickReader):
    def take(self, data: bytes, put: Put | None) -> None:
        reader = self._general
        for value in reader.feed(data):
            if put is not None:
                put((reader.typed(value),), 1)


class _NoForms(KnownForms):
    def reader(self, endpoint: str, model: str, most_answer: int, most_event: int) -> QuickReader:
        return _GeneralReader(endpoint, most_answer, most_event)


class _PlainStream:
    """A response that is only read."""

    def __init__(self, stream: BodyStream) -> None:
        self.read = stream.read
        self._stream = stream

    @property
    def status_code(self) -> int:
        return self._stream.status_code

    @property
    def headers(self) -> Headers:
        return self._stream.headers


class _Sink:
    begun = False

    def __init__(self, most: int) -> None:
        self.chunks: list[Any] = []
        self._most = most
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        return self._waiting >= self._most

    def put(self, chunks: Iterable[Chunk], count: int) -> None:
        before = len(self.chunks)
        self.chunks += map(seen, chunks)
        assert len(self.chunks) == before + count
        self._waiting += count

    async def room(self) -> None:
        await asyncio.sleep(0)
        self._waiting = 0


class _Transport(asyncio.Transport):
    """Of a socket that nobody writes to."""

    socket, _ = _SOCKETS = socket.socketpair()

    def __init__(self, lost: Callable[[Exception | None], None]) -> None:
        super().__init__({"socket": self.socket})
        self._lost = lost
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.end(None)

    close = abort

    def end(self, cause: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lost, cause)


class _OwnTime(asyncio.SelectorEventLoop):
    """A loop whose time passes when it is told."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class _Line:
    """A connection to the gateway, and all that is seen of what comes over it."""

    def __init__(self, loop: _OwnTime, is_quick: bool) -> None:
        self._loop = loop
        self._is_quick = is_quick
        self._habits = GatewayHabits()
        if not is_quick:
            self._habits.forms = _NoForms()
        self._open()
        self.seen: list[Any] = []

    def _open(self) -> None:
        self._connection = Connection("gateway:1", 10**6, lambda _: None)
        self._transport = _Transport(self._connection.connection_lost)
        self._connection.connection_made(self._transport)

    async def answer(self, answer: Answer) -> None:
        if not self._connection.reusable:
            self._transport.abort()
            await self._rest()
            self._open()
        # So that it begins at the same time, however long the end of the one before took.
        self._loop.now += 1000.0 - self._loop.now % 1000.0
        sink = None if answer.room is None else _Sink(answer.room)
        task = self._loop.create_task(self._receive(answer, sink))
        await self._rest()
        for read in answer.reads:
            await self._pass(read.gap)
            # A connection that has served its answer stays, whatever was to come.
            if read.data:
                if not self._transport.is_closing():
                    self._connection.data_received(read.data)
            elif not task.done():
                if read.data is None:
                    self._connection.eof_received()
                self._transport.end(None if read.data is None else ConnectionResetError())
            await self._rest()
            self._look(task, sink)
        while not task.done():
            await self._pass(1.0)
        self._look(task, sink)
        self.seen.append((task.result(), sink and sink.chunks))
        if not self._habits.says_done:
            self._transport.abort()

    def _look(self, task: asyncio.Task[Any], sink: _Sink | None) -> None:
        """When an answer without its last word is not waited for any longer, its connection may
        be over or may have its time to end in good order: nobody uses it again.
        """
        count, connection = 0 if sink is None else len(sink.chunks), self._connection
        states = task.done(), connection.reusable, self._transport.is_closing(), self._loop.now
        self.seen.append((count, self._habits.says_done and states))

    async def _receive(self, answer: Answer, sink: _Sink | None) -> Any:
        connection, now = self._connection, self._loop.now
        first: list[float] = []

        def set_deadline(at: float) -> None:
            if connection.is_busy:
                connection.deadline = at

        reader = StreamReader(SYSTEM_CLOCK, Redactor(()), answer.limits, self._habits)
        request = PreparedRequest(
            request_id="r",
            model="m",
            endpoint=answer.endpoint,
            body=answer.asked,
            started=now,
            sink=sink,
            on_first_token=first.append,
        )
        reception = Reception(reader, request, now, now + _BEGIN)
        # Not every exchanger does so.
        is_early = self._is_quick and len(answer.reads) % 3 > 0
        stream = BodyStream(
            "gateway:1",
            connection.pause_reading,
            set_deadline,
            deadline=now + _DEADLINE,
            begin_by=now + _BEGIN,
            idle_timeout=IDLE,
            early=reception.begin if is_early else None,
        )
        try:
            connection.begin(b"POST", b"", now + _BEGIN, stream)
            await stream.wait_head()
            response = await reception.run(stream if self._is_quick else _PlainStream(stream))
            return _of_response(response), first
        except InferenceError as error:
            return _of_error(error), first, self._loop.now
        finally:
            if not connection.reusable:
                connection.abort()
            stream.close()

    async def _pass(self, seconds: float) -> None:
        while seconds > 0:
            step = min(1.0, seconds)
            seconds -= step
            self._loop.now += step
            if self._connection.is_busy and self._connection.deadline <= self._loop.now:
                self._connection.expire()
            await self._rest()

    async def _rest(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)


def _of_response(response: InferenceResponse) -> Any:
    times = response.duration, response.time_to_first_token
    return response.status_code, response.headers.raw, response.body, times


def _of_error(error: InferenceError) -> Any:
    return type(error), error.message, error.code, error.is_retryable, error.status_code, error.body


def _nothing(_: bytes) -> None:
    return None


def _read(sent: list[Answer], is_quick: bool) -> list[Any]:
    # Another thread may wait for its own selector.
    loop = _OwnTime(selectors.SelectSelector())

    async def all_of_them() -> list[Any]:
        line = _Line(loop, is_quick)
        for answer in sent:
            await line.answer(answer)
        return line.seen

    # Everything to the parser, heads and whole chunks as well.
    head, chunks = (usual_stream, whole_chunks) if is_quick else (_nothing, _nothing)
    try:
        with (
            mock.patch.object(connection_module, "usual_stream", head),
            mock.patch.object(connection_module, "whole_chunks", chunks),
            mock.patch.object(time, "monotonic", loop.time),
            mock.patch.object(SYSTEM_CLOCK, "monotonic", loop.time, create=True),
        ):
            return loop.run_until_complete(all_of_them())
    finally:
        loop.close()


def check(data: bytes) -> None:
    """Fail where the quick way and the general one differ in anything."""
    sent = answers(data)
    general, quick = _read(sent, False), _read(sent, True)
    for one, other in zip(general, quick, strict=True):
        assert one == other, (one, other)


if __name__ == "__main__":
    run(check, "streamed answers", SEEDS, WORDS)
