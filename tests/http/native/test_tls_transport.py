"""What TLS may do to a connection besides carrying its bytes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import GatewayConnectionError, TLSError
from batch_gateway.http.native import NativeExchanger
from batch_gateway.http.tls import TLSConfig
from batch_gateway.http.tls_transport import TLSTransport
from tests.http.native.raw_server import LIMIT, Bench, Peer, soon, wait_until

pytestmark = pytest.mark.anyio
AUTHORITY = trustme.CA()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    return context


class HandshakeAnew(ssl.SSLContext):
    """Its connections begin a handshake in the midst of the second write, as TLS 1.2 may."""

    writes = 0

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        connection: Any = super().wrap_bio(*arguments, **options)
        inner = connection.write

        def write(data: bytes) -> int:
            self.writes += 1
            if self.writes == 2:
                raise ssl.SSLWantReadError
            return inner(data)

        connection.write = write
        return connection


def trusting(context: ssl.SSLContext) -> ssl.SSLContext:
    AUTHORITY.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def blocking_server(
    script: Callable[[ssl.SSLSocket], object], context: ssl.SSLContext
) -> AsyncIterator[str]:
    """A thread that takes one connection, for what an event loop's server does not do; its URL."""

    def serve() -> None:
        sock, _ = listener.accept()
        sock.settimeout(LIMIT)
        with contextlib.suppress(OSError), sock, context.wrap_socket(sock, server_side=True) as tls:
            script(tls)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = asyncio.create_task(asyncio.to_thread(serve))
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        await asyncio.wait_for(thread, LIMIT)


def exchanger_to(url: str, context: ssl.SSLContext) -> NativeExchanger:
    return NativeExchanger(HTTPInferenceClientConfig(url), context=context)


async def test_what_is_written_during_another_handshake_goes_out_behind_it(bench: Bench) -> None:
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        _, first = await peer.request()
        await peer.respond(first)
        await may_go_on.wait()
        # Nothing of the second request is there; what comes in now ends the handshake.
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        _, second = await peer.request()
        await peer.respond(second)

    server = await bench.server(script, ssl=server_context())
    context = HandshakeAnew(ssl.PROTOCOL_TLS_CLIENT)
    exchanger = exchanger_to(server.url, trusting(context))
    try:
        await exchanger.post("/v1", (), b"first", deadline=soon())
        body = b"second" * 50_000
        second = asyncio.ensure_future(exchanger.post("/v1", (), body, deadline=soon()))
        await wait_until(lambda: context.writes > 1)
        may_go_on.set()
        assert (await second).body == body
        assert len(server.peers) == 1
    finally:
        await exchanger.aclose()


async def test_records_that_come_at_once_and_a_goodbye_behind_them_are_an_answer(
    bench: Bench,
) -> None:
    body = bytes(range(256)) * 2_000

    async def script(peer: Peer) -> None:
        await peer.request()
        # Without a length it is the end that makes it whole.
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    server = await bench.server(script, ssl=server_context())
    exchanger = exchanger_to(server.url, trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
    try:
        assert (await exchanger.post("/v1", (), b"{}", deadline=soon())).body == body
    finally:
        await exchanger.aclose()


class Received(asyncio.Protocol):
    """What a connection was given."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


class ServerInMemory(asyncio.Transport):
    """The socket of a TLS connection, and the server at its other end."""

    def __init__(self) -> None:
        super().__init__()
        self._incoming, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server_context().wrap_bio(self._incoming, self.sent, server_side=True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._incoming.write(data)

    def is_closing(self) -> bool:
        return False


async def test_a_record_says_the_same_in_whatever_pieces_it_comes() -> None:
    received, server = Received(), ServerInMemory()
    context = trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    client = TLSTransport(received, context, "127.0.0.1", 1.0)
    client.connection_made(server)
    while server.tls.version() is None or server.sent.pending:
        with contextlib.suppress(ssl.SSLWantReadError):
            server.tls.do_handshake()
        client.data_received(server.sent.read())
    await client.handshake()
    said = b""
    for size in (1, 900):
        for cut in (0, 1, 4, 5, 6, 20, size + 21, size + 22, size + 23, 2 * size + 40):
            for _ in range(2):
                said += (message := os.urandom(size))
                server.tls.write(message)
            wire = server.sent.read()
            for piece in filter(None, (wire[:cut], wire[cut:])):
                client.data_received(piece)
            assert received.data == said


async def test_a_server_whose_certificate_is_not_the_pinned_one_is_shown_no_certificate(
    bench: Bench, tmp_path: Path
) -> None:
    # In TLS 1.3 it would be shown behind the server's own.
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    identity = AUTHORITY.issue_cert("client.example")
    file = tmp_path / "client.pem"
    identity.private_key_and_cert_chain_pem.write_to_path(file)
    shown: list[object] = []
    async with blocking_server(lambda tls: shown.append(tls.getpeercert()), context) as url:
        exchanger = bench.exchanger(
            url,
            tls=TLSConfig(pinned_certificate="0" * 64, client_cert_file=file, client_key_file=file),
        )
        with pytest.raises(TLSError, match="is pinned"):
            await exchanger.post("/v1", (), b"{}", deadline=soon())
    assert not shown


async def test_what_is_no_record_amid_an_answer_is_told_in_words_of_tls() -> None:
    def script(tls: ssl.SSLSocket) -> None:
        tls.recv(1000)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        os.write(tls.fileno(), b"\x17\x03\x03\x00\x20" + b"-" * 32)
        tls.recv(1000)

    async with blocking_server(script, server_context()) as url:
        exchanger = exchanger_to(url, trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
        with pytest.raises(GatewayConnectionError) as caught:
            await exchanger.post("/v1", (), b"{}", deadline=soon())
        await exchanger.aclose()
    assert "(decryption failed or bad record mac): 4 of 10 bytes" in caught.value.message


@pytest.mark.parametrize("trusts", [True, False], ids=["answered", "refused"])
async def test_nothing_of_a_connection_that_is_over_is_left_to_the_collector(
    bench: Bench, trusts: bool
) -> None:
    def left() -> int:
        kinds = TLSTransport | ssl.SSLWantReadError
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        await peer.respond(body, extra="Connection: close\r\n")

    server = await bench.server(script, ssl=server_context())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    exchanger = exchanger_to(server.url, trusting(context) if trusts else context)
    gc.collect()
    before = left()
    gc.disable()
    try:
        for _ in range(3):
            # Of many records, so that reads end amid one.
            with contextlib.suppress(TLSError):
                await exchanger.post("/v1", (), b"x" * 1_000_000, deadline=soon())
        await exchanger.aclose()
        await wait_until(lambda: not server.open)
        await asyncio.sleep(0)
        assert left() - before < 2  # the last one's transport may be on its way out
    finally:
        gc.enable()
