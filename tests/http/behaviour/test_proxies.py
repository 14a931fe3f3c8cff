"""HTTP proxies by URL and from the environment, and which requests they are asked for."""

from __future__ import annotations

import base64
import socket
import time
from pathlib import Path

import pytest

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError, GatewayConnectionError
from batch_gateway.http.proxies import proxy_of
from batch_gateway.http.tls import TLSConfig

from .certificates import Certificates
from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .proxy_server import proxying
from .scripted_server import Peer, ReceivedRequest, answer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(autouse=True)
def _no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Gateway:
    """Answers, and keeps what it received."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.requests.append(request)
            peer.send(answer(request.body))
            await peer.drain()


async def test_a_plain_request_goes_to_the_proxy_with_its_whole_url(
    connect: Connect, post: Post
) -> None:
    gateway = Gateway()
    async with serving(gateway) as server, proxying() as proxy:
        exchanger = connect(f"{server.base_url}/llm", proxy=proxy.url)
        assert (await post(exchanger, b"1")).body == b"1"
        await exchanger.aclose()
    assert proxy.request_lines == [f"POST {server.base_url}/llm/v1/completions HTTP/1.1"]
    assert gateway.requests[0].line == "POST /llm/v1/completions HTTP/1.1"


async def test_tls_goes_through_a_tunnel_and_is_verified_end_to_end(
    connect: Connect, post: Post, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    tls = TLSConfig(ca_file=certificates.ca_file)
    gateway = Gateway()
    async with serving(gateway, tls=certificates.server()) as server, proxying() as proxy:
        exchanger = connect(server.base_url, proxy=proxy.url, tls=tls, api_key="sk-secret")
        for body in (b"1", b"2"):
            assert (await post(exchanger, body)).body == body
        await exchanger.aclose()
    # One tunnel, reused, and nothing of the request in the proxy's sight.
    assert proxy.request_lines == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
    assert gateway.requests[0].values("authorization") == ["Bearer sk-secret"]


@pytest.mark.parametrize("secure", [False, True])
async def test_credentials_in_the_proxys_url_go_to_the_proxy_alone(
    connect: Connect, post: Post, tmp_path: Path, secure: bool
) -> None:
    certificates = Certificates(tmp_path)
    tls = TLSConfig(ca_file=certificates.ca_file)
    context = certificates.server() if secure else None
    gateway = Gateway()
    async with serving(gateway, tls=context) as server, proxying() as proxy:
        url = proxy.url.replace("http://", "http://user:p%40ss@")
        exchanger = connect(server.base_url, proxy=url, tls=tls, api_key="sk-secret")
        await post(exchanger)
        await exchanger.aclose()
    assert proxy.authorizations == ["Basic " + base64.b64encode(b"user:p@ss").decode()]
    assert gateway.requests[0].values("authorization") == ["Bearer sk-secret"]


async def test_the_environments_proxy_is_used_when_asked_for(
    connect: Connect, post: Post, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Credentials in ~/.netrc are for people; they must not replace or join the API key.
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    gateway = Gateway()
    async with serving(gateway) as server, proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        exchanger = connect(server.base_url, proxy="env", api_key="sk-secret")
        await post(exchanger)
        await exchanger.aclose()
    assert len(proxy.request_lines) == 1
    assert gateway.requests[0].values("authorization") == ["Bearer sk-secret"]


async def test_no_proxy_names_hosts_that_are_reached_directly(
    connect: Connect, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Gateway()) as server, proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        for listed in (
            "other.test,127.0.0.1",
            f"127.0.0.1:{server.port}, other.test",
            "*",
            "10.0.0.0/8,127.0.0.0/8",
            "127.*",
        ):
            monkeypatch.setenv("NO_PROXY", listed)
            exchanger = connect(server.base_url, proxy="env")
            await post(exchanger)
            await exchanger.aclose()
    assert proxy.request_lines == []


async def test_the_environments_proxy_is_not_used_unasked(
    connect: Connect, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Gateway()) as server, proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        exchanger = connect(server.base_url)
        await post(exchanger)
        await exchanger.aclose()
    assert proxy.request_lines == []


async def test_a_proxy_of_another_kind_is_refused_without_showing_its_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:hunter2@127.0.0.1:1080")
    with pytest.raises(ConfigError, match="HTTP_PROXY is not the URL.*SOCKS") as caught:
        connect("http://gateway.test", proxy="env")
    assert "hunter2" not in str(caught.value)


async def test_a_proxy_that_is_down_is_named_without_its_credentials(
    connect: Connect, post: Post
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://user:hunter2@127.0.0.1:{bound.getsockname()[1]}"
        exchanger = connect("http://gateway.test", proxy=url)
        with pytest.raises(
            GatewayConnectionError, match=r"cannot connect to the proxy for gateway\.test:80 at"
        ) as caught:
            await post(exchanger)
        assert "hunter2" not in f"{caught.value!r}{caught.value.cause!r}"
        with pytest.raises(GatewayConnectionError, match="proxy"):
            await exchanger.connect(deadline=time.monotonic() + 10)


async def test_connect_reaches_the_proxy(connect: Connect) -> None:
    async with proxying() as proxy:
        exchanger = connect("http://gateway.test", proxy=proxy.url)
        await exchanger.connect(deadline=time.monotonic() + 10)


@pytest.mark.parametrize("host", ["gateway.test", "[::1]"])
@pytest.mark.parametrize("port", ["", ":80", ":8000"])
async def test_a_plain_request_names_its_host_as_it_would_without_a_proxy(
    connect: Connect, post: Post, host: str, port: str
) -> None:
    async with proxying() as proxy:
        proxy.refuse_with = b"502 Bad Gateway"
        await post(connect(f"http://{host}{port}/v1?region=eu", proxy=proxy.url))
    shown = host if port in ("", ":80") else f"{host}{port}"
    assert proxy.request_lines == [f"POST http://{shown}/v1/completions?region=eu HTTP/1.1"]
    assert proxy.sent("host") == [shown]
    assert proxy.sent("connection") == proxy.sent("proxy-connection") == []


async def test_plain_requests_share_a_connection_to_the_proxy(connect: Connect, post: Post) -> None:
    async with serving(Gateway()) as server:  # which takes whole URLs, as servers must
        exchanger = connect("http://gateway.test", proxy=server.base_url)
        for body in (b"1", b"2" * 1_000_000, b"3"):
            assert (await post(exchanger, body)).body == body
        assert server.accepted == 1


async def test_a_plain_connection_that_the_proxy_closed_is_made_anew(
    connect: Connect, post: Post
) -> None:
    async with serving(Gateway()) as server, proxying() as proxy:
        exchanger = connect(server.base_url, proxy=proxy.url)
        assert (await post(exchanger, b"1")).body == b"1"
        proxy.drop_everything()
        assert (await post(exchanger, b"2")).body == b"2"
        await exchanger.aclose()
    assert len(proxy.request_lines) == 2


async def test_a_proxy_of_the_users_own_header_is_left_to_the_user(
    connect: Connect, post: Post
) -> None:
    async with serving(Gateway()) as server, proxying() as proxy:
        url = proxy.url.replace("http://", "http://user:password@")
        headers = {"Proxy-Authorization": "Bearer of-another-kind"}
        exchanger = connect(server.base_url, proxy=url, headers=headers)
        await post(exchanger)
        await exchanger.aclose()
    assert proxy.authorizations == ["Bearer of-another-kind"]


@pytest.mark.parametrize("secure", [False, True])
async def test_models_are_listed_through_the_proxy(tmp_path: Path, secure: bool) -> None:
    certificates = Certificates(tmp_path)

    async def script(peer: Peer) -> None:
        assert (await peer.request()).line == "GET /v1/models HTTP/1.1"
        peer.send(answer(b'{"data": [{"id": "llama"}]}'))

    context = certificates.server("gateway.test") if secure else None
    async with serving(script, tls=context) as server, proxying() as proxy:
        config = HTTPInferenceClientConfig(
            f"{'https' if secure else 'http'}://gateway.test:{server.port}",
            proxy=proxy.url.replace("http://", "http://user:password@"),
            tls=TLSConfig(ca_file=certificates.ca_file),
        )
        async with HTTPInferenceClient(config) as client:
            assert await client.models() == ["llama"]
    assert proxy.authorizations == ["Basic dXNlcjpwYXNzd29yZA=="]


@pytest.mark.parametrize(
    ("name", "scheme", "used"),
    [
        ("HTTP_PROXY", "http", True),
        ("http_proxy", "http", True),
        ("ALL_PROXY", "http", True),
        ("all_proxy", "https", True),
        ("HTTPS_PROXY", "https", True),
        ("https_proxy", "https", True),
        ("HTTPS_PROXY", "http", False),
        ("HTTP_PROXY", "https", False),
    ],
)
def test_the_variable_of_the_gateways_scheme_is_read(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str, used: bool
) -> None:
    monkeypatch.setenv(name, "proxy.example:3128")
    config = HTTPInferenceClientConfig(f"{scheme}://gateway.example", proxy="env")
    proxy = proxy_of(config)
    if not used:
        assert proxy is None
        return
    assert proxy is not None
    assert (proxy.address, proxy.place) == ("proxy.example:3128", name.upper())


def test_blanks_around_a_variable_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = HTTPInferenceClientConfig("http://gateway.example", proxy="env")
    monkeypatch.setenv("HTTP_PROXY", " \t")
    assert proxy_of(config) is None
    monkeypatch.setenv("ALL_PROXY", " http://all.example:1\n")
    proxy = proxy_of(config)
    assert proxy is not None
    assert (proxy.address, proxy.place) == ("all.example:1", "ALL_PROXY")


def test_a_schemes_own_variable_goes_before_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all.example:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://https.example:2")
    proxies = [
        proxy_of(HTTPInferenceClientConfig(f"{scheme}://gateway.example", proxy="env"))
        for scheme in ("http", "https")
    ]
    assert [proxy and proxy.host for proxy in proxies] == ["all.example", "https.example"]
