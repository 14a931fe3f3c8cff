"""A read that is one whole chunk goes past the parser, and means what the parser makes of it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable, Sequence

import pytest

from batch_gateway.client.streaming.quick_reader import QuickReader
from batch_gateway.client.streaming.repeats import Repeats
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.connection import Connection
from batch_gateway.http.exchange import Early, EventTaker
from batch_gateway.http.response_reader import ResponseReader
from batch_gateway.wire.chunks import Chunk
from batch_gateway.wire.headers import Headers

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NEVER = float("inf")


def event(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"id": "1", "choices": [choice]}).encode() + b"\n\n"


def chunk(*events: bytes) -> bytes:
    body = b"".join(events)
    return b"%x\r\n%b\r\n" % (len(body), body)


def odd_chunk(line: bytes, body: bytes) -> bytes:
    return line % len(body) + b"\r\n" + body + b"\r\n"


def new_stream(early: Early | None = None) -> BodyStream:
    return BodyStream(
        "the gateway",
        lambda _: None,
        lambda _: None,
        deadline=NEVER,
        begin_by=NEVER,
        idle_timeout=60,
        early=early,
    )


END = chunk(event("", "stop"), b"data: [DONE]\n\n") + b"0\r\n\r\n"
TEXTS = ["one", " two", " three", ' "four"', " fünf", "x" * 40, " data: ", "last"]


async def read(reads: Sequence[bytes]) -> tuple[str, int, int]:
    """The text of an answer that comes so, how many reads went past the parser, and its bytes."""
    near, far = socket.socketpair()
    loop, passed = asyncio.get_running_loop(), 0
    reader, texts = QuickReader("/v1/chat/completions", 10**9, 10**6), list[str]()

    def put(chunks: Iterable[Chunk], _: int) -> None:
        for one in chunks:
            assert one.text == one.raw["choices"][0]["delta"]["content"]
            texts.append(one.text)

    def take(piece: bytes) -> float:
        reader.take(piece, put)
        return 0.0 if reader.complete else NEVER

    class Counted:
        def __init__(self, events: Repeats) -> None:
            self._events = events

        def take(self, data: bytes) -> int:
            return self._events.take(data, put)

        def take_chunk(self, data: bytes) -> int:
            nonlocal passed
            size = self._events.take_chunk(data, put)
            passed += size > 0
            return size

    def quick() -> EventTaker | None:
        return None if reader.ready is None else Counted(reader.ready)

    with far:
        _, connection = await loop.create_connection(
            lambda: Connection("the gateway", 10**6, lambda _: None), sock=near
        )
        stream = new_stream()
        connection.begin(b"POST", b"", NEVER, stream)
        connection.data_received(HEAD + chunk(event("one")))
        reader.take(await stream.read(), put)
        reading = loop.create_task(stream.hand_on(take, 10**6, quick))
        await asyncio.sleep(0)
        for data in reads:
            connection.data_received(data)
        assert await reading
        connection.abort()
        await connection.wait_lost()
    [choice] = json.loads(reader.finish())["choices"]
    assert "".join(texts) == choice["message"]["content"]
    return choice["message"]["content"], passed, reader.chunks


async def test_chunks_that_come_alone_go_past_the_parser() -> None:
    chunks = [chunk(event(text)) for text in TEXTS[1:]]
    # The first shows that one whole chunk is what comes.
    assert await read([*chunks, END]) == ("".join(TEXTS), len(chunks) - 1, len(TEXTS) + 1)


async def test_some_chunks_that_come_in_one_read_go_past_the_parser_together() -> None:
    chunks = [chunk(event(text)) for text in ["one", " two", " three", "x" * 40, "last"]]
    reads = [chunks[1], b"".join(chunks[2:4]), b"".join(chunks), chunks[4], END]
    text, passed, count = await read(reads)
    assert text == "one two three" + "x" * 40 + "one two three" + "x" * 40 + "lastlast"
    assert (passed, count) == (3, 11)


async def test_an_answer_is_the_same_wherever_its_reads_are_cut() -> None:
    chunks = [chunk(event(text)) for text in TEXTS[1:]]
    wire = b"".join(chunks[2:5])
    for cut in range(len(wire)):
        text, _, count = await read([*chunks[:2], wire[:cut], wire[cut:], *chunks[5:], END])
        assert (text, count) == ("".join(TEXTS), len(TEXTS) + 1)


ODD = [
    odd_chunk(b"%X", event(" two" * 12)),
    odd_chunk(b"0%x", event(" two" * 12)),
    odd_chunk(b"%x;name=value", event(" two" * 12)),
    odd_chunk(b"%x ", event(" two" * 12)),
    chunk(event(" two" * 6), event(" two" * 6)),
    chunk(event(" two" * 6)) + chunk(event(" two" * 6)),
    chunk(event(" two" * 12)[:-1]) + chunk(b"\n"),
    chunk(event(" two" * 12), b": a comment\n\n"),
]


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_not_one_chunk_with_one_event_is_left_to_the_parser(odd: bytes) -> None:
    plain = chunk(event(" plain"))
    for size in (1, 7, len(odd)):
        pieces = [odd[at : at + size] for at in range(0, len(odd), size)]
        text, _, _ = await read([plain, plain, *pieces, plain, plain, END])
        assert text == "one plain plain" + " two" * 12 + " plain plain"


async def test_the_next_answers_of_a_connection_need_no_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = socket.socketpair()
    taken: list[bytes] = []

    def take(piece: bytes) -> float:
        taken.append(piece)
        return NEVER

    async def answer(connection: Connection, reads: Sequence[bytes]) -> None:
        stream = new_stream(lambda _: (take, 10**6, None))
        connection.begin(b"POST", b"", NEVER, stream)
        for data in reads:
            connection.data_received(data)
        await stream.wait_head()
        assert stream.is_over

    def unwanted(*_: object) -> None:
        raise AssertionError("to the parser")

    loop = asyncio.get_running_loop()
    with far:
        _, connection = await loop.create_connection(
            lambda: Connection("the gateway", 10**6, lambda _: None), sock=near
        )
        one, two = event("one"), event("two")
        await answer(connection, [HEAD + chunk(one), END])
        monkeypatch.setattr(ResponseReader, "feed", unwanted)
        taken.clear()
        await answer(connection, [HEAD, chunk(one), chunk(one) + chunk(two), END])
        await answer(connection, [HEAD + chunk(one) + END])
        assert connection.reusable
        connection.abort()
        await connection.wait_lost()
    end = event("", "stop") + b"data: [DONE]\n\n"
    assert taken == [one, one + two, end, one + end]


def test_only_what_has_the_first_line_of_a_chunk_is_taken_for_one() -> None:
    reader = QuickReader("/v1/chat/completions", 10**9, 10**6)
    reader.take(event("one"), None)
    assert reader.ready is not None
    for length in range(1, 300):
        more = event("x" * length)
        # No chunk is as long as some of these are in all.
        assert reader.ready.take_chunk(b"\r\n" + more + b"\r\n") == 0
        assert reader.ready.take_chunk(chunk(more)) == len(more)


def fed(*reads: bytes) -> bool:
    class Sink:
        def head_received(self, status_code: int, headers: Headers) -> None: ...
        def body_received(self, data: bytes) -> None: ...

    reader = ResponseReader("the gateway", 10**6)
    reader.begin(Sink())
    for data in reads:
        reader.feed(data)
    return reader.is_between_chunks


def test_it_is_known_that_a_chunk_has_ended_only_where_one_whole_chunk_was_read() -> None:
    whole = chunk(event("one"))
    length = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    assert fed(HEAD, whole)
    assert fed(HEAD + whole[:9], whole[9:], whole)
    assert not fed(HEAD + whole)
    assert not fed(HEAD, whole[:9], whole[9:])
    assert not fed(HEAD, whole, whole[:9])
    assert not fed(HEAD, whole + whole)
    assert not fed(length, whole)
    assert not fed(HEAD + b"ffff\r\n", whole)
    assert not fed(HEAD, chunk(b"5\r\nhello\r\n"))


@pytest.mark.parametrize("until", [NEVER, 0.0], ids=["all was taken", "some was left"])
async def test_the_end_of_a_body_is_told_at_once_if_all_of_it_was_taken(until: float) -> None:
    stream, told = new_stream(), list[bytes]()

    def take(piece: bytes) -> float:
        told.append(piece)
        return until

    reading = asyncio.ensure_future(stream.hand_on(take, 10, at_end=lambda: told.append(b"end")))
    await asyncio.sleep(0)
    stream.body_received(b"last")
    stream.ended(None)
    assert told == ([b"last", b"end"] if until else [b"last"])
    await reading
    assert await stream.read() == b""
