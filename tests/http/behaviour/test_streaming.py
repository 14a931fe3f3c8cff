"""Reading a response as it comes: order, limits in time and memory, leaving in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from batch_gateway.errors import BadResponseError, GatewayConnectionError, RequestTimeoutError
from batch_gateway.http.exchange import HTTPExchanger, HTTPStream

from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import LIMIT, Peer, answer, serving

pytestmark = pytest.mark.anyio

SOON = 0.08
"""Seconds, as a limit that passes while a server does nothing."""

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kind: stream\r\n\r\n"
END = b"0\r\n\r\n"


class Stream(Protocol):
    """Opens a stream, by default with room in time."""

    def __call__(
        self,
        exchanger: HTTPExchanger,
        *,
        within: float = LIMIT,
        begin_within: float = LIMIT,
        idle: float = LIMIT,
    ) -> AbstractAsyncContextManager[HTTPStream]: ...


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def stream() -> Stream:
    def stream(
        exchanger: HTTPExchanger,
        *,
        within: float = LIMIT,
        begin_within: float = LIMIT,
        idle: float = LIMIT,
    ) -> AbstractAsyncContextManager[HTTPStream]:
        now = time.monotonic()
        headers: Sequence[tuple[str, str]] = [("X-Request-ID", "1")]
        return exchanger.stream(
            "/v1/completions",
            headers,
            b"{}",
            deadline=now + within,
            begin_by=now + begin_within,
            idle_timeout=idle,
        )

    return stream


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def rest_of(body: HTTPStream) -> bytes:
    pieces: list[bytes] = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


async def silence(peer: Peer) -> None:
    await peer.until_client_left()


async def test_each_piece_is_handed_over_before_the_next_is_sent(
    connect: Connect, stream: Stream
) -> None:
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD)
        for number in range(3):
            read.clear()
            peer.send(chunk(b"piece %d" % number))
            await read.wait()
        peer.send(END)
        await silence(peer)

    async with (
        asyncio.timeout(LIMIT),
        serving(script) as server,
        stream(connect(server.base_url)) as body,
    ):
        assert (body.status_code, body.headers["x-kind"]) == (200, "stream")
        for number in range(3):
            assert await body.read() == b"piece %d" % number
            read.set()
        assert await body.read() == b""
        assert await body.read() == b""


@pytest.mark.parametrize(
    "sent", [HEAD + chunk(b"all of it") + END, answer(b"all of it"), answer(b"")]
)
async def test_a_body_that_was_read_to_its_end_leaves_its_connection_for_the_next(
    connect: Connect, stream: Stream, post: Post, sent: bytes
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(sent)

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for _ in range(3):
            async with stream(exchanger) as body:
                whole = await rest_of(body)
            assert (await post(exchanger)).body == whole
        assert server.accepted == 1


async def test_a_refusal_is_read_like_any_other_body(connect: Connect, stream: Stream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b"no room", b"Retry-After: 3", status=b"429 Too Many Requests"))
        await silence(peer)

    async with serving(script) as server, stream(connect(server.base_url)) as body:
        assert (body.status_code, body.headers["retry-after"]) == (429, "3")
        assert await rest_of(body) == b"no room"


async def test_leaving_in_the_middle_closes_the_connection(
    connect: Connect, stream: Stream, post: Post
) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.values("X-Request-ID"):
            peer.send(HEAD, chunk(b"first"))
            await silence(peer)
            left.set()
        else:
            peer.send(answer(b"next", b"Connection: close"))

    async with serving(script) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url)
        async with stream(exchanger) as body:
            assert await body.read() == b"first"
        await left.wait()
        assert (await post(exchanger)).body == b"next"
        assert server.accepted == 2


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + chunk(b"first")])
async def test_cancelling_closes_the_connection(
    connect: Connect, stream: Stream, begun: bytes
) -> None:
    sent, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(begun)
        await peer.drain()
        sent.set()
        await silence(peer)
        left.set()

    async def read_all(exchanger: HTTPExchanger) -> None:
        async with stream(exchanger) as body:
            await rest_of(body)

    async with serving(script) as server, asyncio.timeout(LIMIT):
        task = asyncio.create_task(read_all(connect(server.base_url)))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


async def test_a_body_that_stands_still_is_a_timeout_and_the_server_sees_us_leave(
    connect: Connect, stream: Stream
) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD, chunk(b"first"))
        await silence(peer)
        left.set()

    async with serving(script) as server, asyncio.timeout(LIMIT):
        with pytest.raises(RequestTimeoutError, match="sent nothing for 80ms") as caught:
            async with stream(connect(server.base_url), idle=SOON) as body:
                await rest_of(body)
        assert (caught.value.code, caught.value.is_retryable) == ("idle_timeout", True)
        await left.wait()


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200", HEAD])
async def test_a_body_that_does_not_begin_in_time_is_a_timeout(
    connect: Connect, stream: Stream, begun: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(begun)
        await silence(peer)

    async with serving(script) as server:
        with pytest.raises(RequestTimeoutError, match="did not answer in time"):
            async with stream(connect(server.base_url), begin_within=SOON, idle=SOON / 8) as body:
                await body.read()


async def test_a_slow_beginning_is_not_held_to_the_idle_timeout(
    connect: Connect, stream: Stream
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD)
        await asyncio.sleep(2 * SOON)
        peer.send(chunk(b"late"), END)
        await silence(peer)

    async with serving(script) as server, stream(connect(server.base_url), idle=SOON) as body:
        assert await rest_of(body) == b"late"


async def test_a_body_may_take_longer_than_every_limit_between_its_pieces(
    connect: Connect, stream: Stream
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD)
        for _ in range(12):
            peer.send(chunk(b"x"))
            await asyncio.sleep(SOON / 2)
        peer.send(END)
        await silence(peer)

    async with serving(script) as server:
        limits = {"begin_within": 4 * SOON, "idle": 4 * SOON}
        async with stream(connect(server.base_url), **limits) as body:
            assert await rest_of(body) == b"x" * 12


async def test_the_deadline_ends_a_body_that_goes_on(connect: Connect, stream: Stream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD)
        with contextlib.suppress(ConnectionError):
            while True:
                peer.send(chunk(b"x"))
                await peer.drain()
                await asyncio.sleep(SOON / 8)

    async with serving(script) as server:
        with pytest.raises(RequestTimeoutError, match="did not answer in time") as caught:
            async with stream(connect(server.base_url), within=2 * SOON) as body:
                await rest_of(body)
        assert caught.value.code == "timeout"


async def test_a_reader_that_takes_its_time_is_not_taken_for_a_silent_server(
    connect: Connect, stream: Stream
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD, chunk(b"first"))
        await asyncio.sleep(SOON / 2)
        peer.send(chunk(b"second"), END)
        await silence(peer)

    async with serving(script) as server, stream(connect(server.base_url), idle=SOON) as body:
        assert await body.read() == b"first"
        await asyncio.sleep(3 * SOON)
        assert await rest_of(body) == b"second"


async def test_a_reader_that_is_behind_makes_the_server_wait(
    connect: Connect, stream: Stream
) -> None:
    """What the kernel buffers between two sockets on loopback is some megabytes."""
    total, sent = 64 * 1024 * 1024, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(HEAD)
        piece = b"x" * 65536
        while sent < total:
            peer.send(chunk(piece))
            await peer.drain()
            sent += len(piece)
        peer.send(END)
        await silence(peer)

    async with serving(script) as server, asyncio.timeout(LIMIT):
        async with stream(connect(server.base_url)) as body:
            assert await body.read()
            standing, before = 0, -1
            while standing < 5:  # until the server stands still
                standing = standing + 1 if sent == before else 0
                before = sent
                await asyncio.sleep(0.02)
            assert sent < total / 2
            assert len(await rest_of(body)) >= total - 300_000
        assert sent == total


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (HEAD + chunk(b"first"), BadResponseError),
        (HEAD + b"zz\r\n", BadResponseError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst", BadResponseError),
    ],
)
async def test_a_body_that_is_cut_short_is_an_error_after_what_had_arrived(
    connect: Connect, stream: Stream, sent: bytes, kind: type[Exception]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(sent)

    async with serving(script) as server:
        with pytest.raises(kind):
            async with stream(connect(server.base_url)) as body:
                await rest_of(body)


async def test_a_reset_in_the_middle_is_an_error(connect: Connect, stream: Stream) -> None:
    reset = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await peer.drain()
        await reset.wait()
        peer.reset()

    async with serving(script) as server:
        with pytest.raises(GatewayConnectionError):  # noqa: PT012
            async with stream(connect(server.base_url)) as body:
                assert await body.read() == b"first"
                reset.set()
                await rest_of(body)


async def test_closing_the_transport_ends_its_streams(connect: Connect, stream: Stream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD, chunk(b"first"))
        await silence(peer)

    async with serving(script) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url)

        @contextlib.asynccontextmanager
        async def closed_meanwhile() -> AsyncGenerator[None]:
            closing = asyncio.create_task(exchanger.aclose())
            yield
            await closing

        with pytest.raises(GatewayConnectionError, match="was closed"):  # noqa: PT012
            async with stream(exchanger) as body:
                assert await body.read() == b"first"
                async with closed_meanwhile():
                    await rest_of(body)


async def test_many_streams_at_once_each_get_their_own(connect: Connect, stream: Stream) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(HEAD)
            for number in range(20):
                peer.send(chunk(b"%d " % number))
                await asyncio.sleep(0)
            peer.send(END)

    async def one(exchanger: HTTPExchanger) -> bytes:
        async with stream(exchanger) as body:
            return await rest_of(body)

    async with serving(script) as server, asyncio.timeout(LIMIT):
        exchanger = connect(server.base_url, max_connections=5)
        expected = b"".join(b"%d " % number for number in range(20))
        assert await asyncio.gather(*(one(exchanger) for _ in range(50))) == [expected] * 50
