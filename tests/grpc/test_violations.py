"""Servers that break the rules of HTTP/2, and what they are told."""

from __future__ import annotations

import pytest

from batch_gateway.errors import BadResponseError, GatewayConnectionError, InferenceError
from batch_gateway.wire.http2.frames import PREFACE
from tests.grpc.conftest import Bench, soon
from tests.grpc.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Conversation,
    data,
    frame,
    headers,
    reset,
    settings,
    window_update,
)
from tests.http.native.raw_server import Peer, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """What bytes mean is the same on every event loop."""
    return "asyncio"


VIOLATIONS = {
    "no settings first": (1, lambda: frame(PING, 0, 0, b"12345678")),
    "a settings frame of a broken length": (6, lambda: frame(SETTINGS, 0, 0, b"12345")),
    "settings on a stream": (1, lambda: frame(SETTINGS, 0, 1)),
    "an acknowledgement with content": (6, lambda: frame(SETTINGS, ACK, 0, b"123456")),
    "settings that allow push": (1, lambda: settings(push=1)),
    "an impossible window": (3, lambda: settings(window=2**31)),
    "frames that are too small": (1, lambda: settings(frame=16_383)),
    "a window that overflows by settings": (
        3,
        lambda: settings() + window_update(1, 2**31 - 1 - 65_535) + settings(window=65_600),
    ),
    "a window that overflows": (3, lambda: window_update(0, 2**31 - 1)),
    "a window update of nothing": (1, lambda: window_update(0, 0)),
    "a window update of a broken length": (6, lambda: frame(WINDOW_UPDATE, 0, 0, b"123")),
    "a ping on a stream": (1, lambda: frame(PING, 0, 1, b"12345678")),
    "a ping of a broken length": (6, lambda: frame(PING, 0, 0, b"1234567")),
    "a farewell on a stream": (1, lambda: frame(GOAWAY, 0, 1, b"12345678")),
    "a farewell of a broken length": (6, lambda: frame(GOAWAY, 0, 0, b"1234567")),
    "a push": (1, lambda: frame(PUSH_PROMISE, END_HEADERS, 1, b"\x00\x00\x00\x02")),
    "a frame that is too large": (6, lambda: b"\x02\x00\x01\x00\x00\x00\x00\x00\x01"),
    "content on a stream that was never opened": (1, lambda: data(9, b"")),
    "content on no stream": (1, lambda: data(0, b"")),
    "headers on a stream of the server's own": (1, lambda: headers(2)),
    "a reset of a stream that was never opened": (1, lambda: reset(9, 8)),
    "a reset of a broken length": (6, lambda: frame(RST_STREAM, 0, 1, b"123")),
    "more padding than frame": (1, lambda: frame(DATA, PADDED, 1, b"\x05abcd")),
    "padding without its length": (6, lambda: frame(DATA, PADDED, 1)),
    "headers that do not decode": (9, lambda: frame(HEADERS, END_HEADERS, 1, b"\xbf\xff\xff")),
    "a table that was not allowed": (9, lambda: frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f")),
    "an entry of a table that is not kept": (9, lambda: frame(HEADERS, END_HEADERS, 1, b"\xbe")),
    "a continuation of nothing": (1, lambda: frame(CONTINUATION, END_HEADERS, 1)),
    "a continuation of something else": (
        1,
        lambda: frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 3),
    ),
    "a frame within headers": (1, lambda: frame(HEADERS, 0, 1, b"") + data(1, b"")),
    "headers without end": (
        11,
        lambda: frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, b"\x00" * 40_000) * 2,
    ),
    "headers in ever more frames": (
        11,
        lambda: frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 100,
    ),
    "a bomb of headers": (
        11,
        lambda: frame(HEADERS, END_HEADERS, 1, b"\x82" * 2000),
    ),
}


@pytest.mark.parametrize("what", VIOLATIONS)
async def test_a_server_that_breaks_the_rules_is_told_which_and_left(
    bench: Bench, what: str
) -> None:
    code, frames = VIOLATIONS[what]
    farewells: list[tuple[int, int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        if len(server.peers) > 1:
            await (await Conversation.begin(peer)).answer_all()
        if what == "no settings first":
            await peer.send(frames())
            conversation = Conversation(peer)
            await peer.reader.readexactly(len(PREFACE))
        else:
            conversation = await Conversation.begin(peer)
            await conversation.request()
            await conversation.send(frames())
        farewells.append(await conversation.next(GOAWAY))
        await peer.gone()

    server, channel = await bench.raw(script)
    with pytest.raises(InferenceError, match=r"127\.0\.0\.1:\d+ ") as caught:
        await channel.unary("/s/M", b"x", deadline=soon())
    assert isinstance(caught.value, BadResponseError | GatewayConnectionError)
    assert caught.value.is_retryable
    assert len(caught.value.message) < 200
    await wait_until(lambda: bool(farewells))
    assert int.from_bytes(farewells[0][3][4:8]) == code
    await wait_until(lambda: channel.statistics().connections == 0)
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"1"  # over another connection
