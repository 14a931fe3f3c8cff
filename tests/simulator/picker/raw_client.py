"""The client's side of HTTP/2 by hand, so that windows and frames can be as odd as they like."""

from __future__ import annotations

import socket
from typing import NamedTuple, Self

from hpack import Encoder

from batch_gateway.wire.http2.frames import (
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    FrameReader,
    data_frame,
    frame,
)
from batch_gateway.wire.http2.settings import FIRST_WINDOW, INITIAL_WINDOW_SIZE, settings_frame


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def frames_in(data: bytes) -> list[Frame]:
    """The whole frames at the beginning of what a server said."""
    return [Frame(*one) for one in FrameReader(2**14).feed(data)]


class RawClient:
    """A connection, on which the preface and the settings are sent at once."""

    def __init__(self, sock: socket.socket, window: int = FIRST_WINDOW) -> None:
        self.sock = sock
        self._reader = FrameReader(2**14)
        self._frames: list[Frame] = []
        sock.sendall(PREFACE + settings_frame([(INITIAL_WINDOW_SIZE, window)]))

    @classmethod
    def to(cls, port: int, window: int = FIRST_WINDOW) -> Self:
        return cls(socket.create_connection(("127.0.0.1", port), timeout=10), window)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def begin(self, stream_id: int, path: str = "/echo") -> None:
        block = Encoder().encode([(":path", path)])
        self.sock.sendall(frame(HEADERS, END_HEADERS, stream_id, block))

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.sock.sendall(data_frame(stream_id, data, end=end))

    def receive(self) -> Frame:
        while not self._frames:
            data = self.sock.recv(65_536)
            assert data, "the connection was closed"
            self._frames += [Frame(*one) for one in self._reader.feed(data)]
        return self._frames.pop(0)

    def receive_until(self, kind: int) -> list[Frame]:
        """All up to the next frame of that kind."""
        frames = [self.receive()]
        while frames[-1].kind != kind:
            frames.append(self.receive())
        return frames

    def receive_data(self) -> Frame:
        """The next DATA; what is before it is passed over."""
        return self.receive_until(DATA)[-1]
