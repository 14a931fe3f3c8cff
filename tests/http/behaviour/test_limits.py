"""Limits on what a server may send: header size, header count, body size, endless streams."""

from __future__ import annotations

import zlib

import pytest

from batch_gateway.errors import BadResponseError

from .conftest import Connect, Post
from .scripted_server import Peer, answer, serving

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


def framed(how: str, body: bytes) -> bytes:
    if how == "length":
        return answer(body)
    if how == "chunked":
        return CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return UNTIL_CLOSE + body


@pytest.mark.parametrize("how", ["length", "chunked", "close"])
async def test_a_body_of_exactly_the_limit_is_read(connect: Connect, post: Post, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(framed(how, b"x" * 100_000))
        await peer.drain()

    async with serving(script) as server:
        response = await post(connect(server.base_url, max_response_bytes=100_000))
    assert response.body == b"x" * 100_000


@pytest.mark.parametrize("how", ["length", "chunked", "close"])
async def test_a_body_one_byte_over_the_limit_is_a_bad_response_that_names_it(
    connect: Connect, post: Post, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(framed(how, b"x" * 100_001))
        await peer.until_client_left()

    async with serving(script) as server:
        exchanger = connect(server.base_url, max_response_bytes=100_000)
        with pytest.raises(BadResponseError, match=r"max_response_bytes \(100000 bytes\)"):
            await post(exchanger)


@pytest.mark.parametrize("head", [CHUNKED, UNTIL_CLOSE, b"HTTP/1.1 200 OK\r\n"])
async def test_an_endless_response_is_cut_off(connect: Connect, post: Post, head: bytes) -> None:
    """Chunks, a body and headers without end: the client leaves instead of filling memory."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(head)
        piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        if head == b"HTTP/1.1 200 OK\r\n":
            piece = b"X-Header: " + b"y" * 1000 + b"\r\n"
        while True:
            peer.send(piece)
            await peer.drain()
            sent += len(piece)

    async with serving(script) as server:
        with pytest.raises(BadResponseError):
            await post(connect(server.base_url, max_response_bytes=1_000_000))
    # What the kernel buffers on both sides comes on top of the limit.
    assert sent < 16_000_000


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X-Long: " + b"y" * 70_000 + b"\r\n", id="one header of 70 kB"),
        pytest.param(b"".join(b"X-%d: 1\r\n" % n for n in range(5000)), id="5,000 headers"),
        pytest.param(b"X" * 70_000 + b": 1\r\n", id="a name of 70 kB"),
    ],
)
async def test_headers_beyond_reason_are_a_bad_response(
    connect: Connect, post: Post, head: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n", head, b"Content-Length: 2\r\n\r\n{}")
        await peer.until_client_left()

    async with serving(script) as server:
        with pytest.raises(BadResponseError):
            await post(connect(server.base_url))


async def test_headers_that_gateways_really_send_fit(connect: Connect, post: Post) -> None:
    """A 32 KiB header and a hundred small ones."""
    headers = [b"X-Long: " + b"y" * 32_768, *[b"X-%d: 1" % n for n in range(100)]]

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b"{}", *headers))
        await peer.drain()

    async with serving(script) as server:
        response = await post(connect(server.base_url))
    assert len(response.headers["x-long"]) == 32_768
    assert response.headers["x-99"] == "1"


async def test_a_thousand_headers_are_read(connect: Connect, post: Post) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b"{}", *[b"X-%d: 1" % n for n in range(990)]))
        await peer.until_client_left()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        assert (await post(exchanger)).headers["x-989"] == "1"
        await exchanger.aclose()


async def test_a_small_body_that_unpacks_to_more_than_the_limit_is_refused(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        packed = zlib.compress(b"\0" * 10_000_000)
        peer.send(answer(packed, b"Content-Encoding: deflate"))
        await peer.drain()

    async with serving(script) as server:
        with pytest.raises(BadResponseError, match="max_response_bytes"):
            await post(connect(server.base_url, max_response_bytes=1_000_000))
