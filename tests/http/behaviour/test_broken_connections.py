"""Connections that cannot be made, or that break under a request at every stage."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from batch_gateway.errors import (
    BadResponseError,
    ErrorCategory,
    GatewayConnectionError,
    InferenceError,
    StaleConnectionError,
    TLSError,
)

from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import LIMIT, Peer, Script, answer, serving

pytestmark = pytest.mark.anyio

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
HALF_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"
HALF_UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def sends_then(how: str, *parts: bytes) -> Script:
    """Read a request, send the parts, then "close" or "reset"."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await send_and_let_it_be_read(peer, part)
        getattr(peer, how)()

    return script


async def send_and_let_it_be_read(peer: Peer, part: bytes) -> None:
    """A reset that follows at once may overtake and discard what was sent."""
    peer.send(part)
    await peer.drain()
    for _ in range(20):
        await asyncio.sleep(0)


async def error_of(post: Post, connect: Connect, script: Script) -> InferenceError:
    async with serving(script) as server:
        with pytest.raises(InferenceError) as caught:
            await post(connect(server.base_url))
    error = caught.value
    assert error.category is ErrorCategory.SERVER_ERROR
    assert error.is_retryable
    assert error.status_code is None
    assert len(str(error)) < 300
    return error


async def test_a_refused_connection_is_a_connection_error(connect: Connect, post: Post) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(GatewayConnectionError, match=rf"127\.0\.0\.1:{port}: .*refused") as it:
            await post(connect(f"http://127.0.0.1:{port}"))
    assert it.value.is_retryable
    assert not isinstance(it.value, TLSError | StaleConnectionError)


async def test_a_name_that_does_not_exist_is_a_connection_error(
    connect: Connect, post: Post
) -> None:
    with pytest.raises(GatewayConnectionError, match=r"name of nowhere\.invalid:80 cannot be"):
        await post(connect("http://nowhere.invalid"))


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_that_ends_before_any_answer_is_a_connection_error(
    connect: Connect, post: Post, how: str
) -> None:
    error = await error_of(post, connect, sends_then(how))
    assert type(error) is GatewayConnectionError
    assert "before answering" in str(error)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_a_connection_that_ends_during_the_headers_is_a_connection_error(
    connect: Connect, post: Post, how: str, part: bytes
) -> None:
    error = await error_of(post, connect, sends_then(how, part))
    assert type(error) is GatewayConnectionError


@pytest.mark.parametrize("part", [HALF[:-5], HALF, HALF_CHUNKED])
async def test_a_body_that_ends_early_is_a_bad_response(
    connect: Connect, post: Post, part: bytes
) -> None:
    error = await error_of(post, connect, sends_then("close", part))
    assert type(error) is BadResponseError
    assert "truncated" in str(error)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", [HALF[:-5], HALF, HALF_CHUNKED, HALF_UNTIL_CLOSE])
async def test_a_refusal_whose_body_ends_early_is_still_that_refusal(
    connect: Connect, post: Post, part: bytes, how: str
) -> None:
    refusal = part.replace(b"200 OK", b"401 Unauthorized")
    async with serving(sends_then(how, refusal)) as server:
        exchanger = connect(server.base_url)
        response = await post(exchanger)
        assert response.status_code == 401
        assert response.body in (b"", b"hello")
        soon = time.monotonic() + LIMIT
        async with exchanger.stream(
            "/v1/completions", (), b"{}", deadline=soon, begin_by=soon, idle_timeout=LIMIT
        ) as begun:
            assert begun.status_code == 401
            while await begun.read():
                pass


@pytest.mark.parametrize("part", [HALF[:-5], HALF, HALF_CHUNKED, HALF_UNTIL_CLOSE])
async def test_a_reset_during_the_body_is_a_connection_error(
    connect: Connect, post: Post, part: bytes
) -> None:
    error = await error_of(post, connect, sends_then("reset", part))
    assert type(error) is GatewayConnectionError
    assert "during the response" in str(error)


async def test_bytes_after_a_response_never_reach_the_next_one(
    connect: Connect, post: Post
) -> None:
    """A content length too short: the rest of the body looks like another response."""
    smuggled = answer(b'"smuggled"')

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(answer(b"{}"), smuggled)
            await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for _ in range(3):
            assert (await post(exchanger)).body == b"{}"
        assert server.accepted == 3


async def test_bytes_that_arrive_while_idle_cost_the_connection_not_the_next_request(
    connect: Connect, post: Post
) -> None:
    unsolicited = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b'"mine"'))
        await peer.drain()
        await unsolicited.wait()
        peer.send(answer(b'"nobody asked"'))
        await peer.drain()
        await peer.request()
        peer.send(answer(b'"wrong"'))

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        assert (await post(exchanger)).body == b'"mine"'
        unsolicited.set()
        for _ in range(20):
            await asyncio.sleep(0)
        unsolicited.clear()
        assert (await post(exchanger)).body == b'"mine"'
        assert server.accepted == 2


async def test_a_kept_alive_connection_closed_while_idle_is_not_used_again(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer())
        await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for number in range(1, 6):
            assert (await post(exchanger)).status_code == 200
            assert server.accepted == number
            async with asyncio.timeout(5):
                while server.open:
                    await asyncio.sleep(0)


async def test_a_kept_alive_connection_that_ends_after_the_answer_began_is_not_stale(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer())
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nX-A")
        await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
        with pytest.raises(GatewayConnectionError) as caught:
            await post(exchanger)
        assert not isinstance(caught.value, StaleConnectionError)


async def test_a_reset_in_the_head_on_a_reused_connection_is_an_error(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer())
        await peer.request()
        await send_and_let_it_be_read(peer, b"HTTP/1.1 200 OK\r\nX-A")
        peer.reset()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
        with pytest.raises(GatewayConnectionError):
            await post(exchanger)
