"""TLS: what is verified, what is shown, and what each refusal is called."""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path

import pytest

from batch_gateway.client.build import InsecureTLSWarning
from batch_gateway.errors import (
    BadResponseError,
    ConfigError,
    GatewayConnectionError,
    InferenceError,
    TLSError,
)
from batch_gateway.http.tls import TLSConfig

from .certificates import Certificates
from .conftest import Connect, Post
from .handshakes import tls_server
from .loops import EVERY_LOOP
from .scripted_server import Peer, echo, serving

pytestmark = pytest.mark.anyio

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def test_a_certificate_of_a_given_authority_is_accepted_and_the_connection_kept(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    async with serving(echo, tls=certificates.server()) as server:
        exchanger = connect(server.base_url, tls=tls)
        for body in (b"1", b"x" * 3_000_000, b"3"):
            assert (await post(exchanger, body)).body == body
        assert server.accepted == 1


async def test_an_unknown_authority_is_refused(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    async with serving(echo, tls=certificates.server()) as server:
        with pytest.raises(TLSError, match=rf"certificate of 127\.0\.0\.1:{server.port}") as it:
            await post(connect(server.base_url))
    assert not it.value.is_retryable


async def test_a_certificate_for_another_host_is_refused(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    async with serving(echo, tls=certificates.server("elsewhere.test")) as server:
        with pytest.raises(TLSError, match=r"not valid for '127\.0\.0\.1'"):
            await post(connect(server.base_url, tls=tls))


async def test_an_expired_certificate_is_refused(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    async with serving(echo, tls=certificates.server(expired=True)) as server:
        with pytest.raises(TLSError, match="expired"):
            await post(connect(server.base_url, tls=tls))


async def test_connect_meets_the_same_certificate_problems(
    connect: Connect, certificates: Certificates
) -> None:
    async with serving(echo, tls=certificates.server()) as server:
        with pytest.raises(TLSError, match="certificate"):
            await connect(server.base_url).connect(deadline=float("inf"))
        tls = TLSConfig(ca_file=certificates.ca_file)
        await connect(server.base_url, tls=tls).connect(deadline=float("inf"))


async def test_verification_can_be_switched_off_with_a_warning(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    tls = TLSConfig(insecure_skip_verify=True)
    async with serving(echo, tls=certificates.server("elsewhere.test", expired=True)) as server:
        with pytest.warns(InsecureTLSWarning, match=str(server.port)):
            exchanger = connect(server.base_url, tls=tls)
        assert (await post(exchanger, b"1")).body == b"1"


async def test_no_warning_where_there_is_no_tls(connect: Connect) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect("http://127.0.0.1:9", tls=TLSConfig(insecure_skip_verify=True))


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
async def test_a_client_certificate_is_shown(
    connect: Connect, post: Post, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    names: list[object] = []

    async def script(peer: Peer) -> None:
        assert peer.tls is not None
        names.append((peer.tls.getpeercert() or {})["subject"])
        await echo(peer)

    tls = TLSConfig(
        ca_file=certificates.ca_file,
        client_cert_file=certificates.client_cert_file,
        client_key_file=certificates.client_key_file,
    )
    async with serving(script, tls=certificates.server_for_clients(maximum=version)) as server:
        assert (await post(connect(server.base_url, tls=tls), b"1")).body == b"1"
    assert "client" in str(names)


async def test_a_missing_client_certificate_is_a_tls_error(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    context = certificates.server_for_clients(maximum=ssl.TLSVersion.TLSv1_2)
    async with tls_server(context) as url:
        with pytest.raises(TLSError, match="handshake failure") as caught:
            await post(connect(url, tls=tls))
    assert not caught.value.is_retryable


async def test_a_missing_client_certificate_is_told_after_a_tls_1_3_handshake(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    context = certificates.server_for_clients(maximum=ssl.TLSVersion.TLSv1_3)
    async with tls_server(context) as url:
        with pytest.raises(TLSError, match="certificate required"):
            await post(connect(url, tls=tls))


async def test_a_server_below_the_minimum_version_is_refused(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    context = certificates.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = TLSConfig(ca_file=certificates.ca_file, minimum_version="1.3")
    async with tls_server(context) as url:
        with pytest.raises(TLSError, match="version"):
            await post(connect(url, tls=tls))


async def test_a_maximum_version_is_kept(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    seen: list[str | None] = []

    async def script(peer: Peer) -> None:
        assert peer.tls is not None
        seen.append(peer.tls.version())
        await echo(peer)

    tls = TLSConfig(ca_file=certificates.ca_file, maximum_version="1.2")
    async with serving(script, tls=certificates.server()) as server:
        await post(connect(server.base_url, tls=tls))
    assert seen == ["TLSv1.2"]


async def test_tls_to_a_server_that_speaks_none_is_a_tls_error(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_some()
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as server:
        with pytest.raises(TLSError):
            await post(connect(f"https://127.0.0.1:{server.port}"))


async def test_a_plain_request_to_a_tls_server_fails_with_a_category(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    async with serving(echo, tls=certificates.server()) as server:
        with pytest.raises((BadResponseError, GatewayConnectionError)):
            await post(connect(f"http://127.0.0.1:{server.port}"))


async def test_a_connection_that_ends_during_the_handshake_is_worth_a_retry(
    connect: Connect, post: Post
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_some()

    async with serving(script) as server:
        with pytest.raises(InferenceError) as caught:
            await post(connect(f"https://127.0.0.1:{server.port}"))
    assert type(caught.value) is GatewayConnectionError
    assert caught.value.is_retryable


async def test_a_certificate_file_that_does_not_load_is_told_at_construction(
    connect: Connect, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"tls\.ca_file"):
        connect("https://127.0.0.1:9", tls=TLSConfig(ca_file=broken))
