"""Gateways behind a Unix socket."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from batch_gateway.errors import GatewayConnectionError
from batch_gateway.http.tls import TLSConfig

from .certificates import Certificates
from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .scripted_server import Peer, ReceivedRequest, answer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def test_requests_go_through_the_socket_with_the_base_urls_host_and_path(
    connect: Connect, post: Post, tmp_path: Path
) -> None:
    requests: list[ReceivedRequest] = []

    async def script(peer: Peer) -> None:
        while True:
            requests.append(await peer.request())
            peer.send(answer())

    path = tmp_path / "gateway.sock"
    async with serving(script, unix=path) as server:
        exchanger = connect("http://gateway.test/llm", unix_socket=path)
        await exchanger.connect(deadline=time.monotonic() + 10)
        await post(exchanger)
        await post(exchanger)
        assert server.accepted <= 2
    assert requests[0].line == "POST /llm/v1/completions HTTP/1.1"
    assert requests[0].values("host") == ["gateway.test"]


async def test_a_socket_that_nobody_listens_on_is_a_connection_error(
    connect: Connect, post: Post, tmp_path: Path
) -> None:
    exchanger = connect("http://gateway.test", unix_socket=tmp_path / "absent.sock")
    with pytest.raises(GatewayConnectionError, match=r"absent\.sock"):
        await post(exchanger)


async def test_tls_over_a_unix_socket(connect: Connect, post: Post, tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b"secret"))
        await peer.drain()

    certificates = Certificates(tmp_path)
    path = tmp_path / "gateway.sock"
    tls = TLSConfig(ca_file=certificates.ca_file)
    async with serving(script, unix=path, tls=certificates.server("gateway.test")):
        exchanger = connect("https://gateway.test", unix_socket=path, tls=tls)
        assert (await post(exchanger)).body == b"secret"
