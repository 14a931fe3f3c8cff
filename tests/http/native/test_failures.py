"""Each way an exchange can break, and what the caller is told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator

import pytest

from batch_gateway.errors import (
    BadResponseError,
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    StaleConnectionError,
)
from tests.http.native.raw_server import Bench, Peer, echo, soon, wait_until

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\n"


async def failure(bench: Bench, sent: bytes, *, reset: bool = False, **settings: object) -> str:
    """The one-line description of what a response of exactly `sent` bytes leads to."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        if reset:
            peer.reset()

    server, exchanger = await bench.pair(script, **settings)
    with pytest.raises(InferenceError) as caught:
        await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert exchanger.statistics().open == 0
    error = caught.value
    assert len(error.message) < 250
    assert error.body == b""
    return f"{type(error).__name__}: {error.message.replace(f'127.0.0.1:{server.port}', 'GW')}"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "GatewayConnectionError: GW closed the connection before answering"),
        (
            b"HTTP/1.1 200",
            "GatewayConnectionError: GW closed the connection before its response headers"
            " were complete",
        ),
        (
            OK + b"Content-Length: 10\r\n\r\nabc",
            "BadResponseError: GW sent a truncated response: 3 of 10 bytes of its body had arrived",
        ),
        (
            OK + b"Content-Length: 10\r\n\r\n",
            "BadResponseError: GW sent a truncated response: 0 of 10 bytes of its body had arrived",
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "BadResponseError: GW sent a truncated response: 3 bytes of its body had arrived",
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
            "BadResponseError: GW sent a truncated response: 1 byte of its body had arrived",
        ),
    ],
)
async def test_a_connection_closed_too_early(bench: Bench, sent: bytes, told: str) -> None:
    assert await failure(bench, sent) == told


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "GatewayConnectionError: GW reset the connection before answering"),
        (
            OK,
            "GatewayConnectionError: GW reset the connection during the response:"
            " its headers were not complete",
        ),
        (
            OK + b"Content-Length: 10\r\n\r\nabc",
            "GatewayConnectionError: GW reset the connection during the response:"
            " 3 of 10 bytes of its body had arrived",
        ),
        (
            OK + b"\r\nabc",
            "GatewayConnectionError: GW reset the connection during the response:"
            " 3 bytes of its body had arrived",
        ),
    ],
)
async def test_a_connection_that_is_reset(bench: Bench, sent: bytes, told: str) -> None:
    assert await failure(bench, sent, reset=True) == told


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "malformed HTTP response (Expected HTTP/"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "GW expects TLS: use https:// in its URL"),
        (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", "GW speaks only HTTP/2 on this port"),
        (OK + b"Content-Length: x\r\n\r\n", "malformed HTTP response (Invalid character in Con"),
        (OK + b"Content-Length: -1\r\n\r\n", "malformed HTTP response"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed HTTP response"),
        (OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "a truncated response"),
        (OK + b"Content-Length: 1, 2\r\n\r\n", "malformed HTTP response"),
        (OK + b"Content-Length: 99999999999999999999999\r\n\r\n", "malformed HTTP response"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed HTTP response"),
        (OK + b"A b\r\n\r\n", "malformed HTTP response"),
        (OK + b"A: b\rC: d\r\n\r\n", "malformed HTTP response"),
        (OK + b"A: b\r\n folded\r\nContent-Length: 0\r\n\r\n", "malformed HTTP response"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", "a transfer coding nobody asked for: 'gzip'"),
        (
            OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "a transfer coding nobody asked for: 'gzip, chunked'",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "an impossible status, 101"),
        (
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nfoo",
            "an impossible status, 101",
        ),
        (b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", "an impossible status, 99"),
        (
            OK + b"Content-Encoding: br\r\n\r\n\x8b",
            "is compressed with 'br', which nobody asked for",
        ),
        (OK + b"Content-Encoding: gzip\r\n\r\n\x00bc", "says it is gzip but is"),
        (
            OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"abc" * 99, mtime=0)[:-9],
            "ends in the mi",
        ),
    ],
)
async def test_an_answer_that_is_not_one(bench: Bench, sent: bytes, told: str) -> None:
    message = await failure(bench, sent)
    assert message.startswith("BadResponseError: ")
    assert told in message


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(70)),
        OK + b"X: " + b"a" * 70_000,
        OK + b"".join(b"X-%d: a\r\n" % n for n in range(1100)) + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 3000,
    ],
    ids=["many", "one", "count", "interim"],
)
async def test_endless_headers_are_refused(bench: Bench, sent: bytes) -> None:
    assert "response headers of more than 64 KiB or 1000 fields" in await failure(bench, sent)


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001,
        OK + b"\r\n" + b"a" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1001,
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"a" * 1001),
    ],
    ids=["length", "eof", "chunked", "gzip"],
)
async def test_a_body_over_the_limit_is_refused_by_name(bench: Bench, sent: bytes) -> None:
    message = await failure(bench, sent, max_response_bytes=1000)
    assert message.startswith("BadResponseError: ")
    assert "max_response_bytes (1000 bytes)" in message


