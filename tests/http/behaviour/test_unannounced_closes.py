"""Servers that close a kept-alive connection without `Connection: close`.

uvicorn and Node.js do it after five seconds of idleness, some proxies after each answer or after a
number of them. The request that was on its way then goes out again, on a new connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from batch_gateway.errors import GatewayConnectionError, StaleConnectionError
from batch_gateway.http.exchange import HTTPExchanger
from batch_gateway.http.tls import TLSConfig

from .certificates import Certificates
from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import LIMIT, Peer, answer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


class Closing:
    """Answers with the body of the request; the request after the `most`th ends the connection."""

    def __init__(self, most: int = 1, how: str = "close", *, reads: bool = True) -> None:
        self._most = most
        self._how = how
        self._reads = reads
        self.bodies: Counter[bytes] = Counter()
        self.lost = 0

    async def __call__(self, peer: Peer) -> None:
        for _ in range(self._most):
            body = (await peer.request()).body
            self.bodies[body] += 1
            peer.send(answer(body))
            await peer.drain()
        if self._reads:
            await peer.request()
        else:
            await peer.read_some(1)
        self.lost += 1
        getattr(peer, self._how)()


async def streamed(exchanger: HTTPExchanger, body: bytes) -> bytes:
    limit = time.monotonic() + LIMIT
    received = b""
    async with exchanger.stream(
        "/v1/completions", (), body, deadline=limit, begin_by=limit, idle_timeout=LIMIT
    ) as stream:
        while piece := await stream.read():
            received += piece
    return received


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("reads", [True, False], ids=["read whole", "read in part"])
async def test_a_request_on_a_connection_that_closes_is_sent_again_on_a_new_one(
    connect: Connect, post: Post, how: str, reads: bool
) -> None:
    script = Closing(how=how, reads=reads)
    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for number in range(2):
            body = b"%d" % number
            assert (await post(exchanger, body)).body == body
        assert script.lost == 1
        assert server.accepted == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_so_is_one_whose_large_body_was_read_in_part(
    connect: Connect, post: Post, how: str
) -> None:
    async with serving(Closing(how=how, reads=False)) as server:
        exchanger = connect(server.base_url)
        for body in (b"small", b"x" * 5_000_000):
            assert (await post(exchanger, body)).body == body
        assert server.accepted == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_so_is_a_stream_before_its_first_byte(connect: Connect, how: str) -> None:
    async with serving(Closing(how=how)) as server:
        exchanger = connect(server.base_url)
        for number in range(10):
            assert await streamed(exchanger, b"%d" % number) == b"%d" % number
        assert server.accepted <= 10


async def test_so_it_is_over_tls(connect: Connect, post: Post, certificates: Certificates) -> None:
    async with serving(Closing(), tls=certificates.server()) as server:
        exchanger = connect(server.base_url, tls=TLSConfig(ca_file=certificates.ca_file))
        for number in range(2):
            assert (await post(exchanger, b"%d" % number)).body == b"%d" % number
        assert server.accepted == 2


async def test_so_it_is_over_a_unix_socket(
    connect: Connect, post: Post, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path: Path = tmp_path_factory.mktemp("s") / "gw"
    async with serving(Closing(), unix=path) as server:
        exchanger = connect(server.base_url, unix_socket=path)
        for number in range(2):
            assert (await post(exchanger, b"%d" % number)).body == b"%d" % number
        assert server.accepted == 2


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_after_three_in_a_row_a_connection_is_used_no_more_often(
    connect: Connect, post: Post, most: int
) -> None:
    script = Closing(most)
    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for number in range(most * 10):
            assert (await post(exchanger, b"%d" % number)).body == b"%d" % number
        assert script.lost == 3
        assert server.accepted == 10
        assert set(script.bodies.values()) == {1}


async def test_nothing_is_learned_from_a_server_that_restarts(connect: Connect, post: Post) -> None:
    """All its connections close at once, each under a request; then it goes on as before."""
    old: list[Peer] = []
    restarted = asyncio.Event()

    async def script(peer: Peer) -> None:
        is_old = not restarted.is_set()
        while True:
            request = await peer.request()
            if is_old and restarted.is_set():
                return
            if is_old:
                old.append(peer)
                while len(old) < 8:
                    await asyncio.sleep(0)
            peer.send(answer(request.body))
            await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await asyncio.gather(*(post(exchanger) for _ in range(8)))
        restarted.set()
        await asyncio.gather(*(post(exchanger) for _ in range(8)))
        assert server.accepted == 16
        for _ in range(10):
            await post(exchanger)
        assert server.accepted == 16


async def test_many_at_once_all_get_their_answers(connect: Connect, post: Post) -> None:
    script = Closing()
    async with serving(script) as server:
        exchanger = connect(server.base_url, max_connections=8)
        bodies = [b"%d" % number for number in range(200)]
        answers = await asyncio.gather(*(post(exchanger, body) for body in bodies))
        assert [one.body for one in answers] == bodies
        assert set(script.bodies.values()) == {1}
        assert script.lost < 50
        assert server.most_open <= 9  # one may be on its way out


async def test_a_new_connection_that_is_closed_unanswered_is_a_failure(
    connect: Connect, post: Post
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2 if server.accepted == 1 else 1):
            request = await peer.request()
            seen.append(request.body)
            if request.body == b"first":
                peer.send(answer())
                await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await post(exchanger, b"first")
        with pytest.raises(GatewayConnectionError, match="before answering") as caught:
            await post(exchanger, b"second")
        assert not isinstance(caught.value, StaleConnectionError)
        assert seen == [b"first", b"second", b"second"]


async def test_a_server_that_is_gone_for_good_is_a_failure_to_connect(
    connect: Connect, post: Post
) -> None:
    async with serving(Closing()) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
    with pytest.raises(GatewayConnectionError, match="refused"):
        await post(exchanger)


async def test_a_request_that_was_out_for_long_may_have_been_worked_on(
    connect: Connect, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_gateway.http.connection_errors.STALE_SECONDS", -1.0)
    async with serving(Closing()) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
        with pytest.raises(GatewayConnectionError, match="0 seconds after the request") as caught:
            await post(exchanger)
        assert not isinstance(caught.value, StaleConnectionError)
        assert server.accepted == 1


async def test_a_request_is_not_sent_again_after_its_deadline(connect: Connect, post: Post) -> None:
    async def script(peer: Peer) -> None:
        if server.accepted > 1:
            await peer.until_client_left()
            return
        await peer.request()
        peer.send(answer())
        await peer.request()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        await post(exchanger)
        with pytest.raises(TimeoutError):
            await post(exchanger, within=0.2)
