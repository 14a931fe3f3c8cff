"""What goes over the wire, and how connections are reused, against a raw server."""

from __future__ import annotations

import asyncio
import socket
import zlib

import pytest

from batch_gateway.errors import InferenceError, InvalidRequestError
from batch_gateway.http.connection import Connection
from tests.http.native.raw_server import Bench, Peer, echo, soon, wait_until

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"


async def test_a_post_sends_its_head_and_body_and_brings_the_response(bench: Bench) -> None:
    seen: list[tuple[str, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.respond(b'{"ok":1}', extra="X-A: 1\r\nx-a: 2\r\n")
        await peer.gone()

    server, exchanger = await bench.pair(
        script, api_key="sk-1", headers={"X-Team": "100% blue", "User-Agent": "mine"}
    )
    response = await exchanger.post(
        PATH, [("X-Request-ID", "r%d"), ("accept", "text/plain")], b'{"a":1}', deadline=soon()
    )
    assert (response.status_code, response.body) == (200, b'{"ok":1}')
    assert response.headers["x-a"] == "1, 2"
    head, body = seen[0]
    assert body == b'{"a":1}'
    assert head.split("\r\n") == [
        f"POST {PATH} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        "Authorization: Bearer sk-1",
        "X-Team: 100% blue",
        "User-Agent: mine",
        "X-Request-ID: r%d",
        "accept: text/plain",
        "Content-Length: 7",
        "",
        "",
    ]


async def test_the_path_of_the_base_url_comes_before_the_endpoint(bench: Bench) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.respond()

    server = await bench.server(script)
    exchanger = bench.exchanger(f"{server.url}/team%20a/openai/")
    await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert heads[0].startswith(f"POST /team%20a/openai{PATH} HTTP/1.1\r\n")


async def test_sequential_requests_share_one_connection(bench: Bench) -> None:
    server, exchanger = await bench.pair()
    for number in range(5):
        body = str(number).encode()
        assert (await exchanger.post(PATH, (), body, deadline=soon())).body == body
    assert len(server.peers) == 1


async def test_concurrent_requests_get_their_own_answers(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            await asyncio.sleep(0.001 * (int(body) % 7))
            await peer.respond(body)

    _, exchanger = await bench.pair(script)
    bodies = [str(number).encode() for number in range(200)]
    responses = await asyncio.gather(
        *(exchanger.post(PATH, (), body, deadline=soon()) for body in bodies)
    )
    assert [response.body for response in responses] == bodies


@pytest.mark.parametrize("status", [200, 201, 302, 404, 413, 429, 500, 503, 799])
async def test_any_status_is_returned(bench: Bench, status: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond(b"gone", f"{status} Whatever", "Location: /elsewhere\r\n")
        await peer.gone()

    server, exchanger = await bench.pair(script)
    response = await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert (response.status_code, response.body) == (status, b"gone")
    assert len(server.peers) == 1


async def test_interim_responses_are_skipped(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await peer.respond(b"final", extra="A: b\r\n")
        await peer.gone()

    _, exchanger = await bench.pair(script)
    response = await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert (response.status_code, response.body) == (200, b"final")
    assert "link" not in response.headers


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_a_connection_that_the_server_ends_is_not_reused(bench: Bench, head: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head.encode() + b"{}")

    server, exchanger = await bench.pair(script)
    for _ in range(2):
        assert (await exchanger.post(PATH, (), b"{}", deadline=soon())).body == b"{}"
    assert len(server.peers) == 2
    assert exchanger.statistics().open == 0


async def test_http_1_0_with_keep_alive_is_reused(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(
                b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"
            )

    server, exchanger = await bench.pair(script)
    for _ in range(3):
        await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert len(server.peers) == 1


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\n", b"x", b"\x00"])
async def test_bytes_after_a_response_cost_the_connection_and_nothing_else(
    bench: Bench, extra: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + extra)
        await peer.gone()

    server, exchanger = await bench.pair(script)
    for _ in range(3):
        assert (await exchanger.post(PATH, (), b"{}", deadline=soon())).body == b"{}"
    assert len(server.peers) == 3


async def test_an_idle_connection_with_unasked_bytes_is_dropped(bench: Bench) -> None:
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond()
        await answered.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    _, exchanger = await bench.pair(script)
    await exchanger.post(PATH, (), b"{}", deadline=soon())
    assert exchanger.statistics().idle == 1
    answered.set()
    await wait_until(lambda: exchanger.statistics().open == 0)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
async def test_a_compressed_answer_nobody_asked_for_is_unpacked(bench: Bench, coding: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        packer = zlib.compressobj(wbits=15 if coding == "deflate" else 31)
        await peer.respond(
            packer.compress(b'{"a": 1}' * 99) + packer.flush(),
            extra=f"content-encoding: {coding}\r\n",
        )
        await peer.gone()

    _, exchanger = await bench.pair(script)
    assert (await exchanger.post(PATH, (), b"{}", deadline=soon())).body == b'{"a": 1}' * 99


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/x y", ()),
        ("v1", ()),
        ("/v1\r\nEvil: 1", ()),
        ("/ok", [("X-A", "a\r\nEvil: 1")]),
        ("/ok", [("X-A", "a\nb")]),
        ("/ok", [("X-A", "\x00")]),
        ("/ok", [("X A", "a")]),
        ("/ok", [("Content-Length", "5")]),
        ("/ok", [("X-A", "日本")]),
    ],
)
async def test_what_would_break_the_framing_is_refused_unsent(
    bench: Bench, path: str, headers: list[tuple[str, str]]
) -> None:
    server, exchanger = await bench.pair()
    for _ in range(2):  # the second time a template may be known
        with pytest.raises(InvalidRequestError):
            await exchanger.post(path, headers, b"{}", deadline=soon())
        await exchanger.post("/ok", [("X-A", "fine")], b"{}", deadline=soon())
    assert len(server.peers) == 1


async def test_a_header_value_in_latin_1_is_sent_as_such(bench: Bench) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.respond()

    _, exchanger = await bench.pair(script)
    await exchanger.post("/v1", [("X-A", "caf\xe9\ttab")], b"{}", deadline=soon())
    assert "X-A: caf\xe9\ttab\r\n" in heads[0]


async def test_a_unix_socket_is_reached_under_the_name_of_the_url(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.respond(b"unix")

    path = tmp_path_factory.mktemp("s") / "gw"
    await bench.server(script, path=path)
    exchanger = bench.exchanger("http://gateway/prefix", unix_socket=path)
    assert (await exchanger.post("/v1", (), b"{}", deadline=soon())).body == b"unix"
    assert heads[0].startswith("POST /prefix/v1 HTTP/1.1\r\nHost: gateway\r\n")


async def test_an_ipv6_address_is_written_in_brackets(bench: Bench) -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.respond()

    try:
        server = await bench.server(script, host="::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    exchanger = bench.exchanger(f"http://[::1]:{server.port}")
    await exchanger.post("/v1", (), b"{}", deadline=soon())
    assert f"\r\nHost: [::1]:{server.port}\r\n" in heads[0]


async def test_a_name_with_several_addresses_finds_the_one_that_listens(bench: Bench) -> None:
    server = await bench.server(echo)
    exchanger = bench.exchanger(f"http://localhost:{server.port}")
    for _ in range(4):
        assert (await exchanger.post("/v1", (), b"hi", deadline=soon())).body == b"hi"
    assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "503 busy"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "speaks only HTTP/2 on this port"),
        (b"220 mail.example ESMTP\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 503", "closed the connection during the response"),
        (b"", "closed the connection before answering"),
    ],
)
async def test_what_a_server_says_before_the_request_is_taken_for_its_answer(
    bench: Bench, said: bytes, told: str
) -> None:
    ours, theirs = socket.socketpair()
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection("gateway:1", 1000, lambda _: None), sock=ours
    )
    with theirs:
        theirs.sendall(said)
    await connection.wait_lost()
    try:
        response = await connection.post(b"", b"", soon())
        outcome = f"{response.status_code} {response.body.decode()}"
    except InferenceError as error:
        outcome = error.message
    assert told in outcome
    assert not connection.reusable


async def test_a_connection_made_in_advance_that_says_something_is_dropped(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.respond()

    async def greeter(peer: Peer) -> None:
        await peer.respond(b"hello")
        await peer.gone()

    server, exchanger = await bench.pair(greeter)
    await exchanger.connect(deadline=soon())
    await wait_until(lambda: exchanger.statistics().open == 0)
    server.script = script
    assert (await exchanger.post(PATH, (), b"{}", deadline=soon())).body == b"{}"


async def test_a_connection_brings_no_more_answers_than_its_server_says(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.respond(extra="Keep-Alive: timeout=60, max=2\r\n")
        # Closes without a word; a request that came now would be lost.
        peer.signal.set()
        await peer.gone()

    server, exchanger = await bench.pair(script)
    for number in range(5):
        await exchanger.post(PATH, (), b"{}", deadline=soon())
        assert len(server.peers) == number // 2 + 1


async def test_a_failure_on_a_connection_takes_nothing_of_what_its_server_says(
    bench: Bench,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond(extra="keep-alive: max=1\r\n")
        await peer.gone()

    server, exchanger = await bench.pair(script)
    for number in range(1, 4):
        await exchanger.post(PATH, (), b"{}", deadline=soon())
        assert len(server.peers) == number
        assert exchanger.statistics().open == 0


async def test_an_idle_connection_is_left_before_its_server_closes_it(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.respond(extra="Keep-Alive: timeout=0\r\n")
        await peer.gone()

    _, exchanger = await bench.pair(script)
    await exchanger.post(PATH, (), b"{}", deadline=soon())
    await wait_until(lambda: exchanger.statistics().open == 0)
