"""The server itself: keep-alive, pipelining, limits, disconnects, TLS, Unix sockets, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from batch_gateway.errors import ConfigError
from batch_gateway.simulator.simulated_gateway import serve
from batch_gateway.testing import (
    GatewayHandle,
    SimulatedGateway,
    SimulatorConfig,
    simulated_gateway,
)

from .asking import CHAT, CHAT_PATH, ask, ask_on

BODY = json.dumps(CHAT).encode()


def request_bytes(request_id: str = "a", extra: str = "", body: bytes = BODY) -> bytes:
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: test\r\nX-Request-ID: {request_id}\r\n"
        f"{extra}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(gateway: GatewayHandle) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def receive(sock: socket.socket, until: Callable[[bytes], bool]) -> bytes:
    received = b""
    while not until(received):
        data = sock.recv(65_536)
        if not data:
            break
        received += data
    return received


def run_async(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_connection_serves_many_requests(gateway: GatewayHandle) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    for number in range(5):
        answer = ask_on(connection, X_Request_ID=f"r{number}")
        assert answer.headers["x-request-id"] == f"r{number}"
    connection.close()
    assert gateway.journal()["connections_opened"] == 1


def test_connection_close_is_obeyed(gateway: GatewayHandle) -> None:
    with connect(gateway) as sock:
        sock.sendall(request_bytes(extra="Connection: close\r\n"))
        received = receive(sock, lambda _: False)
    assert b"connection: close" in received
    assert received.endswith(b"}")


def test_pipelined_requests_are_answered_in_order(gateway: GatewayHandle) -> None:
    slow = request_bytes("first", "X-Simulate-Fault: delay=0.05\r\n")
    with connect(gateway) as sock:
        sock.sendall(slow + request_bytes("second") + request_bytes("third"))
        received = receive(sock, lambda data: data.count(b"HTTP/1.1 200") == 3)
    order = [received.index(name) for name in (b": first", b": second", b": third")]
    assert order == sorted(order)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_request_may_come_in_pieces(gateway: GatewayHandle, size: int) -> None:
    data = request_bytes()
    with connect(gateway) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
        assert receive(sock, lambda got: got.endswith(b"}")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("endless", [b"x" * 8192, b"X: y\r\n" * 1000], ids=["a name", "headers"])
def test_a_head_without_an_end_is_refused_soon(gateway: GatewayHandle, endless: bytes) -> None:
    sent = 0
    with connect(gateway) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        while sent < 100_000_000:
            sock.sendall(endless)
            sent += len(endless)
    # What the kernel buffers on both sides comes on top.
    assert sent < 16_000_000
    assert ask(gateway.url).status == 200


@pytest.mark.parametrize("framing", ["Content-Length: 268435457", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_refused_and_forgotten(
    gateway: GatewayHandle, framing: str
) -> None:
    sent, piece = 0, b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    with connect(gateway) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(f"POST {CHAT_PATH} HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n".encode())
        if framing.startswith("Content"):
            assert receive(sock, lambda _: False).startswith(b"HTTP/1.1 413")
        while sent < 300_000_000:
            sock.sendall(piece)
            sent += len(piece)
    assert sent < 100_000_000
    assert ask(gateway.url).status == 200


def test_chunked_requests_and_expect_continue_work(gateway: GatewayHandle) -> None:
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with connect(gateway) as sock:
        sock.sendall(head.encode())
        assert receive(sock, lambda got: got.endswith(b"\r\n\r\n")) == (
            b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert receive(sock, lambda got: got.endswith(b"}")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"this is no HTTP\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (request_bytes(extra="Connection: upgrade\r\nUpgrade: h2c\r\n"), b"400"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    gateway: GatewayHandle, data: bytes, status: bytes
) -> None:
    with connect(gateway) as sock:
        sock.sendall(data)
        assert receive(sock, lambda _: False).startswith(b"HTTP/1.1 " + status)
    assert ask(gateway.url).status == 200


def test_a_client_that_leaves_frees_its_seat() -> None:
    async def main() -> None:
        config = SimulatorConfig(seats=1, output_tokens=100_000, default_max_tokens=100_000)
        async with SimulatedGateway(config) as gateway:
            _, first = await asyncio.open_connection("127.0.0.1", gateway.port)
            first.write(request_bytes("first"))
            await until(lambda: gateway.running == 1)
            _, second = await asyncio.open_connection("127.0.0.1", gateway.port)
            second.write(request_bytes("second"))
            await until(lambda: gateway.waiting == 1)
            first.close()
            await until(lambda: gateway.waiting == 0)
            assert gateway.running == 1
            assert gateway.journal.requests["first"].statuses == (0,)
            second.close()
            await until(lambda: gateway.running == 0)

    run_async(main)


def test_stopping_breaks_off_what_is_under_way_and_leaves_nothing_open() -> None:
    async def main() -> None:
        gateway = SimulatedGateway(SimulatorConfig.instant())
        async with gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request_bytes(extra="X-Simulate-Fault: stall\r\n"))
            await until(lambda: gateway.journal.in_flight == 1)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert gateway.journal.connections_open == 0
        assert gateway.journal.aborted == 1

    run_async(main)


def test_comes_back_on_the_same_port(gateway: GatewayHandle) -> None:
    ask(gateway.url, X_Request_ID="before")
    gateway.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(gateway.url)
    gateway.start()
    ask(gateway.url, X_Request_ID="after")
    assert set(gateway.journal()["requests"]) == {"before", "after"}


def test_serves_a_unix_socket_and_removes_it_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with simulated_gateway(unix_socket=path) as gateway:
        assert gateway.url == "http://localhost"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            sock.sendall(request_bytes())
            assert receive(sock, lambda got: got.endswith(b"}")).startswith(b"HTTP/1.1 200")
    assert not path.exists()


def test_serves_https_and_can_ask_for_client_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client")
    files = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    server.cert_chain_pems[0].write_to_path(files["cert"])
    server.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["ca"])
    tls: dict[str, Any] = {"tls_certificate": files["cert"], "tls_key": files["key"]}
    trusting = ssl.create_default_context(cafile=str(files["ca"]))
    with simulated_gateway(**tls) as gateway:
        assert gateway.url.startswith("https://127.0.0.1:")
        assert ask_over_tls(gateway, trusting) == 200
    with simulated_gateway(**tls, tls_client_ca=files["ca"]) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask_over_tls(gateway, trusting)
        client.configure_cert(trusting)
        assert ask_over_tls(gateway, trusting) == 200


def ask_over_tls(gateway: GatewayHandle, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", gateway.port, timeout=10, context=context)
    try:
        return ask_on(connection).status
    finally:
        connection.close()


def test_settings_change_while_it_runs(gateway: GatewayHandle) -> None:
    gateway.configure(models=["other"], output_tokens=3)
    assert ask(gateway.url).status == 404
    answer = ask(gateway.url, body=CHAT | {"model": "other"})
    assert answer.json()["usage"]["completion_tokens"] == 3
    with pytest.raises(ConfigError, match="is not a setting"):
        gateway.configure(seat=1)
    with pytest.raises(ConfigError, match="cannot change"):
        gateway.configure(tls_key="x")


def test_serve_says_where_it_is_and_runs_until_it_is_cancelled() -> None:
    async def main() -> None:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve(SimulatorConfig.instant(), "127.0.0.1", 0, ready.set_result)
        )
        url = await ready
        answer = await asyncio.to_thread(ask, url)
        assert answer.status == 200
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(ask, url)

    run_async(main)


def test_nothing_can_be_read_before_the_first_start() -> None:
    with pytest.raises(RuntimeError, match="was not started"):
        _ = SimulatedGateway().journal
