"""Certificates that nothing vouches for, and those that are for another host."""

from __future__ import annotations

import pytest

from batch_gateway.errors import TLSError
from batch_gateway.http.tls import TLSConfig

from .certificates import Certificates
from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import Peer, echo, serving
from .self_signed import SelfSigned

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    return SelfSigned(tmp_path_factory.mktemp("self-signed"))


@pytest.mark.parametrize("spelled", [str.upper, str.lower, lambda pin: pin.replace(":", "")])
async def test_the_pinned_certificate_is_accepted(
    connect: Connect, post: Post, self_signed: SelfSigned, spelled
) -> None:
    tls = TLSConfig(pinned_certificate=spelled(self_signed.fingerprint))
    async with serving(echo, tls=self_signed.server()) as server:
        exchanger = connect(server.base_url, tls=tls)
        await exchanger.connect(deadline=float("inf"))
        for body in (b"1", b"2"):
            assert (await post(exchanger, body)).body == body


async def test_any_other_certificate_is_refused_even_from_a_good_authority(
    connect: Connect, post: Post, self_signed: SelfSigned, certificates: Certificates
) -> None:
    pin = self_signed.fingerprint
    received: list[object] = []

    async def script(peer: Peer) -> None:
        received.append(await peer.request())

    async with serving(script, tls=certificates.server()) as server:
        with pytest.raises(TLSError, match="not the pinned one: its SHA-256 finger") as caught:
            await post(connect(server.base_url, tls=TLSConfig(pinned_certificate=pin)))
    assert f"{pin} is pinned" in caught.value.message
    assert not caught.value.is_retryable
    assert received == []


async def test_who_meets_an_unknown_certificate_is_told_how_it_can_be_accepted(
    connect: Connect, post: Post, self_signed: SelfSigned
) -> None:
    async with serving(echo, tls=self_signed.server()) as server:
        with pytest.raises(TLSError) as caught:
            await post(connect(server.base_url))
        assert f"127.0.0.1:{server.port}" in caught.value.message
    for part in (self_signed.fingerprint, "--tls-pin", "--tls-insecure-skip-verify"):
        assert part in caught.value.message


async def test_another_name_can_be_asked_for_and_verified(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    asked: list[str | None] = []
    context = certificates.server("elsewhere.test")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with serving(echo, tls=context) as server:
        with pytest.raises(TLSError, match="--tls-server-name"):
            await post(connect(server.base_url, tls=TLSConfig(ca_file=certificates.ca_file)))
        tls = TLSConfig(ca_file=certificates.ca_file, server_name="elsewhere.test")
        assert (await post(connect(server.base_url, tls=tls), b"1")).body == b"1"
        wrong = TLSConfig(ca_file=certificates.ca_file, server_name="nowhere.test")
        with pytest.raises(TLSError, match=r"nowhere\.test"):
            await post(connect(server.base_url, tls=wrong))
    assert asked == [None, "elsewhere.test", "nowhere.test"]
