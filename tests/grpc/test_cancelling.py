"""Giving up at each point of a call's way: nothing is left of it, here or at the server."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
import weakref

import pytest

from batch_gateway.errors import GatewayConnectionError, InvalidRequestError
from batch_gateway.grpc.channel import Http2Channel
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.session_limits import SessionLimits
from tests.grpc.conftest import Bench, soon
from tests.grpc.grpcio_server import ECHO, FLOOD, ONCE, SILENT
from tests.grpc.raw_http2 import RST_STREAM, Conversation
from tests.http.native.raw_server import Peer, wait_until
from tests.http.native.test_failures import black_hole

pytestmark = pytest.mark.anyio


async def cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_call_cancelled_while_connecting_leaves_the_queue(bench: Bench) -> None:
    async with black_hole() as port:
        channel = bench.channel(port)
        tasks = [asyncio.create_task(channel.unary("/s/M", b"", deadline=soon())) for _ in range(3)]
        await wait_until(lambda: channel.statistics().waiting == 3)
        assert channel.statistics().connecting == 1
        await cancel(*tasks)
        assert channel.statistics().waiting == 0


async def test_closing_the_channel_while_it_connects_ends_the_dial(bench: Bench) -> None:
    async with black_hole() as port:
        channel = bench.channel(port)
        task = asyncio.create_task(channel.unary("/s/M", b"", deadline=soon()))
        await wait_until(lambda: channel.statistics().connecting == 1)
        await channel.aclose()
        with pytest.raises(GatewayConnectionError, match="the client was closed"):
            await task
        statistics = channel.statistics()
        assert (statistics.connections, statistics.connecting, statistics.waiting) == (0, 0, 0)


async def test_a_call_cancelled_in_the_moment_of_its_turn_is_given_up(bench: Bench) -> None:
    resets: list[int] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, streams=1)
        first = await conversation.request()
        await peer.signal.wait()
        await conversation.answer(first, b"1")
        while True:
            _, _, stream, _ = await conversation.next(RST_STREAM)
            resets.append(stream)
            if stream == 3:
                await conversation.answer(await conversation.request(), b"5")

    server, channel = await bench.raw(script, max_connections=1)
    first = await channel.open("/s/M", deadline=soon())
    second = asyncio.create_task(channel.unary("/s/M", b"", deadline=soon()))
    await wait_until(lambda: channel.statistics().waiting == 1)
    # Runs after `second` was given its place, and before it wakes up to it.
    first.listen(lambda: asyncio.get_running_loop().call_soon(second.cancel) and None)
    server.peers[0].signal.set()
    await asyncio.wait([second])
    assert second.cancelled()
    await wait_until(lambda: 3 in resets)
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"5"
    assert channel.statistics().calls == 0


async def test_a_task_cancelled_while_it_sends_ends_the_call(bench: Bench) -> None:
    resets: list[bytes] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=0)
        resets.append((await conversation.next(RST_STREAM))[3])
        await peer.gone()

    _, channel = await bench.raw(script)
    task = asyncio.create_task(channel.unary("/s/M", b"x", deadline=soon()))
    await wait_until(lambda: channel.statistics().calls == 1)
    await cancel(task)
    await wait_until(lambda: resets == [b"\x00\x00\x00\x08"])
    assert channel.statistics().calls == 0


async def test_a_call_can_be_given_up_by_who_is_told_of_a_message(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    calls = [await channel.open(FLOOD, deadline=soon()) for _ in range(5)]
    for call in calls:
        call.listen(call.cancel)
        await call.send(b"x" * 10_000)
    await wait_until(lambda: channel.statistics().calls == 0)
    assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"
    assert server.begun == 6


async def test_who_waits_for_a_message_learns_that_the_call_was_given_up(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(SILENT, deadline=soon())
    waiting = asyncio.create_task(call.receive())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="somebody else"):
        await call.receive()
    call.cancel()
    call.cancel()
    with pytest.raises(GrpcStatusError, match="given up"):
        await waiting


async def test_two_thousand_calls_given_up_at_random_leave_nothing(bench: Bench) -> None:
    """No stream here or there, no task, and both windows of the connection as they were."""
    limits = SessionLimits(stream_window=100_000, connection_window=200_000)
    server, channel = await bench.grpcio(limits=limits)
    await channel.connect(deadline=soon())
    chance = random.Random(1)
    streams: weakref.WeakSet[object] = weakref.WeakSet()

    async def one() -> None:
        method = chance.choice((ECHO, FLOOD))
        call = await channel.open(method, deadline=soon(30))
        streams.add(asyncio.current_task())
        try:
            for _ in range(3):
                await call.send(b"x" * chance.choice((10, 3000, 40_000)))
                assert await call.receive()
        finally:
            call.cancel()

    async def round_of(size: int) -> None:
        tasks = [asyncio.create_task(one()) for _ in range(size)]
        for task in tasks:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.7:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)

    for _ in range(20):
        await round_of(100)
    assert channel.statistics().calls == channel.statistics().waiting == 0
    assert channel.statistics().connections == 1
    await wait_until(lambda: server.running == 0)
    # Far more than the windows hold goes both ways, so no part of them can have been lost.
    call = await channel.open(ECHO, deadline=soon(30))
    for _ in range(20):
        await call.send(b"y" * 100_000)
        assert await call.receive() == b"y" * 100_000
    call.cancel()
    gc.collect()
    assert len(streams) == 0


async def test_a_channel_that_nobody_closed_warns_and_hangs_up(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await (await Conversation.begin(peer)).answer_all()

    server, channel = await bench.raw(script)
    lonely = Http2Channel(channel._target)
    await lonely.unary("/s/M", b"", deadline=soon())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del lonely
        gc.collect()
    assert [str(one.message)[:22] for one in caught] == ["unclosed <Http2Channel"]
    await wait_until(lambda: server.open == 0)


async def test_a_channel_belongs_to_one_event_loop(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    await channel.unary(ONCE, b"a", deadline=soon())

    def elsewhere() -> None:
        asyncio.run(channel.unary(ONCE, b"a", deadline=soon()))

    with pytest.raises(InvalidRequestError, match="another event loop"):
        await asyncio.to_thread(elsewhere)
