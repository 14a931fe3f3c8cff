"""Deadlines: an exchange ends in time wherever it is, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from batch_gateway.errors import InferenceError, RequestTimeoutError

from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import Peer, answer, serving

pytestmark = pytest.mark.anyio

SOON = 0.08
"""Seconds, as a deadline that passes while a server does nothing."""


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.until_client_left()


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param([], id="no answer"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX-A:"], id="half a head"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"], id="only an interim answer"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], id="half a body"),
        pytest.param([b"HTTP/1.1 200 OK\r\n\r\nuntil close"], id="a body that does not end"),
    ],
)
async def test_an_answer_that_stalls_is_a_timeout_and_the_server_sees_us_leave(
    connect: Connect, post: Post, begun: list[bytes]
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        peer.send(*begun)
        await peer.until_client_left()
        left.set()

    async with serving(script) as server, asyncio.timeout(20):
        exchanger = connect(server.base_url)
        # On a busy machine the time may be up before the request is out; then ask again.
        while not asked.is_set():
            with pytest.raises(RequestTimeoutError) as caught:
                await post(exchanger, within=SOON)
            assert caught.value.is_retryable
            assert str(server.port) in caught.value.message or not asked.is_set()
        await left.wait()


async def test_headers_that_trickle_in_do_not_put_the_deadline_off(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                peer.send(b"X-Slow: 1\r\n")
                await peer.drain()
                await asyncio.sleep(SOON / 4)

    async with serving(script) as server:
        with pytest.raises(RequestTimeoutError):
            await post(connect(server.base_url), within=2 * SOON)


async def test_a_request_whose_deadline_has_passed_is_not_sent(
    connect: Connect, post: Post
) -> None:
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        while True:
            await peer.request()
            requests += 1
            peer.send(answer())

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
        for _ in range(3):
            with pytest.raises(RequestTimeoutError):
                await post(exchanger, within=-1.0)
        await post(exchanger)
    assert requests == 2


async def test_no_deadline_at_all_is_allowed(connect: Connect) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer())

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        response = await exchanger.post("/v1", (), b"{}", deadline=float("inf"))
    assert response.status_code == 200


async def test_a_deadline_passes_while_queueing_for_a_connection(
    connect: Connect, post: Post
) -> None:
    async with serving(silent) as server:
        exchanger = connect(server.base_url, max_connections=1)
        holding = asyncio.create_task(post(exchanger, within=4 * SOON))
        await server.accepted_one.wait()
        with pytest.raises(RequestTimeoutError):
            await post(exchanger, within=SOON)
        assert not holding.done()
        with pytest.raises(RequestTimeoutError):
            await holding
        assert server.accepted == 1


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port that answers no further SYN: its queue of connections to accept is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_deadline_passes_while_connecting(connect: Connect, post: Post) -> None:
    with full_backlog() as port, pytest.raises(RequestTimeoutError, match=str(port)):
        await post(connect(f"http://127.0.0.1:{port}"), within=SOON)


async def test_connecting_has_a_time_limit_of_its_own(connect: Connect, post: Post) -> None:
    with full_backlog() as port:
        exchanger = connect(f"http://127.0.0.1:{port}", connect_timeout=SOON)
        with pytest.raises(RequestTimeoutError, match="connecting to .* took longer than 80ms"):
            await post(exchanger)


async def test_a_tls_handshake_that_nobody_answers_counts_as_connecting(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_client_left()

    async with serving(script) as server:
        exchanger = connect(f"https://127.0.0.1:{server.port}", connect_timeout=SOON)
        with pytest.raises(RequestTimeoutError, match="connecting to .* took longer than 80ms"):
            await post(exchanger)


async def test_waiting_for_a_connection_does_not_count_as_connecting(
    connect: Connect, post: Post
) -> None:
    released = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await released.wait()
            peer.send(answer())

    async with serving(script) as server:
        exchanger = connect(server.base_url, max_connections=1, connect_timeout=SOON)
        both = asyncio.gather(post(exchanger), post(exchanger))
        await asyncio.sleep(2 * SOON)
        released.set()
        assert [response.status_code for response in await both] == [200, 200]


async def test_connect_checks_that_the_gateway_can_be_reached(connect: Connect) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_client_left()

    async with serving(script) as server:
        await connect(server.base_url).connect(deadline=time.monotonic() + 10)
    with pytest.raises(InferenceError, match="refused"):
        await connect(server.base_url).connect(deadline=time.monotonic() + 10)
    with full_backlog() as port, pytest.raises(RequestTimeoutError, match=str(port)):
        await connect(f"http://127.0.0.1:{port}").connect(deadline=time.monotonic() + SOON)


async def test_an_upload_that_the_server_does_not_read_ends_at_the_deadline(
    connect: Connect, post: Post
) -> None:
    left = asyncio.Event()
    timed_out = asyncio.Event()
    received = 0

    async def script(peer: Peer) -> None:
        nonlocal received
        await peer.read_head()
        await timed_out.wait()
        received = len(await peer.until_client_left())
        left.set()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        with pytest.raises(RequestTimeoutError):
            # Time enough to be asked for it on a busy machine.
            await post(exchanger, b"x" * 20_000_000, within=0.6)
        timed_out.set()
        await left.wait()
    assert received < 20_000_000


async def test_a_timeout_leaves_the_other_requests_alone(connect: Connect, post: Post) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.body == b"slow":
                await peer.until_client_left()
                return
            peer.send(answer(request.body))

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        results = await asyncio.gather(
            *(post(exchanger, b"%d" % n) for n in range(10)),
            post(exchanger, b"slow", within=SOON),
            *(post(exchanger, b"%d" % n) for n in range(10, 20)),
            return_exceptions=True,
        )
        assert isinstance(results.pop(10), RequestTimeoutError)
        assert [r.body for r in results if not isinstance(r, BaseException)] == [
            b"%d" % n for n in range(20)
        ]
