"""The picker's own HTTP/2: windows, pings, trailers, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
from collections.abc import Callable

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.simulator.picker.rpc.listener import RpcListener
from batch_gateway.simulator.picker.rpc.pings import PingPolicy
from batch_gateway.simulator.picker.rpc.rpc_connection import Handler
from batch_gateway.simulator.picker.rpc.served_call import Call
from batch_gateway.testing import SimulatedPool, SimulatorConfig, simulated_pool
from batch_gateway.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    content,
    reset_frame,
    window_update,
)
from batch_gateway.wire.http2.frames import frame as encode_frame
from batch_gateway.wire.http2.http2_errors import ErrorCode

from .data_plane import data_plane
from .raw_client import RawClient

_PREFIX = struct.Struct("!BL")


def framed(message: bytes) -> bytes:
    return _PREFIX.pack(0, len(message)) + message


async def echo(call: Call) -> None:
    while (message := await call.read()) is not None:
        await call.write(message)


def echoed(port: int, message: bytes, window: int, step: int) -> bytes:
    """What comes back when the client opens its window `step` bytes at a time."""
    with RawClient.to(port, window) as client:
        client.begin(1)
        data = framed(message)
        for start in range(0, len(data), 16_000):
            client.send(1, data[start : start + 16_000], end=start + 16_000 >= len(data))
        body = bytearray()
        allowed = window
        while True:
            frame = client.receive()
            if frame.kind == DATA:
                allowed -= len(frame.payload)
                assert allowed >= 0
                body += frame.payload
            if frame.kind == HEADERS and frame.flags & END_STREAM:
                return bytes(body)
            if allowed == 0:
                client.sock.sendall(window_update(1, step) + window_update(0, step))
                allowed += step


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40_000), st.integers(0, 70_000), st.integers(1_000, 70_000))
def test_a_message_arrives_whole_through_any_window(size: int, window: int, step: int) -> None:
    message = bytes(n % 251 for n in range(size))

    async def main() -> bytes:
        listener = RpcListener({"/echo": echo}, host="127.0.0.1", port=0)
        await listener.start()
        try:
            return await asyncio.to_thread(echoed, listener.port, message, window, step)
        finally:
            await listener.stop()

    assert asyncio.run(main()) == framed(message)


def served(converse: Callable[[int], None], handler: Handler = echo) -> None:
    """Talk to a listener with this handler, from a thread."""

    async def main() -> None:
        listener = RpcListener({"/echo": handler}, host="127.0.0.1", port=0)
        await listener.start()
        try:
            await asyncio.to_thread(converse, listener.port)
        finally:
            await listener.stop()

    asyncio.run(main())


def test_a_ping_is_answered_and_padding_is_no_data() -> None:
    def converse(port: int) -> None:
        with RawClient.to(port) as client:
            client.sock.sendall(encode_frame(PING, 0, 0, b"12345678"))
            frame = client.receive_until(PING)[-1]
            assert (frame.flags, frame.payload) == (ACK, b"12345678")
            client.begin(1)
            padded = bytes((3,)) + framed(b"hello") + bytes(3)
            client.sock.sendall(encode_frame(DATA, PADDED | END_STREAM, 1, padded))
            assert client.receive_data().payload == framed(b"hello")

    served(converse)


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.booleans()), max_size=30))
def test_only_pings_that_come_too_often_are_held_against_a_client(
    pings: list[tuple[int, bool, bool]],
) -> None:
    policy = PingPolicy(300.0)
    now, strikes = 0.0, 0
    for number, (pause, calls, answered) in enumerate(pings):
        now += pause
        if answered:
            policy.sent()
            strikes = 0
        elif number and pause < (300 if calls else 7_200):
            strikes += 1
        assert policy.ping(now, calls=calls) == (strikes <= 2)


def test_who_pings_too_often_loses_the_connection() -> None:
    def converse(port: int) -> None:
        with RawClient.to(port) as client:
            client.sock.sendall(encode_frame(PING, 0, 0, bytes(8)) * 4)
            frame = client.receive_until(GOAWAY)[-1]
        assert frame.payload[4:] == bytes((0, 0, 0, ErrorCode.ENHANCE_YOUR_CALM)) + (
            b"too_many_pings"
        )

    served(converse)


any_frame = st.builds(
    encode_frame,
    st.integers(0, 9),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
    st.binary(max_size=24)
    | st.just(framed(b"hello"))
    | st.just(Encoder().encode([(":path", "/echo")])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(any_frame, max_size=8), st.binary(max_size=12))
def test_no_bytes_break_the_server(frames: list[bytes], tail: bytes) -> None:
    broken: list[str] = []

    def converse(port: int) -> None:
        with RawClient.to(port) as client:
            client.sock.sendall(b"".join(frames) + tail)
            client.sock.shutdown(socket.SHUT_WR)
            while client.sock.recv(65_536):
                pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: broken.append(str(context)))
        listener = RpcListener({"/echo": echo}, host="127.0.0.1", port=0)
        await listener.start()
        try:
            await asyncio.to_thread(converse, listener.port)
        finally:
            await listener.stop()

    asyncio.run(main())
    assert broken == []


def test_a_message_may_come_byte_by_byte_and_headers_in_pieces() -> None:
    def converse(port: int) -> None:
        with RawClient.to(port) as client:
            block = Encoder().encode([(":path", "/echo"), ("x-long", "y" * 100)])
            client.sock.sendall(
                encode_frame(HEADERS, 0, 1, block[:5])
                + encode_frame(CONTINUATION, 0, 1, block[5:50])
                + encode_frame(CONTINUATION, END_HEADERS, 1, block[50:])
            )
            data = framed(b"hello")
            for number in range(len(data)):
                client.send(1, data[number : number + 1], end=number + 1 == len(data))
            assert client.receive_data().payload == data

    served(converse)


def test_an_unknown_method_has_trailers_only() -> None:
    def converse(port: int) -> None:
        with RawClient.to(port) as client:
            client.begin(1, "/nobody/knows")
            frame = client.receive_until(HEADERS)[-1]
            assert frame.flags & END_STREAM
            block = content(frame.kind, frame.flags, frame.payload)
            headers = dict(Decoder().decode(block, raw=True))
            assert headers[b":status"] == b"200"
            assert headers[b"grpc-status"] == b"12"

    served(converse)


def test_a_reset_ends_its_handler_and_no_other() -> None:
    ended: list[int] = []

    async def noted(call: Call) -> None:
        try:
            await echo(call)
        finally:
            ended.append(call.stream_id)

    def converse(port: int) -> None:
        with RawClient.to(port) as client:
            client.begin(1)
            client.send(1, framed(b"here"))
            assert client.receive_data().payload == framed(b"here")
            client.begin(3)
            client.sock.sendall(reset_frame(1, 8))
            client.send(3, framed(b"still here"), end=True)
            frame = client.receive_data()
            assert (frame.stream_id, frame.payload) == (3, framed(b"still here"))
            assert ended == [1, 3]

    served(converse, noted)


def test_nothing_is_left_of_hundreds_of_streams() -> None:
    with simulated_pool(pods=2) as pool, data_plane(pool.url) as plane:
        pool.configure_picker(decisions_limit=10)

        def some() -> None:
            for number in range(300):
                call = plane.call()
                call.send_request()
                call.receive_pick()
                if number % 3 == 0:
                    call.cancel()
                else:
                    call.finish()
            while not all(decision.outcome for decision in pool.decisions()):
                pass

        some()
        gc.collect()
        before = sum(isinstance(thing, Call) for thing in gc.get_objects())
        some()
        gc.collect()
        assert sum(isinstance(thing, Call) for thing in gc.get_objects()) <= before


def test_a_pool_stops_with_requests_under_way_and_leaves_no_task() -> None:
    async def main() -> None:
        async with SimulatedPool(1, SimulatorConfig.instant()) as pool:
            pool.configure_picker(flow_control=True, queue_depth_threshold=1)
            port = pool.picker.port

            def ask() -> RawClient:
                client = RawClient.to(port)
                client.begin(1, "/envoy.service.ext_proc.v3.ExternalProcessor/Process")
                client.send(1, framed(b""))
                return client

            clients = [await asyncio.to_thread(ask) for _ in range(3)]
            while pool.picker.connections < 3:
                await asyncio.sleep(0)
        for client in clients:
            client.sock.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_pool_runs_on_uvloop_and_comes_back_after_a_stop() -> None:
    uvloop = pytest.importorskip("uvloop")

    def carried(url: str) -> bytes:
        with data_plane(url) as plane:
            return plane.carry()

    async def main() -> None:
        async with SimulatedPool(2, SimulatorConfig.instant()) as pool:
            url = pool.url
            first = await asyncio.to_thread(carried, url)
            await pool.stop()
            await pool.start()
            assert pool.url == url
            assert (
                json.loads(await asyncio.to_thread(carried, url))["choices"]
                == (json.loads(first)["choices"])
            )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
