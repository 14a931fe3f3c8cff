"""Reading responses: how bodies are framed, and what keeps a connection usable."""

from __future__ import annotations

import pytest

from batch_gateway.errors import BadResponseError

from .conftest import Connect, Post
from .scripted_server import Peer, Script, answer, serving

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def once(*parts: bytes) -> Script:
    """Answer every request with these bytes, each in a write of its own."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for part in parts:
                peer.send(part)
                await peer.drain()

    return script


def once_then_close(*parts: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            peer.send(part)
            await peer.drain()

    return script


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        pytest.param([answer(b'{"a": 1}')], b'{"a": 1}', id="content-length"),
        pytest.param([answer(b"")], b"", id="empty"),
        pytest.param([CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"], b"abcde", id="chunked"),
        pytest.param([CHUNKED, b"0\r\n\r\n"], b"", id="chunked and empty"),
        pytest.param(
            [CHUNKED, b'3;name="v;\\"x";b\r\nabc\r\n', b"0;last=1\r\n\r\n"],
            b"abc",
            id="chunk extensions",
        ),
        pytest.param(
            [CHUNKED, b"3\r\nabc\r\n0\r\nX-Checksum: 1\r\nX-More: 2\r\n\r\n"],
            b"abc",
            id="trailers",
        ),
        pytest.param(
            [bytes([byte]) for byte in CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"],
            b"abc",
            id="byte by byte",
        ),
    ],
)
async def test_a_body_is_read_to_its_end_and_the_connection_used_again(
    connect: Connect, post: Post, parts: list[bytes], body: bytes
) -> None:
    async with serving(once(*parts)) as server:
        exchanger = connect(server.base_url)
        for _ in range(3):
            response = await post(exchanger)
            assert (response.status_code, response.body) == (200, body)
        assert server.accepted == 1


async def test_a_body_without_a_length_ends_with_the_connection(
    connect: Connect, post: Post
) -> None:
    script = once_then_close(b"HTTP/1.1 200 OK\r\n\r\n", b"hello ", b"world")
    async with serving(script) as server:
        exchanger = connect(server.base_url)
        assert (await post(exchanger)).body == b"hello world"
        assert (await post(exchanger)).body == b"hello world"
        assert server.accepted == 2


async def test_http_1_0_is_understood(connect: Connect, post: Post) -> None:
    script = once_then_close(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for _ in range(2):
            assert (await post(exchanger)).body == b"{}"
        assert server.accepted == 2


async def test_connection_close_is_obeyed(connect: Connect, post: Post) -> None:
    async with serving(once(answer(b"{}", b"Connection: close"))) as server:
        exchanger = connect(server.base_url)
        for _ in range(3):
            assert (await post(exchanger)).body == b"{}"
        assert server.accepted == 3


async def test_interim_responses_are_skipped(connect: Connect, post: Post) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    script = once(b"HTTP/1.1 100 Continue\r\n\r\n", interim, interim + answer(b'"final"'))
    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for _ in range(2):
            response = await post(exchanger)
            assert response.body == b'"final"'
            assert "link" not in response.headers
        assert server.accepted == 1


async def test_a_204_has_no_body_and_leaves_the_connection_usable(
    connect: Connect, post: Post
) -> None:
    async with serving(once(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n")) as server:
        exchanger = connect(server.base_url)
        for _ in range(2):
            response = await post(exchanger)
            assert (response.status_code, response.body) == (204, b"")
        assert server.accepted == 1


@pytest.mark.parametrize("status", [302, 307, 400, 404, 429, 500, 503, 599, 799])
async def test_every_status_is_a_response_and_redirects_are_not_followed(
    connect: Connect, post: Post, status: int
) -> None:
    reply = answer(b"why", b"Location: /elsewhere", status=b"%d Whatever" % status)
    async with serving(once(reply)) as server:
        response = await post(connect(server.base_url))
        assert (response.status_code, response.body) == (status, b"why")
        assert response.headers["location"] == "/elsewhere"


async def test_response_headers_are_kept_as_received(connect: Connect, post: Post) -> None:
    reply = answer(b"{}", b"X-Twice: 1", b"x-twice: 2", b"X-Blank:", b"X-Latin: caf\xe9")
    async with serving(once(reply)) as server:
        headers = (await post(connect(server.base_url))).headers
    assert headers["X-TWICE"] == "1, 2"
    assert headers["x-blank"] == ""
    assert headers["x-latin"] == "café"
    assert (b"x-twice", b"2") in headers.raw


async def test_cookies_are_not_kept(connect: Connect, post: Post) -> None:
    seen: list[list[str]] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append((await peer.request()).values("cookie"))
            peer.send(answer(b"{}", b"Set-Cookie: session=1; Path=/"))

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
        await post(exchanger)
    assert seen == [[], []]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="another protocol"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x0a" * 3, id="a TLS alert"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 99999 OK\r\n\r\n", id="impossible status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\n{}", id="length not a number"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
            id="length beyond all bounds",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
            id="two lengths",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX A: 1\r\n\r\n", id="header with a blank"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="header without colon"),
        pytest.param(CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n", id="chunk size not hex"),
        pytest.param(CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n", id="chunk longer than its size"),
        pytest.param(CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", id="negative chunk size"),
    ],
)
async def test_what_is_not_an_http_response_is_a_bad_one(
    connect: Connect, post: Post, reply: bytes
) -> None:
    async with serving(once(reply)) as server:
        exchanger = connect(server.base_url)
        for _ in range(2):
            with pytest.raises(BadResponseError) as caught:
                await post(exchanger)
            assert len(str(caught.value)) < 400
            assert caught.value.is_retryable
        # Nothing after nonsense can be trusted.
        assert server.accepted == 2


async def test_a_switch_of_protocols_that_nobody_asked_for_is_a_bad_response(
    connect: Connect, post: Post
) -> None:
    reply = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    async with serving(once(reply)) as server:
        with pytest.raises(BadResponseError):
            await post(connect(server.base_url))


async def test_a_folded_header_is_refused(connect: Connect, post: Post) -> None:
    reply = b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(once(reply)) as server:
        with pytest.raises(BadResponseError):
            await post(connect(server.base_url))
