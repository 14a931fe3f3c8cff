"""The server's side of HTTP/2, frame by frame, as a test has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import hpack

from batch_gateway.wire.http2.frames import PREFACE
from tests.http.native.raw_server import LIMIT, Peer

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITISED = 0x4, 0x8, 0x20
TABLE_SIZE, PUSH, MAX_STREAMS, WINDOW, FRAME_SIZE = 1, 2, 3, 4, 5

OK_HEADERS = ((":status", "200"), ("content-type", "application/grpc"))
OK_TRAILERS = (("grpc-status", "0"),)

Fields = Iterable[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def block(fields: Fields) -> bytes:
    """A header block as a server encodes it that was told to keep no table."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder.encode(list(fields))


def headers(stream: int, fields: Fields = OK_HEADERS, *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


def trailers(stream: int, fields: Fields = OK_TRAILERS) -> bytes:
    return headers(stream, fields, end=True)


def message(content: bytes) -> bytes:
    return b"\x00" + len(content).to_bytes(4) + content


def data(stream: int, content: bytes, *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, content)


def settings(**values: int) -> bytes:
    names = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5}
    entries = (names[name].to_bytes(2) + value.to_bytes(4) for name, value in values.items())
    return frame(SETTINGS, 0, 0, b"".join(entries))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def goaway(last: int, code: int = 0, said: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4) + said)


class Conversation:
    """Reads what the client sends, and answers."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.settings: dict[int, int] = {}

    @classmethod
    async def begin(cls, peer: Peer, **values: int) -> Conversation:
        """Exchange greetings; `values` are the server's settings."""
        self = cls(peer)
        async with asyncio.timeout(LIMIT):
            assert await peer.reader.readexactly(len(PREFACE)) == PREFACE
            kind, _, _, payload = await self.read()
        assert kind == SETTINGS
        for at in range(0, len(payload), 6):
            name, value = payload[at : at + 2], payload[at + 2 : at + 6]
            self.settings[int.from_bytes(name)] = int.from_bytes(value)
        await peer.send(settings(**values))
        return self

    async def read(self) -> tuple[int, int, int, bytes]:
        """The next frame: type, flags, stream, payload."""
        async with asyncio.timeout(LIMIT):
            head = await self.peer.reader.readexactly(9)
            payload = await self.peer.reader.readexactly(int.from_bytes(head[:3]))
        return head[3], head[4], int.from_bytes(head[5:]), payload

    async def next(self, *kinds: int) -> tuple[int, int, int, bytes]:
        """The next frame of these kinds."""
        while True:
            found = await self.read()
            if found[0] in kinds:
                return found

    async def request(self) -> int:
        """The number of the next stream that the client opens."""
        return (await self.next(HEADERS))[2]

    async def send(self, *frames: bytes) -> None:
        await self.peer.send(b"".join(frames))

    async def answer(self, stream: int, *messages: bytes) -> None:
        """A whole good response."""
        content = (data(stream, message(one)) for one in messages)
        await self.send(headers(stream), *content, trailers(stream))

    async def answer_all(self) -> None:
        """Answer every call with its number, until the client hangs up."""
        while True:
            stream = await self.request()
            await self.answer(stream, str(stream).encode())
