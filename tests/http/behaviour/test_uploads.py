"""Large request bodies: slow readers, and answers that come before the end of the upload."""

from __future__ import annotations

import asyncio

import pytest

from batch_gateway.errors import RequestTimeoutError

from .conftest import Connect, Post, open_sockets
from .loops import EVERY_LOOP
from .scripted_server import Peer, answer, serving

pytestmark = pytest.mark.anyio

LARGE = 20_000_000
TOO_LARGE = answer(b'{"error": "too large"}', b"Connection: close", status=b"413 Too Large")


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def test_a_slow_reader_gets_the_whole_body(connect: Connect, post: Post) -> None:
    received = bytearray()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        while len(received) < LARGE:
            received.extend(await peer.read_some(300_000))
            await asyncio.sleep(0)
        peer.send(answer())

    body = bytes(range(250)) * (LARGE // 250)
    async with serving(script) as server:
        assert (await post(connect(server.base_url), body)).status_code == 200
    assert received == body


async def test_an_early_answer_is_read_while_the_upload_goes_on(
    connect: Connect, post: Post
) -> None:
    """A gateway refuses the body by its length and never reads it."""
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(TOO_LARGE)
        await peer.drain()
        await answered.wait()

    async with serving(script) as server:
        response = await post(connect(server.base_url), b"x" * LARGE)
        answered.set()
    assert response.status_code == 413
    assert response.body == b'{"error": "too large"}'


async def test_a_connection_with_half_an_upload_on_it_is_not_used_again(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        _, headers = await peer.read_head()
        if ("Content-Length", str(LARGE)) in headers:
            # Keep-alive, as if the rest of the body would still be read.
            peer.send(answer(b"early", status=b"400 Bad Request"))
            await peer.until_client_left()
        else:
            peer.send(answer(b"next"))

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        assert (await post(exchanger, b"x" * LARGE)).body == b"early"
        assert (await post(exchanger)).body == b"next"
        assert server.accepted == 2


async def test_an_early_answer_followed_by_a_close(connect: Connect, post: Post) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.read_some()
        peer.send(TOO_LARGE)
        peer.finish_sending()
        await peer.until_client_left()

    async with serving(script) as server:
        response = await post(connect(server.base_url), b"x" * LARGE)
    assert response.status_code == 413


async def test_an_early_answer_followed_by_a_reset_is_read(connect: Connect, post: Post) -> None:
    """The server closes with unread data in its buffer, which the kernel makes a reset."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(TOO_LARGE)

    async with serving(script) as server:
        assert (await post(connect(server.base_url), b"x" * LARGE)).status_code == 413


async def test_a_connection_on_which_a_large_body_was_refused_is_not_used_again(
    connect: Connect, post: Post
) -> None:
    """The kernel may have taken all of it, and the server never look at it."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(answer(b"", status=b"503 Service Unavailable"))
        await peer.until_client_left()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for number in range(1, 4):
            assert (await post(exchanger, b"x" * 100_000)).status_code == 503
            assert server.accepted == number


async def test_the_socket_of_an_upload_that_was_given_up_is_closed_at_once(
    connect: Connect, post: Post
) -> None:
    """The server has stopped reading, so what is buffered here cannot be sent."""
    checked = asyncio.Event()
    before: set[str] = set()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await checked.wait()
        await peer.until_client_left()

    async with serving(script) as server:
        before = open_sockets()
        with pytest.raises(RequestTimeoutError):
            await post(connect(server.base_url), b"x" * LARGE, within=0.6)
        await asyncio.sleep(0)
        ours_and_the_servers = len(open_sockets() - before)
        checked.set()
    if before:  # where there is a /proc to look in
        assert ours_and_the_servers == 1
