"""TLS over real sockets: who is trusted, what is refused, and how that is told."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from batch_gateway.errors import (
    BadResponseError,
    GatewayConnectionError,
    RequestTimeoutError,
    TLSError,
)
from batch_gateway.http.tls import TLSConfig
from tests.http.native.raw_server import LIMIT, Bench, Peer, echo, soon, wait_until

pytestmark = pytest.mark.anyio
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class Authority:
    """A CA on disk and what it issues."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)
        client = self.ca.issue_cert("client@example.org")
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(self.client_cert)
        client.private_key_pem.write_to_path(self.client_key)

    def server(self, *names: str, expired: bool = False, ask: bool = False) -> ssl.SSLContext:
        until = YESTERDAY if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("127.0.0.1",)), not_after=until).configure_cert(context)
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def openssl_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a server in a thread, for one connection.

    asyncio's own TLS server hangs up on a failed handshake without sending the alert that says
    why; servers at large send it.
    """

    def serve() -> None:
        sock, _ = listener.accept()
        with contextlib.suppress(OSError), sock, context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = asyncio.create_task(asyncio.to_thread(serve))
        yield listener.getsockname()[1]
        await asyncio.wait_for(thread, LIMIT)


async def refusal(bench: Bench, context: ssl.SSLContext, tls: TLSConfig) -> TLSError:
    async with openssl_server(context) as port:
        exchanger = bench.exchanger(f"https://127.0.0.1:{port}", tls=tls)
        with pytest.raises(TLSError) as caught:
            await exchanger.post("/v1", (), b"{}", deadline=soon())
    assert not caught.value.is_retryable
    assert f"127.0.0.1:{port}" in caught.value.message
    assert isinstance(caught.value.cause, ssl.SSLError)
    statistics = exchanger.statistics()
    assert (statistics.open, statistics.connecting) == (0, 0)
    return caught.value


async def test_a_trusted_gateway_is_talked_to_over_one_connection(
    bench: Bench, authority: Authority
) -> None:
    server = await bench.server(echo, ssl=authority.server())
    exchanger = bench.exchanger(server.url, tls=TLSConfig(ca_file=authority.file))
    await exchanger.connect(deadline=soon())
    for size in (0, 1000, 300_000, 5_000_000):
        response = await exchanger.post("/v1", (), b"x" * size, deadline=soon())
        assert len(response.body) == size
    assert len(server.peers) <= 2  # a ticket may arrive between `connect` and the first request


async def test_an_unknown_authority(bench: Bench, authority: Authority) -> None:
    error = await refusal(bench, authority.server(), TLSConfig())
    assert "certificate of 127.0.0.1" in error.message
    assert "unable to get local issuer certificate" in error.message


async def test_a_certificate_for_another_host(bench: Bench, authority: Authority) -> None:
    context = authority.server("elsewhere.example")
    error = await refusal(bench, context, TLSConfig(ca_file=authority.file))
    assert "certificate is not valid for '127.0.0.1'" in error.message


async def test_an_expired_certificate(bench: Bench, authority: Authority) -> None:
    context = authority.server(expired=True)
    error = await refusal(bench, context, TLSConfig(ca_file=authority.file))
    assert "certificate has expired" in error.message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_missing_client_certificate(
    bench: Bench, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.server(ask=True)
    context.minimum_version = context.maximum_version = version
    async with asyncio.timeout(LIMIT):
        while True:
            # With TLS 1.3 the refusal races our request. When the reset that follows it wins,
            # all one knows is that the connection broke, which is worth another attempt.
            with contextlib.suppress(GatewayConnectionError):
                error = await refusal(bench, context, TLSConfig(ca_file=authority.file))
                break
    assert "alert" in error.message


async def test_a_client_certificate_is_shown(bench: Bench, authority: Authority) -> None:
    server = await bench.server(echo, ssl=authority.server(ask=True))
    tls = TLSConfig(
        ca_file=authority.file,
        client_cert_file=authority.client_cert,
        client_key_file=authority.client_key,
    )
    exchanger = bench.exchanger(server.url, tls=tls)
    assert (await exchanger.post("/v1", (), b"mutual", deadline=soon())).body == b"mutual"


async def test_a_server_that_is_too_old(bench: Bench, authority: Authority) -> None:
    context = authority.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = TLSConfig(ca_file=authority.file, minimum_version="1.3")
    assert "version" in (await refusal(bench, context, tls)).message


async def test_verification_can_be_switched_off(bench: Bench, authority: Authority) -> None:
    server = await bench.server(echo, ssl=authority.server("elsewhere.example", expired=True))
    exchanger = bench.exchanger(server.url, tls=TLSConfig(insecure_skip_verify=True))
    assert (await exchanger.post("/v1", (), b"hm", deadline=soon())).body == b"hm"


async def test_tls_to_a_plain_port(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await bench.server(script)
    exchanger = bench.exchanger(f"https://127.0.0.1:{server.port}")
    with pytest.raises(TLSError, match="wrong version number; it seems to speak no TLS here"):
        await exchanger.post("/v1", (), b"{}", deadline=soon())


async def test_plain_http_to_a_tls_port(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        # What OpenSSL says to it: a fatal alert, unexpected message.
        await peer.send(b"\x15\x03\x01\x00\x02\x02\x0a")

    _, exchanger = await bench.pair(script)
    with pytest.raises(BadResponseError, match="use https:// in its URL"):
        await exchanger.post("/v1", (), b"{}", deadline=soon())


async def test_a_peer_that_hangs_up_in_the_handshake_may_be_tried_again(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)

    server = await bench.server(script)
    exchanger = bench.exchanger(f"https://127.0.0.1:{server.port}")
    with pytest.raises(
        GatewayConnectionError, match="closed the connection during the TLS"
    ) as caught:
        await exchanger.post("/v1", (), b"{}", deadline=soon())
    assert not isinstance(caught.value, TLSError)
    assert caught.value.is_retryable


async def test_a_handshake_that_stalls_runs_into_the_connect_timeout(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    server = await bench.server(script)
    exchanger = bench.exchanger(f"https://127.0.0.1:{server.port}", connect_timeout=0.05)
    with pytest.raises(RequestTimeoutError, match="the TLS handshake was not over"):
        await exchanger.post("/v1", (), b"{}", deadline=soon())
    await wait_until(lambda: server.open == 0)


async def test_a_cancelled_request_closes_its_tls_connection(
    bench: Bench, authority: Authority
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    server = await bench.server(script, ssl=authority.server())
    exchanger = bench.exchanger(server.url, tls=TLSConfig(ca_file=authority.file))
    task = asyncio.create_task(exchanger.post("/v1", (), b"{}", deadline=soon()))
    await wait_until(lambda: exchanger.statistics().in_use == 1)
    task.cancel()
    await asyncio.wait([task])
    await wait_until(lambda: server.open == 0)


async def test_tls_over_a_unix_socket(
    bench: Bench, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "gw"
    await bench.server(echo, path=path, ssl=authority.server("gateway.example"))
    exchanger = bench.exchanger(
        "https://gateway.example", unix_socket=path, tls=TLSConfig(ca_file=authority.file)
    )
    assert (await exchanger.post("/v1", (), b"both", deadline=soon())).body == b"both"


async def test_a_body_cut_short_inside_tls_is_truncated(bench: Bench, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    server = await bench.server(script, ssl=authority.server())
    exchanger = bench.exchanger(server.url, tls=TLSConfig(ca_file=authority.file))
    with pytest.raises(BadResponseError, match="3 of 10 bytes of its body had arrived"):
        await exchanger.post("/v1", (), b"{}", deadline=soon())
