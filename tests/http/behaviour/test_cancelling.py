"""Cancelling a request, and closing the transport under requests."""

from __future__ import annotations

import asyncio

import pytest

from batch_gateway.errors import GatewayConnectionError

from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import LIMIT, Peer, answer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


class Stages:
    """A script that stops at a stage of an answer and sees how the client leaves."""

    def __init__(self, *begun: bytes) -> None:
        self.begun = begun
        self.reached = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        request = await peer.request()
        if request.body == b"quick":
            peer.send(answer(b"{}", b"Connection: close"))
            return
        peer.send(*self.begun)
        await peer.drain()
        self.reached.set()
        await peer.until_client_left()
        self.left.set()


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "begun", [[], [b"HTTP/1.1 200"], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]]
)
async def test_a_cancelled_request_closes_its_connection(
    connect: Connect, post: Post, begun: list[bytes]
) -> None:
    stages = Stages(*begun)
    async with serving(stages) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url)
        task = asyncio.create_task(post(exchanger))
        await stages.reached.wait()
        await cancelled(task)
        await stages.left.wait()
        assert (await post(exchanger, b"quick")).status_code == 200
        assert server.accepted == 2


async def test_a_cancelled_upload_closes_its_connection(connect: Connect, post: Post) -> None:
    started, left = asyncio.Event(), asyncio.Event()
    received = 0

    async def script(peer: Peer) -> None:
        nonlocal received
        await peer.read_head()
        started.set()
        received = len(await peer.until_client_left())
        left.set()

    async with serving(script) as server, asyncio.timeout(LIMIT):
        task = asyncio.create_task(post(connect(server.base_url), b"x" * 20_000_000))
        await started.wait()
        await cancelled(task)
        await left.wait()
    assert received < 20_000_000


async def test_a_request_cancelled_in_the_queue_gives_its_place_to_the_next(
    connect: Connect, post: Post
) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            peer.send(answer())

    async with serving(script) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url, max_connections=1)
        first = asyncio.create_task(post(exchanger))
        await server.accepted_one.wait()
        second = asyncio.create_task(post(exchanger))
        third = asyncio.create_task(post(exchanger))
        for _ in range(5):
            await asyncio.sleep(0)
        await cancelled(second)
        release.set()
        assert (await first).status_code == (await third).status_code == 200
        assert server.accepted == 1


async def test_a_cancel_that_meets_the_answer_leaves_the_transport_usable(
    connect: Connect, post: Post
) -> None:
    """The cancel is sent at every possible step between the request and its answer."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            peer.send(answer(request.body))

    async with serving(script) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url, max_connections=2)
        for steps in range(30):
            task = asyncio.create_task(post(exchanger, b"cancelled"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            mine = b"%d" % steps
            assert (await post(exchanger, mine)).body == mine


async def test_closing_aborts_requests_under_way_and_in_the_queue(
    connect: Connect, post: Post
) -> None:
    stages = Stages()
    async with serving(stages) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url, max_connections=1)
        tasks = [asyncio.create_task(post(exchanger)) for _ in range(3)]
        await stages.reached.wait()
        await exchanger.aclose()
        await stages.left.wait()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, GatewayConnectionError)
            assert str(result) == "the client was closed"
            assert not result.is_retryable


async def test_a_closed_transport_refuses_requests(connect: Connect, post: Post) -> None:
    exchanger = connect("http://127.0.0.1:9")
    await exchanger.aclose()
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await post(exchanger)
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await exchanger.connect(deadline=float("inf"))


async def test_closing_twice_and_closing_unused_do_nothing(connect: Connect) -> None:
    exchanger = connect("http://127.0.0.1:9")
    await exchanger.aclose()
    await exchanger.aclose()


async def test_closing_while_connecting_ends_the_request(connect: Connect, post: Post) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_client_left()

    async with serving(script) as server, asyncio.timeout(LIMIT):
        # Nobody answers the TLS handshake.
        exchanger = connect(f"https://127.0.0.1:{server.port}")
        task = asyncio.create_task(post(exchanger))
        await server.accepted_one.wait()
        await exchanger.aclose()
        with pytest.raises(GatewayConnectionError, match="the client was closed"):
            await task
