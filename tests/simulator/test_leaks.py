"""Clients that leave at any moment, under every fault at once, leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import socket

import pytest

from batch_gateway.simulator.faults import FAULTS, FaultKind
from batch_gateway.simulator.server_connection import ServerConnection
from batch_gateway.simulator.server_exchange import Exchange
from batch_gateway.testing import SimulatedGateway, SimulatorConfig

from .asking import CHAT, CHAT_PATH

BUSY = SimulatorConfig(
    seats=4, queue_limit=10, queue_ttl=0.1, time_per_token=0.0005, jitter=0.2, output_tokens=8
)


async def visit(gateway: SimulatedGateway, draws: random.Random) -> None:
    """One client: it asks for a fault or none, waits a moment or to the end, and leaves."""
    streams = draws.random() < 0.5
    fitting = [n for n, f in FAULTS.items() if streams or f.kind is not FaultKind.STREAM]
    fault = draws.choice(["", "", "", *fitting])
    body = json.dumps(CHAT | {"stream": streams}).encode()
    head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: test\r\n"
    if fault:
        head += f"X-Simulate-Fault: {fault}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head.encode() + body)
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(draws.random() * 0.03):
            await reader.read(100_000)
    if draws.random() < 0.5:
        writer.transport.abort()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def alive() -> int:
    gc.collect()
    return sum(isinstance(o, Exchange | ServerConnection) for o in gc.get_objects())


def test_nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    before = alive()

    async def main() -> None:
        draws = random.Random(3)
        room = asyncio.Semaphore(30)

        async def visit_in_turn() -> None:
            async with room:
                await visit(gateway, draws)

        async with asyncio.timeout(30), SimulatedGateway(BUSY) as gateway:
            await asyncio.gather(*(visit_in_turn() for _ in range(400)))
            while gateway.journal.connections_open:
                await asyncio.sleep(0.001)
            journal = gateway.journal
            assert (gateway.running, gateway.waiting, journal.in_flight) == (0, 0, 0)
            assert journal.received == sum(journal.by_status.values())

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.records == []
    assert alive() <= before


@pytest.mark.anyio
@pytest.mark.parametrize("turns", range(5))
async def test_a_gateway_that_stops_while_clients_are_let_in_keeps_no_socket(turns: int) -> None:
    gateway = SimulatedGateway(SimulatorConfig.instant())
    await gateway.start()
    clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await gateway.stop()
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    gc.collect()  # a socket that was left open would warn here
