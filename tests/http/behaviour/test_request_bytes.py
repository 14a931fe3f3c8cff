"""What goes over the wire: the request line, the headers and the body, byte by byte."""

from __future__ import annotations

import pytest

from batch_gateway.errors import InvalidRequestError
from batch_gateway.version import __version__

from .conftest import Connect, Post
from .scripted_server import Peer, ReceivedRequest, answer, serving

pytestmark = pytest.mark.anyio


class Recorder:
    """A script that answers every request of a connection and keeps what it received."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.requests.append(await peer.request())
            peer.send(answer())
            await peer.drain()


async def test_a_request_is_a_post_with_exactly_the_headers_it_needs(
    connect: Connect, post: Post
) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        await post(connect(server.base_url), b'{"prompt": "hi"}')
    [request] = recorder.requests
    assert request.line == "POST /v1/completions HTTP/1.1"
    assert request.body == b'{"prompt": "hi"}'
    assert sorted((name.lower(), value) for name, value in request.headers) == [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("content-length", "16"),
        ("content-type", "application/json"),
        ("host", f"127.0.0.1:{server.port}"),
        ("user-agent", f"batch-gateway/{__version__}"),
    ]


async def test_the_base_urls_path_comes_before_the_endpoint(connect: Connect, post: Post) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        exchanger = connect(f"{server.base_url}/tenants/a%2Fb/llm/")
        await post(exchanger, path="/v1/embeddings?api-version=1&x=%20")
    assert recorder.requests[0].line == (
        "POST /tenants/a%2Fb/llm/v1/embeddings?api-version=1&x=%20 HTTP/1.1"
    )


async def test_an_ipv6_address_has_its_brackets_in_the_host_header(
    connect: Connect, post: Post
) -> None:
    recorder = Recorder()
    async with serving(recorder, host="::1") as server:
        await post(connect(server.base_url))
    assert recorder.requests[0].values("host") == [f"[::1]:{server.port}"]


async def test_the_api_key_goes_out_as_a_bearer_token(connect: Connect, post: Post) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        await post(connect(server.base_url, api_key="sk-secret"))
    assert recorder.requests[0].values("authorization") == ["Bearer sk-secret"]


async def test_a_requests_own_header_wins_over_the_configured_one(
    connect: Connect, post: Post
) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        exchanger = connect(server.base_url, headers={"X-Team": "a", "user-agent": "mine/1"})
        await post(exchanger, headers=[("x-team", "b"), ("X-Request-ID", "req-1")])
        await post(exchanger)
    first, second = recorder.requests
    assert first.values("x-team") == ["b"]
    assert first.values("x-request-id") == ["req-1"]
    assert second.values("x-team") == ["a"]
    assert second.values("x-request-id") == []
    assert first.values("user-agent") == second.values("user-agent") == ["mine/1"]


async def test_an_empty_body_says_that_its_length_is_zero(connect: Connect, post: Post) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        await post(connect(server.base_url), b"")
    assert recorder.requests[0].values("content-length") == ["0"]
    assert recorder.requests[0].body == b""


async def test_a_header_value_outside_ascii(connect: Connect, post: Post) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        await post(connect(server.base_url), headers=[("X-Place", "café")])
    # RFC 9110 §5.5: such bytes are opaque, and went out as Latin-1 for as long as HTTP is old.
    assert recorder.requests[0].values("x-place") == ["café"]


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 600_000, 5_000_000])
async def test_a_body_of_any_size_arrives_unchanged(
    connect: Connect, post: Post, size: int
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    recorder = Recorder()
    async with serving(recorder) as server:
        await post(connect(server.base_url), body)
    [request] = recorder.requests
    assert request.values("content-length") == [str(size)]
    assert request.values("transfer-encoding") == []
    assert request.body == body


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/completions HTTP/1.1\r\nX-Evil: 1", []),
        ("v1/completions", []),
        ("//\x00", []),
        ("/v1", [("X-Name", "a\r\nX-Evil: 1")]),
        ("/v1", [("X-Name: 1\r\nX-Evil", "1")]),
        ("/v1", [("Content-Length", "3")]),
        ("/v1", [("Transfer-Encoding", "chunked")]),
    ],
)
async def test_what_could_write_headers_of_its_own_is_refused_before_it_is_sent(
    connect: Connect, post: Post, path: str, headers: list[tuple[str, str]]
) -> None:
    recorder = Recorder()
    async with serving(recorder) as server:
        with pytest.raises(InvalidRequestError):
            await post(connect(server.base_url), path=path, headers=headers)
        assert server.accepted == 0
