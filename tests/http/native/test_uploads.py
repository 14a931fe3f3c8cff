"""Large request bodies: complete, without a second copy, and with answers that come early."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc

import pytest

from batch_gateway.errors import GatewayConnectionError, InferenceError, RequestTimeoutError
from tests.http.native.raw_server import Bench, Peer, soon, wait_until

pytestmark = pytest.mark.anyio
BODY = bytes(range(256)) * 80_000  # 20 MB
FIRST_PIECE = 256 * 1024


@pytest.mark.parametrize(
    "size", [0, 1, 64 * 1024, 64 * 1024 + 1, FIRST_PIECE, FIRST_PIECE + 1, len(BODY)]
)
async def test_a_body_of_any_size_arrives_whole_and_the_connection_is_kept(
    bench: Bench, size: int
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            await peer.respond(hashlib.sha256(body).hexdigest().encode())

    server, exchanger = await bench.pair(script)
    for _ in range(2):
        response = await exchanger.post("/v1", (), BODY[:size], deadline=soon())
        assert response.body.decode() == hashlib.sha256(BODY[:size]).hexdigest()
    assert len(server.peers) == 1


async def test_a_body_is_not_copied_while_the_server_is_slow_to_read(bench: Bench) -> None:
    reading = asyncio.Event()

    async def script(peer: Peer) -> None:
        await reading.wait()
        await peer.request()
        await peer.respond()

    _, exchanger = await bench.pair(script)
    await exchanger.connect(deadline=soon())
    tracemalloc.start()
    try:
        task = asyncio.create_task(exchanger.post("/v1", (), BODY, deadline=soon()))
        await wait_until(lambda: exchanger.statistics().in_use == 1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    reading.set()
    await task
    assert most < 4_000_000


@pytest.mark.parametrize("keeps_reading", [True, False])
async def test_an_early_answer_is_returned_and_the_connection_dropped(
    bench: Bench, keeps_reading: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.respond(b"too large", "413 Content Too Large")
        if keeps_reading:
            await peer.gone()
        else:
            await peer.hold()

    server, exchanger = await bench.pair(script)
    response = await exchanger.post("/v1", (), BODY, deadline=soon())
    assert (response.status_code, response.body) == (413, b"too large")
    assert exchanger.statistics().open == 0
    server.peers[0].signal.set()
    await wait_until(lambda: server.open == 0)


async def test_an_early_answer_survives_the_close_that_follows_it(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        # The rest of the body is never read: the kernel resets the connection on close.
        await peer.respond(b"too large", "413 Content Too Large", "Connection: close\r\n")

    _, exchanger = await bench.pair(script)
    for _ in range(20):
        response = await exchanger.post("/v1", (), BODY, deadline=soon())
        assert (response.status_code, response.body) == (413, b"too large")


async def test_a_server_that_stops_reading_runs_into_the_deadline(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.hold()

    _, exchanger = await bench.pair(script)
    with pytest.raises(RequestTimeoutError, match="had not been sent completely"):
        await exchanger.post("/v1", (), BODY, deadline=soon(0.1))
    assert exchanger.statistics().open == 0


async def test_a_server_that_closes_during_the_upload(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(100_000)

    _, exchanger = await bench.pair(script)
    with pytest.raises(GatewayConnectionError, match="the connection before answering"):
        await exchanger.post("/v1", (), BODY, deadline=soon())


async def test_a_half_closed_answer_does_not_wait_for_the_upload(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        peer.writer.write_eof()
        await peer.hold()

    _, exchanger = await bench.pair(script)
    with pytest.raises(InferenceError, match="truncated response: 3 of 9 bytes"):
        await exchanger.post("/v1", (), BODY, deadline=soon())


async def test_a_cancelled_upload_hangs_up(bench: Bench) -> None:
    cancelled = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.transport.pause_reading()
        await cancelled.wait()
        peer.transport.resume_reading()
        await peer.gone()

    server, exchanger = await bench.pair(script)
    task = asyncio.create_task(exchanger.post("/v1", (), BODY, deadline=soon()))
    await wait_until(lambda: server.open == 1)
    task.cancel()
    await asyncio.wait([task])
    cancelled.set()
    await wait_until(lambda: server.open == 0)
