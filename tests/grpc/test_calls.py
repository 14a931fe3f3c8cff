"""Calls as a real server sees them and answers them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from batch_gateway.errors import (
    GatewayConnectionError,
    InvalidRequestError,
    RequestTimeoutError,
)
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.grpc_call import Call
from batch_gateway.grpc.stream_state import StreamState
from batch_gateway.wire.http2.grpc_messages import message_prefix
from tests.grpc.conftest import Bench, soon
from tests.grpc.grpcio_server import ECHO, FLOOD, ONCE, REFUSE, SILENT, SINK
from tests.http.native.raw_server import wait_until

pytestmark = pytest.mark.anyio


async def test_messages_go_both_ways_while_the_call_lasts(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    for message in (b"one", b"", b"x" * 100_000):
        await call.send(message)
        assert await call.receive() == message
    await call.send(b"last", end=True)
    assert [await call.receive(), await call.receive()] == [b"last", None]
    assert await call.receive() is None
    await wait_until(lambda: server.running == 0)
    assert channel.statistics().calls == 0


async def test_messages_sent_together_arrive_one_by_one(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    assert call.send_nowait((b"one", b"", b"three"))
    assert call.send_nowait((b"last",), end=True)
    assert not call.send_nowait((b"after the end",))
    assert [await call.receive() for _ in range(5)] == [b"one", b"", b"three", b"last", None]
    more: list[bytes] = []
    assert call.receive_all(more.append)
    assert more == []


async def test_what_may_not_go_at_once_is_not_sent_in_part(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    large = b"x" * (5 * 1024 * 1024)
    assert not call.send_nowait((b"small", large))
    await call.send(b"alone", end=True)
    assert [await call.receive(), await call.receive()] == [b"alone", None]


async def test_nothing_of_a_call_is_left_for_the_garbage_collector(bench: Bench) -> None:
    _, channel = await bench.grpcio()

    gc.collect()
    gc.disable()
    try:
        call = await channel.open(ECHO, deadline=soon())
        call.listen(lambda: None)
        await call.send(b"abc", end=True)
        while await call.receive() is not None:
            pass
        del call
        left = [type(it) for it in gc.get_objects() if isinstance(it, Call | StreamState)]
    finally:
        gc.enable()
    assert left == []


async def test_half_closing_alone_ends_what_is_sent(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(SINK, deadline=soon())
    await call.send(b"abc")
    await call.half_close()
    assert [await call.receive(), await call.receive()] == [b"3", None]


async def test_a_unary_call_is_one_message_there_and_one_back(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"


async def test_a_message_larger_than_every_window_arrives_whole(bench: Bench) -> None:
    _, channel = await bench.grpcio(("grpc.max_receive_message_length", -1))
    message = bytes(range(256)) * (12 * 1024)  # 3 MiB
    call = await channel.open(ECHO, deadline=soon())
    await call.send(message, end=True)
    assert await call.receive() == message
    assert await call.receive() is None


async def test_more_than_the_windows_hold_is_received_when_it_is_read(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(FLOOD, deadline=soon())
    message = b"y" * 50_000
    await call.send(message, end=True)
    for _ in range(100):
        assert await call.receive() == message
    assert await call.receive() is None


async def test_a_slow_reader_does_not_hold_up_the_other_calls(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    slow = [await channel.open(FLOOD, deadline=soon()) for _ in range(20)]
    for call in slow:
        await call.send(b"y" * 50_000, end=True)
    for _ in range(20):
        assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"
    for call in slow:
        call.cancel()
    assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"


async def test_the_status_and_its_message_are_told(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(REFUSE, deadline=soon())
    await call.send("zu voll: 100 %, später".encode())
    with pytest.raises(GrpcStatusError) as caught:
        await call.receive()
    assert (caught.value.code, caught.value.message) == (8, "zu voll: 100 %, später")
    await call.send(b"too late")  # says nothing: `receive` has said it


async def test_an_unknown_method_is_unimplemented(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    with pytest.raises(GrpcStatusError) as caught:
        await channel.unary("/no.Such/Method", b"", deadline=soon())
    assert caught.value.code == 12


async def test_metadata_and_the_time_left_reach_the_server(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    metadata = (("x-request-id", "abc"), ("x-long", "v" * 300))
    for _ in range(2):
        call = await channel.open(ECHO, metadata=metadata, deadline=soon(33))
        await call.half_close()
        assert await call.receive() is None
        assert set(metadata) <= set(server.metadata)
        assert server.time_left is not None
        assert 30 < server.time_left < 34


@pytest.mark.parametrize(
    "bad", [("X-Upper", "v"), ("x", "line\nbreak"), ("grpc-timeout", "1S"), (":path", "/")]
)
async def test_metadata_that_cannot_be_sent_is_refused(bench: Bench, bad: tuple[str, str]) -> None:
    _, channel = await bench.grpcio()
    with pytest.raises(InvalidRequestError):
        await channel.open(ECHO, metadata=[bad], deadline=soon())


async def test_past_its_deadline_a_call_fails_and_the_server_is_told(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    call = await channel.open(SILENT, deadline=soon(0.2))
    with pytest.raises(RequestTimeoutError, match=r"127\.0\.0\.1:\d+ did not end the call in time"):
        await call.receive()
    await wait_until(lambda: server.running == 0)
    assert channel.statistics().calls == 0


async def test_a_call_without_time_left_is_not_begun(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    with pytest.raises(RequestTimeoutError, match="before the call was sent"):
        await channel.open(ECHO, deadline=soon(-1))
    assert server.begun == 0


async def test_a_cancelled_call_ends_at_the_server(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    call = await channel.open(SILENT, deadline=soon())
    await wait_until(lambda: server.running == 1)
    call.cancel()
    await wait_until(lambda: server.running == 0)
    with pytest.raises(GrpcStatusError, match="given up"):
        await call.receive()


async def test_who_listens_is_told_when_there_is_something(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    heard: list[bytes | None] = []
    ended = asyncio.Event()

    def hear() -> None:
        if call.receive_all(heard.append):
            heard.append(None)
            ended.set()

    call.listen(hear)
    assert heard == []
    await call.send(b"one")
    await wait_until(lambda: heard == [b"one"])
    await call.send(b"two", end=True)
    await ended.wait()
    assert heard == [b"one", b"two", None]


async def test_what_is_offered_and_not_taken_is_received(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    taken: list[bytes] = []

    def take(data: bytes, start: int, end: int) -> int:
        content = data[start:end]
        if not content.endswith(b"mine"):
            return start
        taken.append(content)
        return end

    call.offer(take)
    for number in (1, 2):
        await call.send(b"mine")
        await wait_until(lambda number=number: len(taken) == number)
        for message in (b"yours", b"x" * 100_000):
            await call.send(message)
            assert await call.receive() == message
    await call.half_close()
    assert await call.receive() is None
    assert taken == [message_prefix(4) + b"mine"] * 2


async def test_who_listens_late_is_told_at_once(bench: Bench) -> None:
    _, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    await call.half_close()
    assert await call.receive() is None
    told: list[bool] = []
    call.listen(lambda: told.append(True))
    assert told == [True]


async def test_closing_the_channel_aborts_its_calls(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    call = await channel.open(SILENT, deadline=soon())
    waiting = asyncio.create_task(call.receive())
    await wait_until(lambda: server.running == 1)
    await channel.aclose()
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await waiting
    await wait_until(lambda: server.running == 0)
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await channel.open(ECHO, deadline=soon())


async def test_a_server_that_stops_in_good_order_fails_no_call(bench: Bench) -> None:
    server, channel = await bench.grpcio()
    call = await channel.open(ECHO, deadline=soon())
    await call.send(b"one")
    assert await call.receive() == b"one"
    stopping = asyncio.create_task(server.stop(grace=10))
    await wait_until(lambda: channel.statistics().calls == 1)
    await call.send(b"two", end=True)
    assert [await call.receive(), await call.receive()] == [b"two", None]
    await stopping
    await wait_until(lambda: channel.statistics().connections == 0)
    with pytest.raises(GatewayConnectionError, match="cannot connect"):
        await channel.open(ECHO, deadline=soon())