async def test_a_body_of_exactly_the_limit_is_fine(bench: Bench) -> None:
    _, exchanger = await bench.pair(max_response_bytes=1000)
    assert len((await exchanger.post(PATH, (), b"a" * 1000, deadline=soon())).body) == 1000


async def test_an_endless_body_is_cut_at_the_limit(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"400\r\n" + b"a" * 1024 + b"\r\n")

    server, exchanger = await bench.pair(script, max_response_bytes=1_000_000)
    with pytest.raises(BadResponseError, match="max_response_bytes"):
        await exchanger.post(PATH, (), b"{}", deadline=soon())
    await wait_until(lambda: server.open == 0)


async def test_a_refused_connection_names_the_gateway(bench: Bench) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        exchanger = bench.exchanger(f"http://127.0.0.1:{port}")
        with pytest.raises(GatewayConnectionError) as caught:
            await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert caught.value.message == f"cannot connect to 127.0.0.1:{port}: connection refused"
    assert isinstance(caught.value.cause, ConnectionRefusedError)
    assert caught.value.is_retryable
    assert exchanger.statistics().connecting == 0


@pytest.mark.parametrize("host", ["gateway.invalid", "a..b", "x" * 70])
async def test_a_name_that_does_not_exist(bench: Bench, host: str) -> None:
    exchanger = bench.exchanger(f"http://{host}:8000")
    with pytest.raises(GatewayConnectionError, match="cannot be resolved"):
        await exchanger.post(PATH, (), b"{}", deadline=soon())


