"""Cancelling a request at each point of its way, and closing the exchanger under requests."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings

import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import GatewayConnectionError, InferenceError, InvalidRequestError
from batch_gateway.http.native import NativeExchanger
from tests.http.native.raw_server import Bench, Peer, Server, echo, soon, wait_until
from tests.http.native.test_failures import black_hole

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"


async def silent(peer: Peer) -> None:
    await peer.request()
    peer.signal.set()
    await peer.gone()


async def half_an_answer(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    peer.signal.set()
    await peer.gone()


def start(exchanger: NativeExchanger, body: bytes = b"{}") -> asyncio.Task[object]:
    return asyncio.create_task(exchanger.post(PATH, (), body, deadline=soon(30)))


async def cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


@pytest.mark.parametrize("script", [silent, half_an_answer])
async def test_a_cancelled_request_closes_its_connection(bench: Bench, script) -> None:
    server, exchanger = await bench.pair(script)
    task = start(exchanger)
    await wait_until(lambda: server.peers and server.peers[0].signal.is_set())
    await cancel(task)
    await wait_until(lambda: server.open == 0)
    assert exchanger.statistics().open == 0


async def test_a_request_that_is_cancelled_while_connecting_leaves_nothing(bench: Bench) -> None:
    async with black_hole() as port:
        exchanger = bench.exchanger(f"http://127.0.0.1:{port}", max_connections=1)
        dialling, waiting = start(exchanger), start(exchanger)
        await wait_until(lambda: exchanger.statistics().waiting == 1)
        assert exchanger.statistics().connecting == 1
        await cancel(dialling)
        await wait_until(lambda: exchanger.statistics().waiting == 0)
        assert exchanger.statistics().connecting == 1
        await cancel(waiting)
        assert exchanger.statistics().connecting == 0


async def test_a_request_that_is_cancelled_in_the_queue_leaves_it(bench: Bench) -> None:
    server, exchanger = await bench.pair(silent, max_connections=2)
    tasks = [start(exchanger) for _ in range(5)]
    # One that still connects would hand its connection on, and no third would be opened.
    await wait_until(lambda: [peer.signal.is_set() for peer in server.peers] == [True, True])
    assert exchanger.statistics().waiting == 3
    await cancel(tasks[3])
    assert exchanger.statistics().waiting == 2
    await cancel(tasks[0])  # its slot goes to the next in line
    await wait_until(lambda: len(server.peers) == 3)
    assert exchanger.statistics().waiting == 1
    await cancel(tasks[1], tasks[2], tasks[4])
    await wait_until(lambda: server.open == 0)
    assert server.most_open == 2


async def test_a_request_cancelled_in_the_moment_of_its_turn_passes_it_on(bench: Bench) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await gate.wait()
            await peer.respond()

    server, exchanger = await bench.pair(script, max_connections=1)

    async def finish_and_cancel_the_next() -> None:
        await exchanger.post(PATH, (), b"{}", deadline=soon())
        second.cancel()  # which has the connection by now, and does not know it yet

    first = asyncio.create_task(finish_and_cancel_the_next())
    await wait_until(lambda: exchanger.statistics().in_use == 1)
    second, third = start(exchanger), start(exchanger)
    await wait_until(lambda: exchanger.statistics().waiting == 2)
    gate.set()
    await asyncio.wait([first, second, third])
    assert (first.cancelled(), second.cancelled(), third.cancelled()) == (False, True, False)
    assert len(server.peers) == 1
    assert exchanger.statistics().idle == 1


async def test_cancelling_at_random_moments_leaks_no_slot_and_mixes_no_answers(
    bench: Bench,
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            chance = random.random()
            if chance < 0.1:
                peer.reset()
                return
            if chance < 0.2:
                await peer.respond(body, extra="Connection: close\r\n")
                return
            await asyncio.sleep(chance / 100)
            await peer.respond(body)

    server, exchanger = await bench.pair(script, max_connections=7, max_idle_connections=3)

    async def one(number: int) -> None:
        body = str(number).encode()
        response = await exchanger.post(PATH, (), body, deadline=soon(30))
        assert response.body == body

    async def some(worker: int) -> None:
        for number in range(20):
            task = asyncio.create_task(one(worker * 1000 + number))
            if random.random() < 0.4:
                await asyncio.sleep(random.random() / 100)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                assert task.exception() is None or isinstance(task.exception(), InferenceError)

    await asyncio.gather(*(some(worker) for worker in range(20)))
    statistics = exchanger.statistics()
    assert (statistics.in_use, statistics.connecting, statistics.waiting) == (0, 0, 0)
    # The server learns of a hang-up a moment after we do, and may have counted the next by then.
    assert server.most_open <= 14
    await exchanger.aclose()
    await wait_until(lambda: server.open == 0)


async def test_closing_fails_requests_under_way_in_the_queue_and_connecting(bench: Bench) -> None:
    server, exchanger = await bench.pair(silent, max_connections=2)
    tasks = [start(exchanger) for _ in range(4)]
    await wait_until(lambda: server.open == 2 and exchanger.statistics().waiting == 2)
    await exchanger.aclose()
    await wait_until(lambda: server.open == 0)
    for task in tasks:
        with pytest.raises(GatewayConnectionError, match="the client was closed") as caught:
            await task
        assert not caught.value.is_retryable
    statistics = exchanger.statistics()
    assert (statistics.open, statistics.connecting, statistics.waiting) == (0, 0, 0)


async def test_closing_ends_a_dial_under_way(bench: Bench) -> None:
    async with black_hole() as port:
        exchanger = bench.exchanger(f"http://127.0.0.1:{port}")
        task = start(exchanger)
        await wait_until(lambda: exchanger.statistics().connecting == 1)
        await exchanger.aclose()
        with pytest.raises(GatewayConnectionError, match="the client was closed"):
            await task
        assert exchanger.statistics().connecting == 0


async def test_a_closed_exchanger_refuses_and_may_be_closed_again(bench: Bench) -> None:
    server, exchanger = await bench.pair(echo)
    await exchanger.post(PATH, (), b"{}", deadline=soon())
    await exchanger.aclose()
    await wait_until(lambda: server.open == 0)
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await exchanger.post(PATH, (), b"{}", deadline=soon())
    with pytest.raises(GatewayConnectionError, match="the client was closed"):
        await exchanger.connect(deadline=soon())
    await exchanger.aclose()


async def test_an_exchanger_that_is_dropped_unclosed_warns_and_hangs_up(bench: Bench) -> None:
    server = await bench.server(echo)
    exchanger = NativeExchanger(HTTPInferenceClientConfig(server.url))
    await exchanger.post(PATH, (), b"{}", deadline=soon())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del exchanger
        gc.collect()
    assert [str(w.message).split(" ")[:2] for w in caught] == [["unclosed", "<NativeExchanger"]]
    assert caught[0].category is ResourceWarning
    await wait_until(lambda: server.open == 0)


def test_an_exchanger_belongs_to_the_loop_of_its_first_request() -> None:
    exchanger: list[NativeExchanger] = []

    async def first() -> None:
        server = Server(echo)
        await server.start()
        exchanger.append(NativeExchanger(HTTPInferenceClientConfig(server.url)))
        await exchanger[0].post(PATH, (), b"{}", deadline=soon())
        await server.stop()
        await exchanger[0].aclose()
        exchanger[0] = NativeExchanger(HTTPInferenceClientConfig("http://127.0.0.1:9"))
        with pytest.raises(GatewayConnectionError):
            await exchanger[0].post(PATH, (), b"{}", deadline=soon())

    async def second() -> None:
        with pytest.raises(InvalidRequestError, match="another event loop"):
            await exchanger[0].post(PATH, (), b"{}", deadline=soon())

    asyncio.run(first())
    asyncio.run(second())
