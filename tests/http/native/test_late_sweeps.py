"""Deadlines of streams that are looked at later than they passed."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from batch_gateway.errors import RequestTimeoutError
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.connection import Connection

pytestmark = pytest.mark.anyio

EVENTS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@pytest.mark.parametrize("silent_for", [0.001, -60.0])
async def test_a_stream_that_lived_since_goes_on_only_if_its_new_deadline_is_to_come(
    silent_for: float,
) -> None:
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    with far:
        _, connection = await loop.create_connection(
            lambda: Connection("the gateway", 1_000, lambda _: None), sock=near
        )
        stream = BodyStream(
            "the gateway",
            lambda _: None,
            lambda _: None,
            deadline=float("inf"),
            begin_by=float("inf"),
            idle_timeout=60,
        )
        connection.begin(b"POST", b"", time.monotonic() - 10, stream)
        connection.data_received(EVENTS)
        assert await stream.read() == b"a"
        reading = loop.create_task(stream.hand_on(lambda _: time.monotonic() - silent_for, 100))
        await asyncio.sleep(0)
        connection.data_received(b"1\r\nb\r\n")
        connection.expire()
        is_over = not connection.is_busy
        assert is_over == (silent_for > 0)
        # Never left with one that has passed, which nobody would look at again.
        assert connection.deadline > time.monotonic()
        if is_over:
            with pytest.raises(RequestTimeoutError):
                await stream.read()
        connection.abort()
        reading.cancel()
