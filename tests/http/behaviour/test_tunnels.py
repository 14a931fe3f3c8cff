"""Tunnels through HTTP proxies: how they are asked for, and TLS with the gateway inside them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import time

import pytest

from batch_gateway.client.build import InsecureTLSWarning
from batch_gateway.errors import (
    BadResponseError,
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    TLSError,
)
from batch_gateway.http.tls import TLSConfig
from batch_gateway.http.tunnel import Tunnel

from .certificates import Certificates
from .conftest import Connect, Post
from .handshakes import tls_server
from .loops import EVERY_LOOP
from .proxy_server import proxying
from .scripted_server import Peer, ReceivedRequest, answer, echo, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def trusting(certificates: Certificates) -> TLSConfig:
    return TLSConfig(ca_file=certificates.ca_file)


@pytest.mark.parametrize(
    "accepted",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nX: y\r\n\r\n",
        b"HTTP/1.0 200 OK\nProxy-Agent: old\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        # RFC 9110 §9.3.6: of a success neither means anything.
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(300)) + b"\r\n",
    ],
)
async def test_a_tunnel_begins_behind_any_success(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig, accepted: bytes
) -> None:
    async with serving(echo, tls=certificates.server()) as server, proxying() as proxy:
        proxy.accept_with = accepted
        exchanger = connect(server.base_url, proxy=proxy.url, tls=trusting)
        for body in (b"1", b"2" * 3_000_000):
            assert (await post(exchanger, body)).body == body
        await exchanger.aclose()
    assert len(proxy.request_lines) == 1


async def test_an_answer_may_come_in_pieces(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig
) -> None:
    async with serving(echo, tls=certificates.server()) as server:

        async def script(peer: Peer) -> None:
            await peer.read_head()
            for byte in b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n":
                peer.send(bytes([byte]))
                await peer.drain()
            await peer.join("127.0.0.1", server.port)

        async with serving(script) as proxy:
            exchanger = connect(server.base_url, proxy=proxy.base_url, tls=trusting)
            assert (await post(exchanger, b"1")).body == b"1"
            await exchanger.aclose()


@pytest.mark.parametrize(
    ("base", "authority"),
    [
        ("https://gateway.test", "gateway.test:443"),
        ("https://gateway.test:8443/v1", "gateway.test:8443"),
        ("https://[::1]", "[::1]:443"),
        ("https://[2001:DB8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
async def test_a_tunnel_is_asked_for_by_host_and_port(
    connect: Connect, base: str, authority: str
) -> None:
    async with proxying() as proxy:
        proxy.refuse_with = b"503 Service Unavailable"
        url = proxy.url.replace("http://", "http://us%65r:p%3Ass@")
        exchanger = connect(base, proxy=url, api_key="sk-secret")
        with pytest.raises(GatewayConnectionError):
            await exchanger.connect(deadline=time.monotonic() + 10)
        await exchanger.aclose()
    assert proxy.request_lines == [f"CONNECT {authority} HTTP/1.1"]
    assert proxy.sent("host") == [authority]
    assert proxy.authorizations == ["Basic dXNlcjpwOnNz"]
    assert {name.lower() for name, _ in proxy.headers[0]} == {
        "host",
        "user-agent",
        "proxy-authorization",
    }


async def test_the_gateway_is_asked_for_and_verified_by_its_own_name(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig
) -> None:
    asked: list[str | None] = []
    context = certificates.server("gateway.test", "elsewhere.test")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    requests: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.request())
        peer.send(answer())

    async with serving(script, tls=context) as server, proxying() as proxy:
        base = f"https://gateway.test:{server.port}"
        for tls in (trusting, TLSConfig(ca_file=trusting.ca_file, server_name="elsewhere.test")):
            exchanger = connect(base, proxy=proxy.url, tls=tls)
            await post(exchanger)
            await exchanger.aclose()
        wrong = connect(f"https://wrong.test:{server.port}", proxy=proxy.url, tls=trusting)
        with pytest.raises(TLSError, match=r"wrong\.test.* through the proxy 127\.0\.0\.1.*name"):
            await post(wrong)
    assert asked == ["gateway.test", "elsewhere.test", "wrong.test"]
    assert requests[0].values("host") == [f"gateway.test:{server.port}"]


async def test_a_gateway_nobody_vouches_for_is_refused_and_can_be_pinned(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    context = certificates.server()
    async with serving(echo, tls=context) as server, proxying() as proxy:
        with pytest.raises(TLSError, match="--tls-pin") as caught:
            await post(connect(server.base_url, proxy=proxy.url))
        assert not caught.value.is_retryable
        seen = caught.value.message.partition("SHA-256 fingerprint is ")[2][:95]
        pinned = TLSConfig(pinned_certificate=seen)
        exchanger = connect(server.base_url, proxy=proxy.url, tls=pinned)
        assert (await post(exchanger, b"1")).body == b"1"
        await exchanger.aclose()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_shown_to_the_gateway(
    connect: Connect,
    post: Post,
    certificates: Certificates,
    trusting: TLSConfig,
    version: ssl.TLSVersion,
) -> None:
    showing = TLSConfig(
        ca_file=certificates.ca_file,
        client_cert_file=certificates.client_cert_file,
        client_key_file=certificates.client_key_file,
    )
    context = certificates.server_for_clients(maximum=version)
    async with tls_server(context) as url, proxying() as proxy:
        exchanger = connect(url, proxy=proxy.url, tls=showing)
        assert (await post(exchanger)).status_code == 200
        await exchanger.aclose()
        with pytest.raises(TLSError, match="handshake failure|certificate required") as caught:
            await post(connect(url, proxy=proxy.url, tls=trusting))
        assert not caught.value.is_retryable


async def test_an_idle_tunnel_that_was_closed_is_made_anew_without_a_failure(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig
) -> None:
    async with serving(echo, tls=certificates.server()) as server, proxying() as proxy:
        exchanger = connect(server.base_url, proxy=proxy.url, tls=trusting)
        for body in (b"1", b"2", b"3"):
            assert (await post(exchanger, body)).body == body
            proxy.drop_everything()
        await exchanger.aclose()
    assert len(proxy.request_lines) == 3


async def test_a_request_on_a_tunnel_that_is_closed_under_it_is_sent_again(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig
) -> None:
    served = 0

    async def script(peer: Peer) -> None:
        nonlocal served
        first = await peer.request()
        peer.send(answer(first.body))
        await peer.request()
        served += 1
        if served > 1:
            peer.send(answer(b"again"))

    async with serving(script, tls=certificates.server()) as server, proxying() as proxy:
        exchanger = connect(server.base_url, proxy=proxy.url, tls=trusting)
        assert (await post(exchanger, b"1")).body == b"1"
        assert (await post(exchanger, b"2")).body == b"2"
        assert (await post(exchanger, b"3")).body == b"again"
        await exchanger.aclose()


@pytest.mark.parametrize("together", [True, False])
async def test_what_speaks_before_tls_begins_is_no_gateway(
    connect: Connect, post: Post, trusting: TLSConfig, together: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n" if together else b"")
        await peer.drain()
        if not together:
            await peer.read_some()
            peer.send(b"SSH-2.0-OpenSSH_9\r\n")
        await peer.until_client_left()

    async with serving(script) as proxy:
        exchanger = connect("https://gateway.test", proxy=proxy.base_url, tls=trusting)
        with pytest.raises(GatewayConnectionError, match="seems to speak no TLS here") as caught:
            await post(exchanger)
        await exchanger.aclose()
    assert "gateway.test:443 through the proxy 127.0.0.1" in caught.value.message


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", r"the proxy for gateway\.test:443 at .* closed the connection instead of"),
        (b"HTTP/1.1 200 O", r"the proxy for gateway\.test:443 at .* closed the connection instead"),
        (b"HTTP/1.1 200 OK\r\n\r\n", r"gateway\.test:443 through the proxy .* closed .* handshake"),
    ],
)
async def test_a_proxy_that_hangs_up_is_named(
    connect: Connect, post: Post, sent: bytes, said: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(sent)

    async with serving(script) as proxy:
        exchanger = connect("https://gateway.test", proxy=proxy.base_url)
        with pytest.raises(GatewayConnectionError, match=said) as caught:
            await post(exchanger)
        await exchanger.aclose()
    assert caught.value.is_retryable
    assert not isinstance(caught.value, TLSError)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "expects TLS: use https://"),
        (b"220 smtp.example ESMTP\r\n", "malformed HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "headers of more than"),
    ],
)
async def test_what_is_no_proxy_at_all_is_told(
    connect: Connect, post: Post, sent: bytes, said: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(sent)
        await peer.until_client_left()

    async with serving(script) as proxy:
        exchanger = connect("https://gateway.test", proxy=proxy.base_url)
        with pytest.raises(BadResponseError, match=f"the proxy for gateway.test:443.*{said}"):
            await post(exchanger)
        await exchanger.aclose()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "the proxy had not opened a tunnel"),
        (b"HTTP/1.1 2", "the proxy had not opened a tunnel"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the proxy had not opened a tunnel"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "the TLS handshake was not over"),
    ],
)
async def test_the_connect_timeout_covers_the_tunnel(
    connect: Connect, post: Post, sent: bytes, said: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(sent)
        await peer.until_client_left()

    async with serving(script) as proxy:
        exchanger = connect("https://gateway.test", proxy=proxy.base_url, connect_timeout=0.5)
        with pytest.raises(RequestTimeoutError, match=f"connect_timeout.*: {said}"):
            await post(exchanger)
        await exchanger.aclose()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_cancelling_a_dial_closes_its_connection_to_the_proxy(
    connect: Connect, post: Post, sent: bytes
) -> None:
    reached = asyncio.Event()
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(sent)
        if sent:
            await peer.read_some()
        reached.set()
        await peer.until_client_left()
        left.set()

    async with serving(script) as proxy:
        exchanger = connect("https://gateway.test", proxy=proxy.base_url)
        request = asyncio.create_task(post(exchanger))
        await reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.wait_for(left.wait(), 10)
        await exchanger.aclose()


@pytest.mark.parametrize("refuses", [False, True])
async def test_nothing_of_a_tunnel_is_left_to_the_collector(
    connect: Connect, certificates: Certificates, trusting: TLSConfig, refuses: bool
) -> None:
    def left() -> int:
        return sum(isinstance(one, Tunnel) for one in gc.get_objects())

    gc.collect()
    before = left()
    gc.disable()
    try:
        async with serving(echo, tls=certificates.server()) as server, proxying() as proxy:
            proxy.refuse_with = b"403 Forbidden" if refuses else b""
            for _ in range(3):
                exchanger = connect(server.base_url, proxy=proxy.url, tls=trusting)
                with contextlib.suppress(GatewayConnectionError):
                    await exchanger.connect(deadline=time.monotonic() + 10)
                await exchanger.aclose()
        assert len(proxy.request_lines) == 3
        await asyncio.sleep(0)
        assert left() - before < 2  # the last one's transport may be on its way out
    finally:
        gc.enable()


async def test_a_name_that_the_proxy_has_is_looked_up_by_the_proxy_alone(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig
) -> None:
    context = certificates.server("gateway.test")
    async with serving(echo, tls=context) as server, proxying() as proxy:
        # It has no address here: only the proxy knows where it is.
        base = f"https://gateway.test:{server.port}"
        exchanger = connect(base, proxy=proxy.url, tls=trusting)
        assert (await post(exchanger, b"1")).body == b"1"
        await exchanger.aclose()


async def test_a_proxy_without_an_address_is_named(connect: Connect, post: Post) -> None:
    url = "http://user:hunter2@no-such-proxy.invalid:3128"
    for scheme in ("http", "https"):
        exchanger = connect(f"{scheme}://gateway.test", proxy=url)
        with pytest.raises(InferenceError, match="the name of the proxy for gateway") as caught:
            await post(exchanger)
        assert "no-such-proxy.invalid:3128 (proxy, --proxy)" in caught.value.message
        assert "hunter2" not in caught.value.message


# --- proxies that are spoken to over TLS ---


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxy_may_speak_tls_itself(
    connect: Connect,
    post: Post,
    certificates: Certificates,
    trusting: TLSConfig,
    secure: bool,
) -> None:
    requests: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        while True:
            requests.append(await peer.request())
            peer.send(answer(requests[-1].body))
            await peer.drain()

    async with (
        serving(script, tls=certificates.server() if secure else None) as server,
        proxying(tls=certificates.server()) as proxy,
    ):
        url = proxy.url.replace("https://", "https://user:secret@")
        exchanger = connect(server.base_url, proxy=url, tls=trusting)
        for body in (b"1", b"2" * 3_000_000, b"3"):
            assert (await post(exchanger, body)).body == body
        await exchanger.aclose()
    assert len(proxy.request_lines) == 1
    assert proxy.authorizations == ["Basic dXNlcjpzZWNyZXQ="]
    # A plain one is taken out by the proxy, which here looks at the first request alone.
    assert [one.values("proxy-authorization") for one in requests[: 3 if secure else 1]] == (
        [[], [], []] if secure else [[]]
    )


async def test_the_settings_of_the_gateways_tls_are_not_asked_of_the_proxy(
    connect: Connect, post: Post, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For a pinned gateway there are no other authorities than the system's.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    shown: list[object] = []

    async def script(peer: Peer) -> None:
        shown.append(peer.tls and peer.tls.getpeercert())
        await echo(peer)

    gateway = certificates.server_for_clients(maximum=ssl.TLSVersion.TLSv1_3)
    outer = certificates.server()
    names: list[str | None] = []
    outer.sni_callback = lambda _socket, name, _context: names.append(name)
    async with serving(script, tls=gateway) as server, proxying(tls=outer) as proxy:
        named = TLSConfig(
            client_cert_file=certificates.client_cert_file,
            client_key_file=certificates.client_key_file,
            server_name="127.0.0.1",
        )
        base = f"https://gateway.test:{server.port}"
        exchanger = connect(base, proxy=proxy.url, tls=named)
        assert (await post(exchanger, b"1")).body == b"1"
        await exchanger.aclose()
    assert shown[0]
    assert names == [None]


async def test_a_proxy_nobody_vouches_for_is_refused_with_its_own_cure(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    async with proxying(tls=certificates.server()) as proxy:
        with pytest.raises(TLSError, match="certificate of the proxy for gateway.test") as caught:
            await post(connect("https://gateway.test", proxy=proxy.url))
        assert "Trust its authority too (tls.ca_file, --tls-ca-file)" in caught.value.message
        assert "pin" not in caught.value.message
        tls = TLSConfig(ca_file=certificates.ca_file)
        url = proxy.url.replace("127.0.0.1", "localhost")
        with pytest.raises(TLSError, match="Name it as its certificate does"):
            await post(connect("https://gateway.test", proxy=url, tls=tls))


async def test_any_certificate_of_a_proxy_passes_only_with_a_warning_that_names_it(
    connect: Connect, post: Post, certificates: Certificates
) -> None:
    async with serving(echo) as server, proxying(tls=certificates.server()) as proxy:
        address = proxy.url.removeprefix("https://")
        with pytest.warns(InsecureTLSWarning, match=f"the proxy {address}"):
            exchanger = connect(
                server.base_url, proxy=proxy.url, tls=TLSConfig(insecure_skip_verify=True)
            )
        assert (await post(exchanger, b"1")).body == b"1"
        await exchanger.aclose()


async def test_a_proxy_that_wants_a_certificate_of_ours_is_told(
    connect: Connect, post: Post, certificates: Certificates, trusting: TLSConfig
) -> None:
    context = certificates.server_for_clients(maximum=ssl.TLSVersion.TLSv1_3)
    async with tls_server(context) as url:
        exchanger = connect("https://gateway.test", proxy=url, tls=trusting)
        with pytest.raises(TLSError, match="the proxy for gateway.test:443.*certificate required"):
            await post(exchanger)


async def test_a_plain_proxy_spoken_to_over_tls_is_told(connect: Connect, post: Post) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_some()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as proxy:
        url = proxy.base_url.replace("http://", "https://")
        with pytest.raises(TLSError, match="the proxy for gateway.test:443.*speak no TLS"):
            await post(connect("https://gateway.test", proxy=url))
