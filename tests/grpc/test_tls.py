"""Channels over TLS: the certificates of pickers as they come, and what each refusal says."""

from __future__ import annotations

import asyncio
import ssl

import grpc
import pytest

from batch_gateway.errors import GatewayConnectionError, RequestTimeoutError, TLSError
from batch_gateway.grpc.channel import Http2Channel
from batch_gateway.http.tls import TLSConfig
from tests.grpc.conftest import Bench, soon
from tests.grpc.grpcio_server import ECHO, ONCE
from tests.http.behaviour.certificates import Certificates
from tests.http.behaviour.self_signed import SelfSigned
from tests.http.native.raw_server import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    return SelfSigned(tmp_path_factory.mktemp("self-signed"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def channel_to(bench: Bench, self_signed: SelfSigned, tls: TLSConfig) -> Http2Channel:
    """A channel to a server of grpcio with that certificate."""
    pair = (self_signed.key, self_signed.certificate)
    port = await bench.grpcio_tls(grpc.ssl_server_credentials([pair]))
    return bench.channel_of(f"grpcs://127.0.0.1:{port}", tls=tls)


async def test_a_pinned_certificate_without_a_name_is_enough(
    bench: Bench, self_signed: SelfSigned
) -> None:
    tls = TLSConfig(pinned_certificate=self_signed.fingerprint)
    channel = await channel_to(bench, self_signed, tls)
    assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"
    call = await channel.open(ECHO, deadline=soon())
    await call.send(b"x" * 500_000, end=True)
    assert await call.receive() == b"x" * 500_000
    assert await call.receive() is None


async def test_without_verification_it_is_accepted_as_well(
    bench: Bench, self_signed: SelfSigned
) -> None:
    channel = await channel_to(bench, self_signed, TLSConfig(insecure_skip_verify=True))
    assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"


async def test_otherwise_the_refusal_shows_the_fingerprint_and_the_ways_out(
    bench: Bench, self_signed: SelfSigned
) -> None:
    channel = await channel_to(bench, self_signed, TLSConfig())
    with pytest.raises(TLSError, match=r"certificate of 127\.0\.0\.1:\d+ was refused") as caught:
        await channel.unary(ONCE, b"abc", deadline=soon())
    for part in (self_signed.fingerprint, "--tls-pin", "--tls-insecure-skip-verify"):
        assert part in caught.value.message
    assert not caught.value.is_retryable
    assert channel.statistics().connections == 0


async def test_another_certificate_than_the_pinned_one_is_refused(
    bench: Bench, self_signed: SelfSigned
) -> None:
    tls = TLSConfig(pinned_certificate="00" * 32)
    channel = await channel_to(bench, self_signed, tls)
    with pytest.raises(TLSError, match="not the pinned one"):
        await channel.connect(deadline=soon())


async def test_a_certificate_for_another_name_is_verified_under_it(
    bench: Bench, certificates: Certificates
) -> None:
    seen: list[tuple[str | None, str | None]] = []
    context = certificates.server("picker.test")
    context.set_alpn_protocols(["h2"])
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def script(peer: Peer) -> None:
        tls: ssl.SSLObject = peer.transport.get_extra_info("ssl_object")
        seen.append((tls.selected_alpn_protocol(), tls.version()))
        await peer.send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        await peer.gone()

    server, _ = await bench.raw(script, ssl=context)
    tls = TLSConfig(ca_file=certificates.ca_file, server_name="picker.test")
    await bench.channel_of(f"grpcs://127.0.0.1:{server.port}", tls=tls).connect(deadline=soon())
    assert names == ["picker.test"]
    assert seen == [("h2", "TLSv1.3")]


async def test_a_server_that_expects_tls_is_recognised(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        # What OpenSSL says to it: a fatal alert, unexpected message.
        await peer.send(b"\x15\x03\x01\x00\x02\x02\x0a")
        await peer.gone()

    _, channel = await bench.raw(script)
    with pytest.raises(GatewayConnectionError, match="expects TLS; use grpcs://"):
        await channel.connect(deadline=soon())


async def test_a_server_that_hangs_up_without_a_word_may_want_another_kind_of_connection(
    bench: Bench, certificates: Certificates
) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        peer.writer.close()

    _, plain = await bench.raw(script)
    with pytest.raises(GatewayConnectionError, match="perhaps it expects TLS: grpcs://"):
        await plain.connect(deadline=soon())
    context = certificates.server()
    context.set_alpn_protocols(["h2"])
    server, _ = await bench.raw(script, ssl=context)
    tls = TLSConfig(ca_file=certificates.ca_file)
    channel = bench.channel_of(f"grpcs://127.0.0.1:{server.port}", tls=tls)
    with pytest.raises(GatewayConnectionError, match="perhaps it asks for a client certificate"):
        await channel.connect(deadline=soon())


async def test_a_server_that_says_nothing_runs_into_the_connect_timeout(
    bench: Bench, certificates: Certificates
) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    context = certificates.server()
    server, plain = await bench.raw(script, connect_timeout=0.05)
    with pytest.raises(RequestTimeoutError, match="its HTTP/2 settings had not come"):
        await plain.connect(deadline=soon())
    server, _ = await bench.raw(script, ssl=context)
    tls = TLSConfig(ca_file=certificates.ca_file)
    url = f"grpcs://127.0.0.1:{server.port}"
    channel = bench.channel_of(url, tls=tls, connect_timeout=0.2)
    with pytest.raises(RequestTimeoutError, match="its HTTP/2 settings had not come"):
        await channel.connect(deadline=soon())
    with pytest.raises(RequestTimeoutError, match="the deadline passed while connecting"):
        await channel.connect(deadline=soon(0.05))


async def test_calls_of_one_channel_share_one_handshake(
    bench: Bench, self_signed: SelfSigned
) -> None:
    tls = TLSConfig(pinned_certificate=self_signed.fingerprint)
    channel = await channel_to(bench, self_signed, tls)
    await asyncio.gather(*(channel.unary(ONCE, b"abc", deadline=soon()) for _ in range(50)))
    assert channel.statistics().connections == 1
