"""Kept-alive connections: how many there are, how they are shared, when they are closed."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import Connect, Post
from .scripted_server import LIMIT, Peer, ScriptedServer, answer, echo, serving

pytestmark = pytest.mark.anyio


async def until_open(server: ScriptedServer, count: int) -> None:
    async with asyncio.timeout(LIMIT):
        while server.open != count:
            await asyncio.sleep(0.005)


async def test_requests_one_after_another_share_one_connection(
    connect: Connect, post: Post
) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url)
        for number in range(20):
            assert (await post(exchanger, b"%d" % number)).body == b"%d" % number
        assert server.accepted == 1


async def test_requests_at_the_same_time_get_their_own_answers(
    connect: Connect, post: Post
) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url)
        bodies = [b"%d" % number for number in range(200)]
        responses = await asyncio.gather(*(post(exchanger, body) for body in bodies))
    assert [response.body for response in responses] == bodies


async def test_no_more_connections_are_open_than_allowed(connect: Connect, post: Post) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url, max_connections=4)
        bodies = [b"%d" % number for number in range(50)]
        responses = await asyncio.gather(*(post(exchanger, body) for body in bodies))
        assert [response.body for response in responses] == bodies
        assert server.most_open <= 4


async def test_without_a_limit_every_request_gets_a_connection(
    connect: Connect, post: Post
) -> None:
    arrived = 0
    everyone = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal arrived
        await peer.request()
        arrived += 1
        if arrived == 150:
            everyone.set()
        await everyone.wait()
        peer.send(answer())
        await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        responses = await asyncio.gather(*(post(exchanger) for _ in range(150)))
    assert {response.status_code for response in responses} == {200}


async def test_slots_of_broken_connections_are_given_to_those_who_wait(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.body == b"break":
            peer.reset()
            return
        peer.send(answer(request.body, b"Connection: close"))

    async with serving(script) as server:
        exchanger = connect(server.base_url, max_connections=2)
        results = await asyncio.gather(
            *(post(exchanger, b"break" if n % 2 else b"%d" % n) for n in range(20)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, ConnectionError) for result in results) == 10
        assert server.most_open <= 2


async def test_an_idle_connection_is_closed_after_its_timeout(connect: Connect, post: Post) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url, idle_timeout=0.05)
        await post(exchanger)
        await until_open(server, 0)
        await post(exchanger)
        assert server.accepted == 2


async def test_no_idle_connections_means_a_new_one_for_every_request(
    connect: Connect, post: Post
) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url, max_idle_connections=0)
        for number in range(1, 4):
            await post(exchanger)
            assert server.accepted == number
        await until_open(server, 0)


async def test_idle_connections_above_the_cap_are_closed(connect: Connect, post: Post) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url, max_idle_connections=2)
        together = asyncio.Barrier(8)

        async def at_once() -> None:
            await together.wait()
            await post(exchanger)

        await asyncio.gather(*(at_once() for _ in range(8)))
        await until_open(server, 2)


async def test_closing_closes_idle_connections(connect: Connect, post: Post) -> None:
    async with serving(echo) as server:
        exchanger = connect(server.base_url)
        await asyncio.gather(*(post(exchanger) for _ in range(10)))
        await exchanger.aclose()
        await until_open(server, 0)