async def test_a_unix_socket_that_is_not_there(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "gw"
    exchanger = bench.exchanger("http://gateway", unix_socket=path)
    with pytest.raises(GatewayConnectionError) as caught:
        await exchanger.connect(deadline=soon())
    assert caught.value.message == f"cannot connect to unix:{path}: no such file or directory"


async def test_a_kept_connection_that_answered_in_part_is_not_stale(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond()
        await peer.request()
        await peer.send(b"HTTP/1.1 2")

    _, exchanger = await bench.pair(script)
    await exchanger.post(PATH, (), b"{}", deadline=soon())
    with pytest.raises(GatewayConnectionError) as caught:
        await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert not isinstance(caught.value, StaleConnectionError)


async def test_a_connection_closed_while_idle_is_noticed_before_it_is_used(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond()

    server, exchanger = await bench.pair(script)
    for _ in range(50):
        assert (await exchanger.post(PATH, (), b"{}", deadline=soon())).status_code == 200
        # The server has closed, but the event loop has not told us yet.
        await wait_until(lambda: server.open == 0)
    assert len(server.peers) == 50


# --- deadlines ---


async def test_a_short_deadline_fires_and_names_what_was_missing(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    server, exchanger = await bench.pair(script)
    with pytest.raises(RequestTimeoutError) as caught:
        await exchanger.post(PATH, (), b"{}", deadline=soon(0.05))
    assert caught.value.message.endswith("in time: no byte of a response had arrived")
    await wait_until(lambda: server.open == 0)
    assert exchanger.statistics().open == 0


async def test_a_short_deadline_fires_beside_long_ones(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    _, exchanger = await bench.pair(script)
    long = [
        asyncio.create_task(exchanger.post(PATH, (), b"{}", deadline=soon(60))) for _ in range(9)
    ]
    await wait_until(lambda: exchanger.statistics().in_use == 9)
    with pytest.raises(RequestTimeoutError):
        async with asyncio.timeout(2):
            await exchanger.post(PATH, (), b"{}", deadline=soon(0.02))
    for task in long:
        task.cancel()
    await asyncio.wait(long)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (OK, "its headers were not complete"),
        (OK + b"Content-Length: 9\r\n\r\nabc", "3 of 9 bytes of its body had arrived"),
    ],
)
async def test_a_deadline_covers_the_reading(bench: Bench, sent: bytes, told: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.gone()

    _, exchanger = await bench.pair(script)
    with pytest.raises(RequestTimeoutError, match=told):
        await exchanger.post(PATH, (), b"{}", deadline=soon(0.1))


async def test_a_deadline_covers_the_wait_for_a_connection(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    server, exchanger = await bench.pair(script, max_connections=1)
    first = asyncio.create_task(exchanger.post(PATH, (), b"{}", deadline=soon()))
    await wait_until(lambda: server.open == 1)
    with pytest.raises(RequestTimeoutError, match="became free in time"):
        await exchanger.post(PATH, (), b"{}", deadline=soon(0.05))
    assert exchanger.statistics().waiting == 0
    first.cancel()
    await asyncio.wait([first])


async def test_a_deadline_that_has_passed_sends_nothing(bench: Bench) -> None:
    server, exchanger = await bench.pair(echo)
    await exchanger.connect(deadline=soon())
    with pytest.raises(RequestTimeoutError, match="before the request was sent"):
        await exchanger.post(PATH, (), b"{}", deadline=soon(-1))
    assert (await exchanger.post(PATH, (), b"{}", deadline=soon())).status_code == 200
    assert len(server.peers) <= 2


@contextlib.asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port whose queue is full, so that connecting to it neither succeeds nor fails."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        await loop.run_in_executor(None, lambda: None)
        yield listener.getsockname()[1]


async def test_connecting_gives_up_after_its_own_timeout(bench: Bench) -> None:
    async with black_hole() as port:
        exchanger = bench.exchanger(f"http://127.0.0.1:{port}", connect_timeout=0.05)
        with pytest.raises(RequestTimeoutError) as caught:
            await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert caught.value.message == (
        f"connecting to 127.0.0.1:{port} took longer than 50ms"
        " (connect_timeout, --connect-timeout): it did not answer"
    )
    assert exchanger.statistics().connecting == 0


async def test_connecting_gives_up_at_the_deadline(bench: Bench) -> None:
    async with black_hole() as port:
        exchanger = bench.exchanger(f"http://127.0.0.1:{port}")
        with pytest.raises(RequestTimeoutError, match="deadline passed while connecting"):
            await exchanger.post(PATH, (), b"{}", deadline=soon(0.05))


async def test_a_unix_socket_with_a_full_queue_is_waited_for(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("s") / "gw")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        filler = stack.enter_context(socket.socket(socket.AF_UNIX))
        filler.connect(path)
        exchanger = bench.exchanger("http://gw", unix_socket=path)
        connecting = asyncio.create_task(exchanger.connect(deadline=soon()))
        await asyncio.sleep(0.03)
        assert not connecting.done()
        stack.enter_context(listener.accept()[0])
        await connecting
        await exchanger.aclose()
