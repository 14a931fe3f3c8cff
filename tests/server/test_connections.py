"""Connections: what a client may take, in bytes, in time and in number."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.server.conftest import Start
from tests.server.running import LINE, Api, form, message_of, read_answer, running_api

pytestmark = pytest.mark.anyio

GET = b"GET /v1/files HTTP/1.1\r\nHost: x\r\n"


async def refused_connection(api: Api) -> None:
    """Return once nobody listens any more."""
    while True:
        try:
            async with api.connection():
                await asyncio.sleep(0.01)
        except ConnectionRefusedError:
            return


@pytest.mark.specified("limits.head")
@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        GET + b"X: " + b"y" * 2_000_000,
        GET + b"X: y\r\n" * 15_000 + b"\r\n",
        b"GET /v1/files?x=" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"y" * 500_000,
    ],
)
async def test_a_head_that_is_too_large_is_431(api: Api, head: bytes) -> None:
    status, headers, body = await api.send(head)
    assert status == 431
    assert message_of(body) == "the head of the request exceeds 65536 bytes"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.specified("limits.head")
async def test_a_body_behind_a_head_does_not_count_as_head(start: Start) -> None:
    async with start(max_header_bytes=1000) as api:
        body, _ = form(("purpose", None, b"vision"), ("file", "f", b"x" * 100_000))
        head = (
            "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz"
            f"\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with api.connection() as (reader, writer):
            for _ in range(2):
                writer.write(head.encode() + body)
                assert (await read_answer(reader))[0] == 200


@pytest.mark.specified("limits.slow_head")
@pytest.mark.parametrize("begun", [b"", b"GET /v1/fi", GET])
async def test_a_head_that_does_not_come_ends_its_connection(start: Start, begun: bytes) -> None:
    async with start(read_header_timeout=0.2) as api, api.connection() as (reader, writer):
        writer.write(begun)
        assert await reader.read() == b""


@pytest.mark.specified("limits.slow_head")
async def test_a_head_that_drips_ends_its_connection(start: Start) -> None:
    async with start(read_header_timeout=0.2) as api, api.connection() as (reader, writer):
        ended = asyncio.create_task(reader.read())
        writer.write(GET)
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.02)
        # What was sent after the end makes it a reset.
        with contextlib.suppress(ConnectionResetError):
            assert await ended == b""


@pytest.mark.specified("limits.slow_head")
async def test_the_second_head_of_a_connection_has_its_time_too(start: Start) -> None:
    async with start(read_header_timeout=0.2) as api, api.connection() as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await read_answer(reader))[0] == 200
        writer.write(GET)
        assert await reader.read() == b""


@pytest.mark.specified("limits.idle")
async def test_an_idle_connection_is_closed(start: Start) -> None:
    async with start(idle_timeout=0.2) as api, api.connection() as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await read_answer(reader))[0] == 200
        assert await reader.read() == b""


@pytest.mark.specified("limits.idle")
async def test_a_connection_that_was_answered_early_is_idle_once_its_request_has_ended(
    start: Start,
) -> None:
    async with start(idle_timeout=0.2) as api, api.connection() as (reader, writer):
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        assert (await read_answer(reader))[0] == 404
        writer.write(b"0123456789")
        assert await reader.read() == b""


@pytest.mark.specified("limits.lingering")
async def test_a_client_that_never_stops_sending_after_its_answer_is_left(api: Api) -> None:
    async with api.connection() as (reader, writer):
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert (await read_answer(reader))[0] == 404
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"x" * 1000)
            await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            assert await ended == b""


@pytest.mark.specified("limits.connections")
async def test_beyond_so_many_connections_one_is_told_to_come_again(start: Start) -> None:
    async with start(max_connections=2) as api:
        async with api.connection(), api.connection() as (reader, writer):
            writer.write(GET + b"\r\n")
            assert (await read_answer(reader))[0] == 200
            status, _, body = await api.send(b"")
            assert status == 503
            assert "too many connections" in message_of(body)
        status, _, _ = await api.send(GET + b"\r\n")
        assert status == 200


@pytest.mark.specified("never.500")
@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/files HTTP/9.9\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/files HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/batches HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/batches HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/files HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_good_http_is_refused_in_json_or_answered(api: Api, data: bytes) -> None:
    status, headers, body = await api.send(data)
    assert status < 500
    if status >= 400:
        assert headers["content-type"] == "application/json"
        assert headers["x-request-id"]
        assert message_of(body)
    assert (await api.http.get("/v1/files")).status_code == 200


@pytest.mark.specified("stop.graceful")
async def test_an_upload_under_way_ends_well_when_the_server_stops(start: Start) -> None:
    body, _ = form(("purpose", None, b"batch"), ("file", "f", LINE * 1000))
    head = (
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz"
        f"\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    server = start()
    api = await server.__aenter__()
    async with api.connection() as (reader, writer):
        writer.write(head.encode() + body[:1000])
        while not api.stored():
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        await refused_connection(api)
        writer.write(body[1000:])
        status, headers, _ = await read_answer(reader)
        assert (status, headers["connection"]) == (200, "close")
        await stopping
    async with start() as again:
        assert len((await again.http.get("/v1/files")).json()["data"]) == 1


@pytest.mark.specified("stop.graceful")
async def test_an_upload_that_does_not_end_in_time_is_told_so_and_leaves_nothing(
    start: Start,
) -> None:
    server = start(shutdown_timeout=0.2)
    api = await server.__aenter__()
    async with api.connection() as (reader, writer):
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n"
            b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
            + form(("f", None, b""))[0][:9]
        )
        while not api.stored():
            await asyncio.sleep(0.01)
        await server.__aexit__(None, None, None)
        status, _, body = await read_answer(reader)
        assert status == 503
        assert message_of(body) == "the server is stopping"
    assert api.stored() == []


@pytest.mark.specified("start.port")
async def test_a_port_that_is_taken_is_said_so(api: Api) -> None:
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(Exception, match=f"port: cannot listen on 127.0.0.1:{port}"):
        async with running_api(api.folder / "other", port=port):
            pass


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.mark.specified("upgrade")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("at_a_time", [1, 100, 100_000])
async def test_a_client_that_offers_another_protocol_is_served_in_this_one(
    api: Api, chunked: bool, at_a_time: int
) -> None:
    body, _ = form(("purpose", None, b"batch"), ("file", "f", LINE))
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    framed = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n" if chunked else body
    typed = b"Content-Type: multipart/form-data; boundary=xyz\r\n"
    post = b"POST /v1/files HTTP/1.1\r\nHost: x\r\n" + OFFER + typed + length + b"\r\n\r\n" + framed
    everything = post + GET + OFFER + b"\r\n"
    async with api.connection() as (reader, writer):
        for start in range(0, len(everything), at_a_time):
            writer.write(everything[start : start + at_a_time])
            await asyncio.sleep(0)
        status, _, answer = await read_answer(reader)
        assert status == 200, answer
        status, _, listed = await read_answer(reader)
        assert (status, answer in listed) == (200, True)
